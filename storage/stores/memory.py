"""A store in this process's memory, for tests."""

import bisect
import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator

from ..errors import ObjectNotFound, PreconditionFailed
from ..keys import checked_key
from .protocol import ByteRange, Data, Stat, Traffic

_shared: dict[str, "MemoryStore"] = {}
_shared_lock = threading.Lock()


class MemoryStore:
    """The protocol over a dict.

    Args:
        clock: gives the times of objects, Unix time in seconds.
    """

    root = None
    clock_ahead_seconds = 0.0

    def __init__(self, url: str = "memory://", clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self.traffic = Traffic()
        self._clock = clock
        self._objects: dict[str, tuple[bytes, str, float]] = {}
        self._keys: list[str] = []  # sorted, so that a listing reads only what it lists
        self._lock = threading.Lock()

    def copy(self) -> "MemoryStore":
        """A store with the same objects. Later changes of one store do not change the other."""
        copied = MemoryStore(self.url, self._clock)
        with self._lock:
            copied._objects, copied._keys = dict(self._objects), list(self._keys)
        return copied

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        with self._lock:
            stored = self._objects.get(checked_key(key))
        if stored is None:
            raise ObjectNotFound(f"{self.url}: no object {key}")
        data = stored[0] if byte_range is None else stored[0][byte_range[0] : byte_range[1]]
        self.traffic.add(read=len(data))
        return data, stored[1]

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        content = bytes(data)
        etag = hashlib.sha256(content).hexdigest()[:32]
        with self._lock:
            stored = self._objects.get(checked_key(key))
            if (if_absent and stored is not None) or (
                if_match is not None and (stored is None or stored[1] != if_match)
            ):
                raise PreconditionFailed(f"{self.url}: {key} exists or has changed")
            if stored is None:
                bisect.insort(self._keys, key)
            self._objects[key] = (content, etag, self._clock())
        self.traffic.add(written=len(content))
        return etag

    def stat(self, key: str) -> Stat | None:
        with self._lock:
            stored = self._objects.get(checked_key(key))
        return None if stored is None else Stat(key, len(stored[0]), stored[1], stored[2])

    def list(self, prefix: str) -> Iterator[Stat]:
        with self._lock:
            first = bisect.bisect_left(self._keys, prefix)
            keys = itertools.takewhile(lambda key: key.startswith(prefix), itertools.islice(self._keys, first, None))
            stored = [(key, self._objects[key]) for key in keys]
        for key, (content, etag, modified) in stored:
            yield Stat(key, len(content), etag, modified)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        with self._lock:
            stored = self._objects.get(checked_key(key))
            if stored is not None and if_match not in (None, stored[1]):
                raise PreconditionFailed(f"{self.url}: {key} has changed")
            if stored is not None:
                del self._objects[key]
                del self._keys[bisect.bisect_left(self._keys, key)]


def shared_memory_store(name: str) -> MemoryStore:
    """The one store of this process under ``name``: opening a URL twice gives the same objects."""
    with _shared_lock:
        return _shared.setdefault(name, MemoryStore(f"memory://{name}"))
