"""Tests what a store really does. Some servers accept conditions and ignore them, so each condition is tried."""

import contextlib
import copy
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..errors import NotSupported, ObjectNotFound, PreconditionFailed, StorageError
from ..keys import probe_key
from .protocol import ObjectStore

NUM_RACERS = 16


@runtime_checkable
class ChecksChecksums(Protocol):
    """A store whose server may compare the checksum that a put carries."""

    def refuses_wrong_checksum(self, key: str) -> bool: ...


@runtime_checkable
class MayKeepVersions(Protocol):
    """A store whose server may keep what was replaced or deleted."""

    def keeps_versions(self) -> bool | None: ...

    def expires_versions(self) -> bool | None: ...


def versioning(store: ObjectStore) -> bool | None:
    """True if deleted data free their space: the bucket keeps no versions, or expires them. None: unknown.

    A run replaces its claims every 30 seconds, and ``gc`` deletes data, so a bucket that keeps all versions grows on.
    """
    if not isinstance(store, MayKeepVersions):
        return True
    keeps = store.keeps_versions()
    return store.expires_versions() if keeps else None if keeps is None else True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Results of a probe; they go into the record of an attempt.

    Attributes:
        wrong_checksum_refused: None for a backend without checksums.
        missing: what the server or the file system said that it lacks; not recorded.
    """

    atomic_create: bool
    if_match: bool
    ranged_reads: bool
    wrong_checksum_refused: bool | None
    missing: str = field(default="", compare=False)

    def to_json(self) -> dict[str, bool | None]:
        return {
            "atomic_create": self.atomic_create,
            "if_match": self.if_match,
            "ranged_reads": self.ranged_reads,
            "wrong_checksum_refused": self.wrong_checksum_refused,
        }


def probe(store: ObjectStore) -> Capabilities:
    """Try what commits and readers need, on objects that are deleted afterwards."""
    strict = _without_single_writer(store)
    base = probe_key(secrets.token_hex(8))
    keys = [f"{base}-race", f"{base}-match", f"{base}-sum"]
    missing: list[str] = []
    try:
        created = _creates_once(strict, keys[0], missing)
        matched, ranged = _replaces_if_match(strict, keys[1], missing)
        checked = strict.refuses_wrong_checksum(keys[2]) if isinstance(strict, ChecksChecksums) else None
    finally:
        for key in keys:
            with contextlib.suppress(StorageError):  # of a store that takes no writes the first refusal says more
                store.delete(key)
    return Capabilities(created, matched, ranged, checked, missing[0] if missing else "")


def require(capabilities: Capabilities, where: str, *, single_writer: bool = False, publishing: bool = False) -> None:
    """Raises NotSupported, with the reason and the remedy, if the store cannot keep what commits promise."""
    if not capabilities.ranged_reads:
        raise NotSupported(f"{where}: the server ignores byte ranges, and zoos are read by them; use another server")
    lacking = [
        name
        for name, there in (("creation", capabilities.atomic_create), ("replacement", capabilities.if_match))
        if not there
    ]
    if not lacking:
        return
    what = f"{where}: conditional {' and '.join(lacking)} of objects {'is' if len(lacking) == 1 else 'are'} not atomic"
    if capabilities.missing:
        what += f" ({capabilities.missing.removeprefix(f'{where}: ')})"
    if publishing:
        raise NotSupported(
            f"{what}, so nothing is published here; publish to another store, e.g. a directory or SeaweedFS "
            "(`zoo store up`), and copy what is published with `zoo store pull`"
        )
    if not single_writer:
        raise NotSupported(f"{what}, so two drivers could both win; --single-writer allows one driver without rivals")


def _without_single_writer(store: ObjectStore) -> ObjectStore:
    """The store without the substitute for conditional writes that ``single_writer`` allows."""
    if not getattr(store, "single_writer", False):
        return store
    strict: Any = copy.copy(store)
    strict.single_writer = False
    return strict  # type: ignore[no-any-return]


def _creates_once(store: ObjectStore, key: str, missing: list[str]) -> bool:
    """True if exactly one of many concurrent creations succeeds, and the object has its bytes."""
    line = threading.Barrier(NUM_RACERS)

    def attempt(number: int) -> bool:
        line.wait()
        try:
            store.put(key, f"{number}".encode(), if_absent=True)
        except PreconditionFailed:
            return False
        except NotSupported as error:
            missing.append(str(error))
            return False
        return True

    with ThreadPoolExecutor(NUM_RACERS) as pool:
        won = list(pool.map(attempt, range(NUM_RACERS)))
    return sum(won) == 1 and store.get(key)[0] == f"{won.index(True)}".encode()


def _replaces_if_match(store: ObjectStore, key: str, missing: list[str]) -> tuple[bool, bool]:
    """(whether a put with an old etag is refused and one with the present etag is not, whether ranges are kept)."""
    ranged = True
    try:
        old = store.put(key, b"0123456789")
        ranged = store.get(key, (2, 5))[0] == b"234"
        store.put(key, b"second", if_match=old)
    except NotSupported as error:
        missing.append(str(error))
        return False, ranged
    except (PreconditionFailed, ObjectNotFound):
        return False, ranged  # a server that knows only tags without quotes, or none
    try:
        store.put(key, b"third", if_match=old)
    except (PreconditionFailed, ObjectNotFound):
        return store.get(key)[0] == b"second", ranged
    return False, ranged
