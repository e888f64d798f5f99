"""Calls that must not hold up a run: one thread makes them, in order, and the end of the run waits only so long."""

import queue
import threading
from collections.abc import Callable

MOST_WAITING = 1000


class Background:
    """Makes calls in its own thread. What comes when ``MOST_WAITING`` calls wait is dropped."""

    def __init__(self, name: str) -> None:
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None]) -> bool:
        """False if the call was dropped. ``call`` must not raise."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            return False
        return True

    def close(self, timeout_seconds: float) -> bool:
        """Wait for what was submitted. False if time ran out; the rest is lost with the process."""
        try:
            self._calls.put(None, timeout=timeout_seconds)
        except queue.Full:
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
