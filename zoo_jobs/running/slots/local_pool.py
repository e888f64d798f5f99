"""Slots as threads of this process, so that the main thread handles signals and renews claims meanwhile. No Ray."""

import os
import queue
import threading

from ...data.prepared import PreparedData
from ...engines.device_errors import is_broken, is_out_of_memory
from ...events import Advance
from ...planning import machines
from ...planning.units import Task
from ..driver import Done
from ..inputs import Run
from ..notice import Notice
from .worker import Worker, WorkerContext

OVERDUE_SECONDS = 10.0  # after the deadline of a notice, before a running epoch is abandoned
CLOSE_SECONDS = 10.0


class LocalPool:
    """``driver.Pool`` with one thread per slot: the engines release Python's global lock while they train."""

    def __init__(self, slots: int, context: WorkerContext, run: Run, data: PreparedData) -> None:
        self.slots = slots
        self._context, self._run, self._data = context, run, data
        self._notice = Notice()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._calls: list[queue.SimpleQueue[tuple[Task, int] | None]] = [queue.SimpleQueue() for _ in range(slots)]
        self._in_flight = [0] * slots
        self._given_up = False
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"zoo-slot-{slot}", daemon=True)
            for slot in range(slots)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def dollars_per_hour(self) -> float | None:
        price = machines.slot_price(os.environ)
        return None if price is None else self.slots * price

    def submit(self, slot: int, task: Task, part: int) -> None:
        self._in_flight[slot] += 1
        self._calls[slot].put((task, part))

    def wait(self, timeout_seconds: float) -> list[Done]:
        """Wait for a call to end. ``OVERDUE_SECONDS`` after the deadline of a notice all calls count as ended."""
        try:
            done = self._done.get(timeout=timeout_seconds)
        except queue.Empty:
            return self._give_up() if self._notice.seconds_over > OVERDUE_SECONDS else []
        self._in_flight[done.slot] -= 1
        return [done]

    def leave(self, notice: Notice) -> None:
        self._notice.give(notice.reason or "stopped", notice.seconds_left)

    @property
    def chunk_models(self) -> int | None:
        return self._context.chunk_models

    def halve_chunk(self, num_models: int) -> int:
        self._context = self._context.with_half_chunk(num_models)
        return self._context.chunk_models or 1

    def replace(self, slot: int) -> None:
        """Do nothing: a notice concerns the whole process."""

    def close(self) -> None:
        self._notice.give("stopped", 0.0)
        for slot, thread in enumerate(self._threads):
            self._calls[slot].put(None)
            if not self._given_up:
                thread.join(CLOSE_SECONDS)

    def _give_up(self) -> list[Done]:
        self._given_up = True
        given_up = [
            Done(slot, Advance((), "notice")) for slot in range(self.slots) for _ in range(self._in_flight[slot])
        ]
        self._in_flight = [0] * self.slots
        return given_up

    def _work(self, slot: int) -> None:
        worker: Worker | None = None
        context = self._context
        while (call := self._calls[slot].get()) is not None:
            try:
                if worker is not None and context is not self._context:
                    worker.close()
                    worker = None
                context = self._context
                worker = worker or Worker(context, self._run, self._data, self._notice)
                self._done.put(Done(slot, worker.advance(*call)))
            except Exception as error:  # the driver decides about a retry
                full = is_out_of_memory(error)
                # A new MemoryError has no traceback, which would hold the tensors that did not fit.
                kept = MemoryError(str(error)) if full else error
                self._done.put(Done(slot, None, kept, out_of_memory=full, final=is_broken(error)))
        if worker is not None:
            worker.close()
