"""What can go wrong with a store, grouped by what a handler would do. Messages are one line, without secrets."""

import importlib.util


class StorageError(Exception):
    """Anything that storage raises on purpose. ``exit_status`` is what a command line ends with."""

    exit_status = 1


# Fix the input.


class StorageUsageError(StorageError):
    """The request cannot be met as asked; nothing was written."""

    exit_status = 2


class StoreURLError(StorageUsageError):
    """A store URL that no backend understands."""


class KeyFormatError(StorageUsageError):
    """A key, name or number that the layout of a store cannot hold."""


class SpecChanged(StorageUsageError):
    """A zoo of this name exists with another spec."""


class PinMismatch(StorageUsageError):
    """The run was started with other settings that its numbers depend on."""


class IncompleteRun(StorageUsageError):
    """A version was asked for that the run has nothing to fill with."""


class NotPublished(StorageUsageError, LookupError):
    """No such zoo or version here."""


class ModelNotPresent(StorageUsageError, LookupError):
    """The version holds no such model."""


class EpochNotPresent(StorageUsageError, LookupError):
    """The version holds no such epoch."""


class EpochNotKept(EpochNotPresent):
    """The epoch was trained and its labels are there, its weights were not kept."""


class PredicateError(StorageUsageError):
    """A ``where`` that names an unknown column or uses what is not allowed."""


class NewerFormat(StorageUsageError):
    """Written by a later version of the format than this code reads."""


# Fix the access. Before anything was done these end a command with 2; a run in progress waits and tries again.


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
    """This machine's clock is too far from the store's, which answers nothing until it is set: may be waited for."""


class RegionMismatch(StoreAccessError):
    """The bucket lives in another region."""


class StoreRefused(StoreAccessError):
    """The store lacks a capability that the work needs."""


# Treat as absent, or as lost to another writer.


class ObjectNotFound(StorageError, LookupError):
    """No object under this key."""


class PreconditionFailed(StorageError):
    """A conditional write found the key taken, or changed."""


class Superseded(StorageError):
    """What was planned from a ledger no longer holds: read the ledger again."""


# Give up: something that was written is not what it should be.


class FormatError(StorageError):
    """Bytes that are not what docs/format.md says."""


class BudgetExceeded(FormatError):
    """Reading something from outside would cost more than its reading budget (``storage/budget.py``) allows."""


class DigestMismatch(StorageError):
    """An object's SHA-256 is not the one it was recorded with."""


class ObjectMissing(StorageError):
    """An object named by a record or a manifest is not there."""


class ConflictingRecords(StorageError):
    """Two records hold the same model and part with different values."""


def training_advice(advice: str) -> str:
    """``"; " + advice`` where this installation can train, else nothing: a reader has no such command."""
    return f"; {advice}" if importlib.util.find_spec("zooforge.zoo_jobs") is not None else ""
