"""A store whose requests fail on purpose. It is the only mock of a store; it imitates faults of a network."""

import itertools
import random
from collections.abc import Callable, Iterator

from zooforge.storage.stores.protocol import ByteRange, Data, ObjectStore, Stat


class Died(Exception):
    """The process that used the store was killed."""


class FaultyStore:
    """Passes each request on; calls ``fault(verb, key)`` before and ``after(verb, key)`` after each write."""

    root = None
    clock_ahead_seconds = 0.0

    def __init__(
        self,
        store: ObjectStore,
        fault: Callable[[str, str], None] = lambda verb, key: None,
        after: Callable[[str, str], None] = lambda verb, key: None,
    ) -> None:
        self.inner, self.fault, self.after = store, fault, after
        self.url, self.traffic = store.url, store.traffic

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        self.fault("get", key)
        return self.inner.get(key, byte_range)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.fault("put", key)
        etag = self.inner.put(key, data, if_absent=if_absent, if_match=if_match)
        self.after("put", key)
        return etag

    def stat(self, key: str) -> Stat | None:
        return self.inner.stat(key)

    def list(self, prefix: str) -> Iterator[Stat]:
        return self.inner.list(prefix)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self.fault("delete", key)
        self.inner.delete(key, if_match=if_match)


def dying_store(store: ObjectStore, generator: random.Random) -> FaultyStore:
    """A store of which one process in seven dies at one of its first four writes."""
    dies_at = generator.randrange(4) if generator.random() < 0.15 else None
    count = itertools.count()

    def fault(verb: str, key: str) -> None:
        if verb == "put" and next(count) == dies_at:
            raise Died

    return FaultyStore(store, fault)


class LosesReplies(FaultyStore):
    """Every conditional put is done, its reply is lost, and the client tries again, as boto3 users do."""

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if if_absent:
            self.inner.put(key, data, if_absent=True)
        return self.inner.put(key, data, if_absent=if_absent, if_match=if_match)
