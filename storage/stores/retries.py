"""The one way to wait for a store: ask again after growing pauses, until a budget of seconds is spent."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import StorageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of the attempts and pauses when a request to a store is repeated.

    Attributes:
        budget_seconds: no attempt starts later than this after the first one.
        first_pause_seconds: upper limit of the first pause; each later one is twice as long.
        max_pause_seconds: upper limit of every pause.
        jitter: draw each pause between 0 and its limit, so that many clients do not ask at the same moment.
    """

    budget_seconds: float
    first_pause_seconds: float = 0.2
    max_pause_seconds: float = 5.0
    jitter: bool = True

    def call(
        self,
        request: Callable[[], T],
        *,
        again: Callable[[StorageError], bool] = lambda error: error.transient,
        on_retry: Callable[[StorageError], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Result of ``request``.

        Args:
            again: whether an error may go away by itself.
            on_retry: called with the error before each pause; may raise to give up.

        Raises:
            StorageError: the error of the last attempt, if it will not go away or the budget is spent.
        """
        start, limit = clock(), self.first_pause_seconds
        while True:
            try:
                return request()
            except StorageError as error:
                pause = random.uniform(0, limit) if self.jitter else limit
                if not again(error) or clock() - start + pause > self.budget_seconds:
                    raise
                on_retry(error)
            sleep(pause)
            limit = min(self.max_pause_seconds, 2 * limit)


STORE_AWAY = RetryPolicy(900.0, first_pause_seconds=1.0, jitter=False)
"""A run waits this long for a store that does not answer."""
