"""What can go wrong in this room, grouped by what the handler would do. Pure.

Every message is one line: what failed, on which thing, what was found against what was expected, what to do next.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ZooError(Exception):
    """A failure while making a zoo; ``exit_status`` is what the command ends with."""

    exit_status: ClassVar[int] = 1


class InputError(ZooError):
    """The caller has to change the input; nothing was written."""

    exit_status: ClassVar[int] = 2


class Interrupted(ZooError):
    """A signal came where nothing can be finished first; the same command goes on."""

    exit_status: ClassVar[int] = 75


def nearest(found: str, accepted: Iterable[str]) -> str | None:
    """The accepted value that ``found`` most resembles, None where nothing is close."""
    matches = difflib.get_close_matches(found, list(accepted), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(what: str, found: str, accepted: Iterable[str], hint: str | None = None) -> InputError:
    """The error for a name that is not one of ``accepted``: the nearest is offered, and all are listed.

    Args:
        what: the kind of thing, e.g. ``"zoo"`` or ``"axes.activation"``.
        hint: said instead of the list where the list would be too long for a line, e.g. ``"`zoo list` shows all"``.
    """
    names = list(accepted)
    close = nearest(found, names)
    offer = f"; did you mean {close!r}?" if close else ";"
    return InputError(f"unknown {what} {found!r}{offer} {hint or 'accepted: ' + ', '.join(names)}")
