"""Errors of storage, grouped by what a handler does about them. Messages are one line and hold no secret."""

import importlib
import importlib.util
from typing import Any


class StorageError(Exception):
    """Base of all errors that storage raises.

    Attributes:
        exit_status: of a command line that ends with this error.
        transient: whether the same request may succeed a little later.
    """

    exit_status = 1
    transient = False


# Fix the input.


class StorageUsageError(StorageError):
    """The request cannot be met as asked; nothing was written."""

    exit_status = 2


class StoreURLError(StorageUsageError):
    """The address of a store is malformed, or no backend reads it."""


class KeyFormatError(StorageUsageError):
    """A key, name or number does not fit the layout of a store."""


class SpecChanged(StorageUsageError):
    """A zoo of this name exists with another spec."""


class PinMismatch(StorageUsageError):
    """The run was started with other settings, and its numbers depend on them."""


class IncompleteRun(StorageUsageError):
    """The run has no states for the requested version."""


class NotPublished(StorageUsageError, LookupError):
    """The store has no such zoo or version."""


class ModelNotPresent(StorageUsageError, LookupError):
    """The version holds no such model."""


class EpochNotPresent(StorageUsageError, LookupError):
    """The version holds no such epoch."""


class EpochNotKept(EpochNotPresent):
    """The epoch was trained and has labels, but its weights were not kept."""


class PredicateError(StorageUsageError):
    """A ``where`` names an unknown column or uses syntax that is not allowed."""


class NewerFormat(StorageUsageError):
    """The object has a later version of its format than this code reads."""


# Fix the access. These end a command with status 2 before it has done anything; a run in progress waits and retries.


class StoreAccessError(StorageError):
    """The store cannot be used as configured."""

    exit_status = 2


class StoreUnreachable(StoreAccessError):
    """No answer from the endpoint within the retry budget."""


class BucketMissing(StoreAccessError):
    """The bucket does not exist."""


class CredentialsRefused(StoreAccessError):
    """No credentials, or the store does not accept them."""


class AccessDenied(StoreAccessError):
    """The credentials are good, but may not do this."""


class ClockSkewed(StoreUnreachable):
    """This machine's clock is too far from the store's. A run waits until the clock is set."""


class RegionMismatch(StoreAccessError):
    """The bucket is in another region."""


class StoreRefused(StoreAccessError):
    """The store does not do what is asked of it."""


class NotSupported(StoreRefused):
    """The server or the file system lacks a capability: conditional writes, hard links, locks."""


# Treat as absent, or as lost to another writer.


class ObjectNotFound(StorageError, LookupError):
    """No object under this key."""


class PreconditionFailed(StorageError):
    """A conditional write was not made: the key is taken, has changed or is gone."""


class Superseded(StorageError):
    """The ledger has changed since the work was planned; read it again."""


# Give up: an object is not what it should be.


class FormatError(StorageError):
    """Bytes do not follow docs/format.md."""


class BudgetExceeded(FormatError):
    """Reading something from outside would cost more than its reading budget (``storage/budget.py``) allows."""


class DigestMismatch(StorageError):
    """The SHA-256 of an object is not the recorded one."""


class ObjectMissing(StorageError):
    """An object that a record or a manifest names does not exist."""


class ConflictingRecords(StorageError):
    """Two records hold the same model and part with different values."""


def import_optional(name: str, package: str | None = None) -> Any:
    """The module ``name``, which readers install when they need it. Raises StorageUsageError with the command.

    Args:
        package: what to install, where no extra of that name brings it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        install = f"'zooforge[{name}]'" if package is None else package
        raise StorageUsageError(
            f"{package or name} is not installed, and this needs it: pip install {install}"
        ) from None


def training_advice(advice: str) -> str:
    """``"; " + advice`` where this installation can train, else nothing: a reader's `zoo` has no such verb."""
    return f"; {advice}" if importlib.util.find_spec("pydantic") is not None else ""
