"""A pool of slots that a test controls, for tests of the driver."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from zooforge.zoo_jobs.events import Advance, Event, PartCommitted
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running.driver import Done
from zooforge.zoo_jobs.running.notice import Notice

LAST_PART = 3


def committed(task: Task, part: int) -> PartCommitted:
    none = np.zeros(0)
    return PartCommitted("zoo", "train", task.models, (part,), {}, none, none, 1, 0.1, 0.1, 1, True)


class FakePool:
    """Slots over a dictionary model -> next part, the only truth of these tests."""

    def __init__(self, slots: int, models: Sequence[int]) -> None:
        self.slots = slots
        self.next_part = dict.fromkeys(models, 0)
        self.order: list[tuple[int, Task, int]] = []
        self.most_in_flight = 0
        self.chunk_models: int | None = None
        self.faults: dict[int, deque[Done | Callable[[], None]]] = {}
        self._calls: deque[tuple[int, Task, int]] = deque()
        self._notice: Notice | None = None
        self.replaced: list[int] = []

    def plan(self) -> list[Task]:
        parts = sorted({p for p in self.next_part.values() if p <= LAST_PART})
        return [Task(m, (m,), p) for p in parts for m, n in self.next_part.items() if n == p]

    def submit(self, slot: int, task: Task, part: int) -> None:
        self._calls.append((slot, task, part))
        per_slot = [call[0] for call in self._calls]
        self.most_in_flight = max(self.most_in_flight, *(per_slot.count(s) for s in range(self.slots)))

    def leave(self, notice: Notice) -> None:
        self._notice = notice

    def halve_chunk(self, num_models: int) -> int:
        self.chunk_models = max(1, (self.chunk_models or num_models) // 2)
        return self.chunk_models

    def replace(self, slot: int) -> None:
        self.replaced.append(slot)

    def wait(self, timeout_seconds: float) -> list[Done]:
        if not self._calls:
            return []
        slot, task, part = self._calls.popleft()
        self.order.append((slot, task, part))
        if self._notice is not None:
            return [Done(slot, Advance((), "notice"))]
        faults = self.faults.get(task.unit)
        if faults:
            fault = faults.popleft()
            if isinstance(fault, Done):
                return [replace(fault, slot=slot)]
            fault()
        events: list[Event] = []
        for step in range(self.next_part[task.models[0]], part + 1):
            self.next_part[task.models[0]] = step + 1
            events.append(committed(task, step))
        return [Done(slot, Advance(tuple(events)))]
