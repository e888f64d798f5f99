"""What the verbs of ``zoo store`` have in common."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..errors import StorageUsageError
from ..stores.open import open_store
from ..stores.protocol import ObjectStore

Command = TypeVar("Command", bound=Callable[..., Any])

version_option = click.option("--version", type=int, help="A version's number; default the current one.")
as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


compression_option = click.option(
    "--compression",
    type=click.Choice(["none", "delta-zstd"]),
    help="Of the shards, without loss; default what spec or current version say, else none. Reading takes longer.",
)


def store_option(command: Command) -> Command:
    """``--store URL``, by default ``$ZOO_STORE``."""
    text = "A path, file:///path, s3://bucket/prefix, https:// or hf://OWNER/NAME; default $ZOO_STORE."
    return click.option("--store", "store_url", envvar="ZOO_STORE", metavar="URL", help=text)(command)


def selection_options(split: bool = True) -> Callable[[Command], Command]:
    """Which states: ``--epochs``, ``--models``, ``--where`` and, if wanted, ``--split``."""

    def add(command: Command) -> Command:
        where = "E.g. \"test_acc > 0.8 and optimizer == 'adam'\"."
        command = click.option("--where", help=where)(command)
        if split:
            command = click.option("--split", type=click.Choice(["train", "val", "test"]))(command)
        command = click.option("--models", help="As --epochs.")(command)
        return click.option("--epochs", help="E.g. 50 or 0,21:26 (half-open).")(command)

    return add


@contextmanager
def progress_bar(label: str, length: int = 0) -> Iterator[Callable[[int], None]]:
    """What to call with each step's size: a bar on stderr if that is a terminal, nothing otherwise. 0: no known end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    known = length > 0
    with click.progressbar(
        length=length, label=label, file=sys.stderr, show_percent=known, show_eta=known, show_pos=not known
    ) as bar:
        yield bar.update


def opened(url: str | None) -> ObjectStore:
    if not url:
        raise StorageUsageError(
            "no store given: use --store URL or set ZOO_STORE (`zoo store up` starts a server here)"
        )
    return open_store(url)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
