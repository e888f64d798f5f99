"""A notice to leave: a signal, a draining node, a stop that was asked for. Epochs look at it; none is interrupted."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

logger = logging.getLogger(__name__)

Reason = Literal["signal", "preempted", "stopped", "failed"]


class Notice:
    """Set once, from any thread; ``fits`` says whether work of a known length can still be finished."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self.reason: Reason | None = None

    def give(self, reason: Reason, seconds: float) -> None:
        """Ask to leave within ``seconds``. A second notice may only shorten the first."""
        with self._lock:
            deadline = self._clock() + seconds
            if self._deadline is None or deadline < self._deadline:
                self._deadline = deadline
            self.reason = self.reason or reason

    @property
    def given(self) -> bool:
        return self._deadline is not None

    @property
    def seconds_left(self) -> float:
        """Until the deadline; infinite while no notice was given."""
        return float("inf") if self._deadline is None else max(0.0, self._deadline - self._clock())

    @property
    def seconds_over(self) -> float:
        """Since the deadline; 0 before it, and while no notice was given."""
        return 0.0 if self._deadline is None else max(0.0, self._clock() - self._deadline)

    def fits(self, seconds: float) -> bool:
        """Whether ``seconds`` of work end before the deadline; true while no notice was given."""
        return seconds < self.seconds_left


def of_node(environment: Mapping[str, str], most: float) -> float:
    """Seconds that a node leaves its workers: ``ZOO_NOTICE_SECONDS``, but not more than ``most``."""
    text = environment.get("ZOO_NOTICE_SECONDS", "")
    try:
        return min(most, float(text)) if text else most
    except ValueError:
        logger.warning("ZOO_NOTICE_SECONDS is no number of seconds", extra={"found": text, "used": most})
        return most
