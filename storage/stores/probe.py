"""What an endpoint really does: some servers accept conditions that they do not keep, so each is tried first."""

import contextlib
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

from ..errors import ObjectNotFound, PreconditionFailed, StorageError, StoreRefused
from ..keys import probe_key
from .protocol import ObjectStore

NUM_RACERS = 16


@runtime_checkable
class ChecksChecksums(Protocol):
    """A store whose server could look at the checksum that a put carries."""

    def refuses_wrong_checksum(self, key: str) -> bool: ...


@runtime_checkable
class MayKeepVersions(Protocol):
    """A store whose server can keep what was replaced or deleted."""

    def keeps_versions(self) -> bool | None: ...

    def expires_versions(self) -> bool | None: ...


def versioning(store: ObjectStore) -> bool | None:
    """Whether space that is given up comes back: nothing is kept, or what is kept expires. None: the server won't say.

    A run replaces its claims every 30 seconds, and ``gc`` deletes data: a bucket that keeps all of that for ever grows
    without an end.
    """
    if not isinstance(store, MayKeepVersions):
        return True
    keeps = store.keeps_versions()
    return store.expires_versions() if keeps else None if keeps is None else True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a probe found; goes into the record of an attempt."""

    atomic_create: bool
    if_match: bool
    ranged_reads: bool
    wrong_checksum_refused: bool | None  # None: the backend has no such thing

    def to_json(self) -> dict[str, bool | None]:
        return asdict(self)


def probe(store: ObjectStore) -> Capabilities:
    """Try what commits and readers need, on keys of its own that are gone afterwards."""
    base = probe_key(secrets.token_hex(8))
    keys = [f"{base}-race", f"{base}-match", f"{base}-sum"]
    try:
        created = _race(store, keys[0])
        matched, ranged = _match(store, keys[1])
        checked = store.refuses_wrong_checksum(keys[2]) if isinstance(store, ChecksChecksums) else None
    finally:
        for key in keys:
            with contextlib.suppress(StorageError):  # of a store that takes no writes the first refusal says more
                store.delete(key)
    return Capabilities(created, matched, ranged, checked)


def require(capabilities: Capabilities, where: str, *, single_writer: bool = False, publishing: bool = False) -> None:
    """Raises StoreRefused, with the reason and the way out, if the store cannot keep what commits promise."""
    if not capabilities.ranged_reads:
        raise StoreRefused(f"{where}: the server does not keep byte ranges; zoos are read by them, use another server")
    missing = [
        name
        for name, there in (("creation", capabilities.atomic_create), ("replacement", capabilities.if_match))
        if not there
    ]
    if not missing:
        return
    what = f"{where}: conditional {' and '.join(missing)} of objects {'is' if len(missing) == 1 else 'are'} not atomic"
    if publishing:
        raise StoreRefused(f"{what}; publish to another store, e.g. a directory or SeaweedFS (`zoo store up`)")
    if not single_writer:
        raise StoreRefused(f"{what}, so two drivers could both win; --single-writer allows one driver without rivals")


def _race(store: ObjectStore, key: str) -> bool:
    line = threading.Barrier(NUM_RACERS)

    def attempt(number: int) -> bool:
        line.wait()
        try:
            store.put(key, f"{number}".encode(), if_absent=True)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(NUM_RACERS) as pool:
        won = list(pool.map(attempt, range(NUM_RACERS)))
    return sum(won) == 1 and store.get(key)[0] == f"{won.index(True)}".encode()


def _match(store: ObjectStore, key: str) -> tuple[bool, bool]:
    old = store.put(key, b"0123456789")
    ranged = store.get(key, (2, 5))[0] == b"234"
    try:
        store.put(key, b"second", if_match=old)
    except (PreconditionFailed, StorageError):
        return False, ranged  # a server that knows only tags without quotes, or none
    try:
        store.put(key, b"third", if_match=old)
    except (PreconditionFailed, ObjectNotFound):
        return store.get(key)[0] == b"second", ranged
    return False, ranged
