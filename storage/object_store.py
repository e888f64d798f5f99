"""The protocol of five that everything else is written against, and the door to its backends."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from .errors import ObjectNotFound, PreconditionFailed, StoreURLError

_SCHEMES = ("file", "s3", "memory", "http", "https", "hf")

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


def open_store(url: str) -> ObjectStore:
    """The store behind a path, ``file://``, ``s3://bucket/prefix``, or ``memory://name``.

    For reading only: ``https://``, ``hf://OWNER/NAME``, and the path of a zip file.

    Raises:
        StoreURLError: no backend for this URL.
    """
    if "://" not in url:
        from .local import LocalStore

        if not url:
            raise StoreURLError("the store URL is empty: give a path, file:///path or s3://bucket/prefix")
        scheme, colon, rest = url.partition(":")
        if colon and scheme in _SCHEMES:
            raise StoreURLError(
                f"{url}: did you mean {scheme}://{rest.lstrip('/')}? A directory of that name is ./{url}"
            )
        return _zip_store(Path(url)) or LocalStore(Path(url))
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise StoreURLError("a store URL must not hold credentials: use the AWS environment or a profile")
    match parts.scheme:
        case "file":
            from .local import LocalStore

            if parts.netloc not in ("", "localhost") or not parts.path:
                raise StoreURLError(f"{url}: expected file:///absolute/path")
            path = Path(unquote(parts.path))
            return _zip_store(path) or LocalStore(path)
        case "s3":
            from .s3 import S3Store

            if not parts.netloc:
                raise StoreURLError(f"{url}: expected s3://bucket/prefix")
            return S3Store(parts.netloc, parts.path.strip("/"))
        case "memory":
            from .memory import shared_memory_store

            return shared_memory_store(parts.netloc + parts.path.rstrip("/"))
        case "http" | "https":
            from .web import WebStore

            return WebStore(url)
        case "hf":
            from .hub import web_address
            from .web import WebStore

            return WebStore(web_address(url))
        case scheme:
            raise StoreURLError(f"{scheme}:// is no store: use a path, file://, s3://bucket/prefix or https://")


def _zip_store(path: Path) -> ObjectStore | None:
    """A file of ``zoo store zip``, read where it lies; None for any other path."""
    if path.suffix != ".zip" or not path.is_file():
        return None
    from .zip_store import ZipStore

    return ZipStore(path)


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
