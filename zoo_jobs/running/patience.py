"""Waiting for a store that is away while a run is at work."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from zooforge.storage.errors import StoreUnreachable

from ..errors import ZooError
from ..events import Observer, Problem, tell
from .notice import Notice

STORE_SECONDS = 900.0
PAUSE_SECONDS = 5.0
T = TypeVar("T")


class StoreAway(ZooError):
    """The store did not answer for long, in the middle of a run; what is committed is in it."""


class Patience:
    """Makes a call again while the store does not answer, tells of it, and gives up after ``STORE_SECONDS``.

    Raises StoreAway then, or when a notice comes meanwhile.
    """

    def __init__(
        self,
        zoo: str,
        stage: str,
        notice: Notice,
        observers: Sequence[Observer],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._zoo, self._stage, self._notice, self._observers = zoo, stage, notice, observers
        self._clock, self._sleep = clock, sleep

    def __call__(self, call: Callable[[], T]) -> T:
        deadline = self._clock() + STORE_SECONDS
        while True:
            try:
                return call()
            except StoreUnreachable as error:
                tell(self._observers, Problem(self._zoo, self._stage, "store", str(error)))
                if self._notice.given or self._clock() >= deadline:
                    raise StoreAway(f"{error}; what is committed stays, the same command goes on") from error
            self._sleep(PAUSE_SECONDS)
