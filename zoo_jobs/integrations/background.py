"""Makes calls that must not delay a run: in one thread, in order, with a bounded wait at the end of the run."""

import queue
import threading
from collections.abc import Callable

MOST_WAITING = 1000


class Background:
    """Makes calls in its own thread. A call is dropped if ``MOST_WAITING`` calls wait already."""

    def __init__(self, name: str) -> None:
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None]) -> bool:
        """Make ``call``, which must not raise, later. Returns False if it was dropped."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            return False
        return True

    def close(self, timeout_seconds: float) -> bool:
        """Wait for the submitted calls. Returns False if time ran out; the calls left are lost with the process."""
        try:
            self._calls.put(None, timeout=timeout_seconds)
        except queue.Full:
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
