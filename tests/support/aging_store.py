"""A store with a clock that the test sets."""

import time
from collections.abc import Iterator

from tests.support.faulty_store import FaultyStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import Data, Stat


class Clock(FaultyStore):
    """A memory store whose objects are as old as a test says."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.ahead = 0.0
        self.times: dict[str, float] = {}

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = self.inner.put(key, data, if_absent=if_absent, if_match=if_match)
        self.times[key] = time.time() + self.ahead
        return etag

    def stat(self, key: str) -> Stat | None:
        info = self.inner.stat(key)
        return None if info is None else Stat(key, info.size, info.etag, self.times[key])

    def list(self, prefix: str) -> Iterator[Stat]:
        for info in self.inner.list(prefix):
            yield Stat(info.key, info.size, info.etag, self.times[info.key])


DAY = 24 * 3600.0
