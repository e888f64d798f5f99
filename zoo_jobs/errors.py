"""Errors of zoo_jobs, grouped by what their handler does. Pure.

Every message is one line: what failed, on which thing, the actual and the expected value, and what to do next.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ZooError(Exception):
    """A failure while making a zoo. ``exit_status`` is the exit status of the command."""

    exit_status: ClassVar[int] = 1


class InputError(ZooError):
    """The caller has to change the input; nothing was written."""

    exit_status: ClassVar[int] = 2


class Interrupted(ZooError):
    """A signal arrived before anything could be committed; the same command starts again."""

    exit_status: ClassVar[int] = 75


def nearest(name: str, accepted: Iterable[str]) -> str | None:
    """The accepted value that is most like ``name``; None if none is close."""
    matches = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, name: str, accepted: Iterable[str], hint: str | None = None) -> InputError:
    """The error for a name that is not one of ``accepted``. Its message offers the nearest name and lists all.

    Args:
        kind: the kind of thing, e.g. ``"zoo"`` or ``"axes.activation"``.
        hint: replaces a list that would be too long for a line, e.g. ``"`zoo list` shows all"``.
    """
    names = list(accepted)
    close = nearest(name, names)
    offer = f"; did you mean {close!r}?" if close else ";"
    return InputError(f"unknown {kind} {name!r}{offer} {hint or 'accepted: ' + ', '.join(names)}")
