"""A progress bar on stderr for long reads, if stderr is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LARGE_READ_BYTES = 100 * 10**6  # larger reads have a bar


@contextmanager
def progress_bar(label: str, length: int = 0, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A function to call with the size of each step. It draws a bar if stderr is a terminal.

    Args:
        length: the sum of all steps; 0 if it is not known.
        show: whether a bar is wanted.
    """
    if not show or not sys.stderr.isatty():
        yield lambda _: None
        return
    import click

    known = length > 0
    with click.progressbar(
        length=length, label=label, file=sys.stderr, show_percent=known, show_eta=known, show_pos=not known
    ) as bar:
        yield bar.update
