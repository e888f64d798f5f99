"""The store's own clock. Ages of objects are differences of two of its times, never of a time of this machine."""

import contextlib
import secrets
import time
from collections.abc import Callable

from ..errors import FormatError, StorageError
from ..keys import probe_key
from .protocol import ObjectStore

MEASURE_SECONDS = 600.0


def store_now(store: ObjectStore) -> float:
    """Unix time by the store's clock, as of the store's last reply. Sends no request; exact enough to show an age."""
    return time.time() + store.clock_ahead_seconds


class StoreClock:
    """Tells Unix time by the store's clock: exact to one request, and never ahead of it.

    The time is that of an object written just now. The monotonic clock of this machine carries it on for
    ``MEASURE_SECONDS``; after a suspension it is behind, so that objects look younger than they are, not older.
    """

    def __init__(self, store: ObjectStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._monotonic = store, monotonic
        self._measured: tuple[float, float] | None = None  # the store's time, and our clock at the same moment

    def now(self) -> float:
        """Seconds. Raises StorageError if the store does not answer."""
        if self._measured is None or self._monotonic() - self._measured[1] > MEASURE_SECONDS:
            self._measured = self._measure()
        return self._measured[0] + self._monotonic() - self._measured[1]

    def _measure(self) -> tuple[float, float]:
        key = probe_key(f"clock-{secrets.token_hex(8)}")  # a random key, so that concurrent callers do not share one
        self._store.put(key, b"now")
        stat = self._store.stat(key)
        ours = self._monotonic()
        with contextlib.suppress(StorageError):
            self._store.delete(key)
        if stat is None:
            raise FormatError(f"{self._store.url}: {key} was just written and is not there")
        return stat.modified_seconds, ours
