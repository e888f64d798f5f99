"""Errors of this room, grouped by what the caller should do. Pure.

Every message is one line: what failed, on which object, the actual and the expected value, what to do next.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ClusterError(Exception):
    """Base class. ``exit_status`` is the exit status of the command."""

    exit_status: ClassVar[int] = 1


class InputError(ClusterError):
    """The caller has to change something first; nothing was created."""

    exit_status: ClassVar[int] = 2


class ClusterUnreachable(InputError):
    """No kubeconfig, no such context, or the API server does not answer."""


class NotAllowed(InputError):
    """The API server refuses this user."""


class NotInstalled(InputError):
    """CRDs, operator, release or Secret are missing, or older than this version needs."""


class UnknownField(InputError):
    """The API server knows the kind of object, but not this field."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{what}: the API server knows no {field}")
        self.field = field


class ObjectMissing(ClusterError, LookupError):
    """The API server has no such object."""


class AlreadyExists(ClusterError):
    """Another process created an object of this name in the meantime."""


class AnotherRequestLives(ClusterError):
    """A run of this zoo with another request is running."""


def nearest(value: str, accepted: Iterable[str]) -> str | None:
    """The accepted value that is most similar to ``value``; None if none is similar."""
    matches = difflib.get_close_matches(value, list(accepted), n=1, cutoff=0.5)
    return matches[0] if matches else None
