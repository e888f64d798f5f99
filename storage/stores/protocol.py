"""The store protocol: five operations on keys and bytes, and the values that they take and give."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import ObjectNotFound, PreconditionFailed

Data = bytes | bytearray | memoryview
ByteRange = tuple[int, int]  # half-open


@dataclass(frozen=True, slots=True)
class Stat:
    """``modified_seconds`` is Unix time by the store's own clock."""

    key: str
    size: int
    etag: str
    modified_seconds: float


@dataclass(slots=True)
class Traffic:
    """What went through a store since it was opened; counts only grow."""

    read_bytes: int = 0
    written_bytes: int = 0
    num_requests: int = 0
    num_retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, read: int = 0, written: int = 0, requests: int = 1, retries: int = 0) -> None:
        with self._lock:
            self.read_bytes += read
            self.written_bytes += written
            self.num_requests += requests
            self.num_retries += retries

    def __reduce__(self) -> tuple[type["Traffic"], tuple[int, int, int, int]]:
        return Traffic, (self.read_bytes, self.written_bytes, self.num_requests, self.num_retries)


class ObjectStore(Protocol):
    """A flat map of keys to immutable byte strings. Writes are atomic: a reader sees a whole object or none.

    After ``put`` returns, every ``get``, ``stat`` and ``list`` sees the object. Safe to use from several threads; what
    ``copy.copy`` gives has connections of its own, for another process.
    """

    url: str
    traffic: Traffic

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        """Bytes and etag. A range that ends behind the object gives what there is. Raises ObjectNotFound."""
        ...

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write, and give the etag. Raises PreconditionFailed if the key exists (``if_absent``) or has another etag.

        A reply may be lost: an ``if_absent`` that raises may have been our own write, tried again.
        """
        ...

    def stat(self, key: str) -> Stat | None: ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """All objects whose key starts with ``prefix``, each once, in the store's own order."""
        ...

    def delete(self, key: str) -> None:
        """Afterwards the key is absent; it may have been absent before."""
        ...


def clock_ahead_seconds(store: ObjectStore) -> float:
    """How far the store's clock was ahead of this machine's when the store last said; 0 where it never does."""
    return float(getattr(store, "clock_ahead_seconds", 0.0))


def store_now(store: ObjectStore) -> float:
    """Unix time by the store's clock, for comparison with ``Stat.modified_seconds``."""
    return time.time() + clock_ahead_seconds(store)


def create(store: ObjectStore, key: str, data: bytes) -> bool:
    """Write ``key`` unless it exists. True if we wrote it, or it already held exactly ``data``.

    False means that another writer put something else there; nothing was changed.
    """
    try:
        store.put(key, data, if_absent=True)
    except PreconditionFailed:
        return store.get(key)[0] == data
    return True


def get_or_none(store: ObjectStore, key: str) -> tuple[bytes, str] | None:
    try:
        return store.get(key)
    except ObjectNotFound:
        return None
