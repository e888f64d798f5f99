"""What can go wrong between here and a cluster, grouped by what the handler would do. Pure.

Every message is one line: what failed, on which thing, what was found against what was expected, what to do next.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ClusterError(Exception):
    """A failure on the way; ``exit_status`` is what the command ends with."""

    exit_status: ClassVar[int] = 1


class InputError(ClusterError):
    """The caller has to change something first; nothing was created."""

    exit_status: ClassVar[int] = 2


class ClusterUnreachable(InputError):
    """No kubeconfig, no such context, or no API server behind it."""


class NotAllowed(InputError):
    """The API server refuses this user."""


class NotInstalled(InputError):
    """CRDs, operator, release or Secret are missing or too old."""


class UnknownField(InputError):
    """The API server has the kind of object, but not this field of it."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{what}: the API server knows no {field}")
        self.field = field


class ObjectMissing(ClusterError, LookupError):
    """The API server has no such object."""


class AlreadyExists(ClusterError):
    """An object of this name was created by somebody else in the meantime."""


class AnotherRequestLives(ClusterError):
    """A run of this zoo with another request is live."""


def nearest(found: str, accepted: Iterable[str]) -> str | None:
    """The accepted value that ``found`` most resembles, None where nothing is close."""
    matches = difflib.get_close_matches(found, list(accepted), n=1, cutoff=0.5)
    return matches[0] if matches else None
