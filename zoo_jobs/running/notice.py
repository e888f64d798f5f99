"""A notice to leave: a signal, a draining node, a requested stop. Drivers check it between epochs."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

logger = logging.getLogger(__name__)

Reason = Literal["signal", "preempted", "stopped", "failed"]


class Notice:
    """May be given by any thread. ``fits`` says whether work of a known length can be finished before the deadline."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self.reason: Reason | None = None

    def give(self, reason: Reason, seconds: float) -> None:
        """Ask to leave within ``seconds``. A second notice can only shorten the time that is left."""
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
        """Seconds until the deadline; infinite without a notice."""
        return float("inf") if self._deadline is None else max(0.0, self._deadline - self._clock())

    @property
    def seconds_over(self) -> float:
        """Seconds since the deadline; 0 before it and without a notice."""
        return 0.0 if self._deadline is None else max(0.0, self._clock() - self._deadline)

    def fits(self, seconds: float) -> bool:
        """True if ``seconds`` of work end before the deadline; True without a notice."""
        return seconds < self.seconds_left


def node_notice_seconds(environment: Mapping[str, str], most: float) -> float:
    """Seconds that workers have to leave a node: ``ZOO_NOTICE_SECONDS``, at most ``most``."""
    text = environment.get("ZOO_NOTICE_SECONDS", "")
    try:
        return min(most, float(text)) if text else most
    except ValueError:
        logger.warning("ZOO_NOTICE_SECONDS is no number of seconds", extra={"given": text, "used": most})
        return most
