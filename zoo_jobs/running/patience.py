"""Waiting for a store that does not answer, while a run is at work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from zooforge.storage.errors import StorageError, StoreUnreachable
from zooforge.storage.stores.retries import STORE_AWAY

from ..errors import ZooError
from ..events import Observer, Problem, tell
from .notice import Notice

POLICY = replace(STORE_AWAY, max_pause_seconds=5.0)  # short pauses, since a notice has to be seen in time
T = TypeVar("T")


class StoreAway(ZooError):
    """The store did not answer for long in the middle of a run. What is committed is in it."""


class Patience:
    """Repeats a stage's calls to the store while it does not answer, and informs the observers.

    Raises StoreAway when the budget is spent, or when a notice is given meanwhile.
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
        try:
            return POLICY.call(
                call,
                again=lambda error: isinstance(error, StoreUnreachable),
                on_retry=self._on_retry,
                clock=self._clock,
                sleep=self._sleep,
            )
        except StoreUnreachable as error:
            raise StoreAway(f"{error}; committed work stays, and the same command continues the run") from error

    def _on_retry(self, error: StorageError) -> None:
        tell(self._observers, Problem(self._zoo, self._stage, "store", str(error)))
        if self._notice.given:
            raise error
