"""The store protocol: five operations on keys and bytes, and the values that they take and return."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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
    """Bytes and requests of a store since it was opened. Counts only grow."""

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

    After ``put`` returns, every ``get``, ``stat`` and ``list`` sees the object. A store may be used from several
    threads. A copy by ``copy.copy`` has its own connections, for another process.
    """

    url: str
    traffic: Traffic

    @property
    def root(self) -> Path | None:
        """The directory whose files are the objects; None where objects are not files of this machine.

        Readers map these files into memory, and do not hide the latency of a network.
        """
        ...

    @property
    def clock_ahead_seconds(self) -> float:
        """The store's clock minus this machine's, as of the store's last reply; 0 if replies carry no time."""
        ...

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        """Bytes and etag. A range that ends after the object returns the bytes up to the end. Raises ObjectNotFound."""
        ...

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write the object and return its etag.

        A reply may be lost: a conditional put that raises PreconditionFailed may be a retry of our own write.

        Raises:
            PreconditionFailed: the key exists (``if_absent``), has another etag or is gone (``if_match``).
            NotSupported: the store has no conditional writes.
        """
        ...

    def stat(self, key: str) -> Stat | None: ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """All objects whose key starts with ``prefix``, each once, in the store's own order."""
        ...

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Afterwards the key is absent; it may have been absent before.

        Raises PreconditionFailed if the object has another etag than ``if_match``. S3 cannot compare, and deletes it.
        """
        ...


def create(store: ObjectStore, key: str, data: bytes) -> bool:
    """Write ``key`` unless it exists. Returns True if we wrote it, or if it already held exactly ``data``.

    Returns False if it holds other bytes; nothing was changed.
    """
    try:
        store.put(key, data, if_absent=True)
    except PreconditionFailed:
        return store.get(key)[0] == data
    return True


def get_or_none(store: ObjectStore, key: str) -> tuple[bytes, str] | None:
    """Bytes and etag; None if there is no object under ``key``."""
    try:
        return store.get(key)
    except ObjectNotFound:
        return None
