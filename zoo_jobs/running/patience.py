"""Waiting for a store that does not answer, while a run is at work."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from zooforge.storage.errors import StorageError, StoreUnreachable
from zooforge.storage.stores.retries import STORE_AWAY

from ..errors import ZooError
from ..events import Observer, Problem, tell
from .notice import Notice

STORE_SECONDS = STORE_AWAY.budget_seconds
T = TypeVar("T")


class StoreAway(ZooError):
    """The store did not answer for long in the middle of a run. What is committed is in it."""


def call_patiently(
    call: Callable[[], T],
    on_error: Callable[[StorageError], None],
    *,
    errors: type[StorageError] = StoreUnreachable,
    may_wait: Callable[[], bool] = lambda: True,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Make a call, and repeat it with growing pauses for up to ``STORE_SECONDS`` while it raises one of ``errors``.

    Args:
        on_error: told of every error.
        may_wait: asked before every pause; False raises the error at once.

    Raises:
        StorageError: the last error.
    """

    def again(error: StorageError) -> bool:
        if not isinstance(error, errors):
            return False
        on_error(error)
        return may_wait()

    return STORE_AWAY.call(call, again=again, clock=clock, sleep=sleep)


class Patience:
    """Repeats a stage's calls to the store while it does not answer, and tells the observers.

    Raises StoreAway after ``STORE_SECONDS``, or when a notice is given meanwhile.
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
            return call_patiently(
                call,
                lambda error: tell(self._observers, Problem(self._zoo, self._stage, "store", str(error))),
                may_wait=lambda: not self._notice.given,
                clock=self._clock,
                sleep=self._sleep,
            )
        except StoreUnreachable as error:
            raise StoreAway(f"{error}; what is committed stays, the same command goes on") from error
