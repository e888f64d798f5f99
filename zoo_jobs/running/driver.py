"""The driver of one stage of a run: what is missing in the store goes to slots as tasks, until nothing is. No Ray.

The driver holds no truth: it may die at any moment, and another one may live beside it.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zooforge.storage.errors import StoreUnreachable

from ..errors import ZooError
from ..events import Advance, Observer, Problem, Spent, StageEnded, tell
from ..planning.units import Task
from ..spec.epochs import part_epochs
from .notice import Notice

logger = logging.getLogger(__name__)

IN_FLIGHT = 2  # parts per slot: one runs, one waits, so that a slot is never idle between two
ATTEMPTS = 3  # of one task that fails by itself
LOSSES = 10  # workers in a row that may die under one task: more is no preemption


class UnitFailed(ZooError):
    """A task failed every time that it was tried."""


@dataclass(frozen=True, slots=True)
class Done:
    """One call has ended: ``advance``, or the error that ended it. ``lost`` if the worker died under it."""

    slot: int
    advance: Advance | None
    error: BaseException | None = None
    lost: bool = False


class Pool(Protocol):
    """Slots that advance tasks. Calls on one slot run in the order of submission."""

    slots: int

    def submit(self, slot: int, task: Task, part: int) -> None:
        """Ask ``slot`` to take ``task`` to the end of ``part``."""
        ...

    def wait(self, timeout_seconds: float) -> list[Done]:
        """Calls that ended, at least one unless the time is over."""
        ...

    def leave(self, notice: Notice) -> None:
        """Pass a notice on to every slot."""
        ...

    def replace(self, slot: int) -> None:
        """Put a fresh worker into ``slot``: the one there has to leave, and refuses everything from now on."""
        ...


class Leases(Protocol):
    """Tasks that this driver alone may work on, where several share a run."""

    def take(self, task: Task) -> bool:
        """False while another driver has it."""
        ...

    def release(self, task: Task) -> None: ...


@dataclass(slots=True)
class _Slot:
    task: Task | None = None
    last_part: int = 0  # of the task
    submitted: int = 0  # the next part to submit
    in_flight: int = 0
    pending: int = 0  # parts trained whose commit is under way
    flushing: bool = False  # asked for these and nothing else


@dataclass
class Driver:
    """Grows what ``plan_tasks`` says is missing.

    Attributes:
        plan_tasks: reads the ledger and cuts what is missing into tasks, in the order to run them.
        last_part: the part that the request ends with.
        commit_every: epochs of a part, to say how many were lost with a worker.
        stop_asked: whether the run's control object asks to stop; looked at every ``heartbeat_seconds``.
        heartbeat: called as often, for claims and the usage account.
        leases: where several drivers share a run; None where this one takes what is missing.
        wait: whether to wait for what others have; else the rest is left to them.
    """

    zoo: str
    stage: str
    pool: Pool
    plan_tasks: Callable[[], Sequence[Task]]
    last_part: int
    notice: Notice
    observers: Sequence[Observer]
    stop_asked: Callable[[], bool] = lambda: False
    heartbeat: Callable[[], None] = lambda: None
    heartbeat_seconds: float = 5.0
    grace_seconds: float = 90.0
    commit_every: int = 1
    leases: Leases | None = None
    wait: bool = True
    _elsewhere: bool = False
    _look_again: float = 0.0
    _pause: float = 1.0
    _slots: list[_Slot] = field(default_factory=list)
    _queue: deque[Task] = field(default_factory=deque)
    _failures: dict[int, int] = field(default_factory=dict)
    _losses: dict[int, int] = field(default_factory=dict)
    _replan: bool = False
    _told: bool = False

    def grow(self) -> bool:
        """Run until nothing is missing (True), a notice was obeyed or the rest is left to others (False).

        Raises UnitFailed, after the other slots have committed their epoch.
        """
        self._slots = [_Slot() for _ in range(self.pool.slots)]
        self._queue = deque(self.plan_tasks())
        beat = -math.inf  # a cap that is reached already, or a stop, comes before the first task
        failure: UnitFailed | None = None
        while True:
            if time.monotonic() - beat >= self.heartbeat_seconds:
                beat = time.monotonic()
                self.heartbeat()
                if not self.notice.given and self.stop_asked():
                    self.notice.give("stopped", self.grace_seconds)
            if self.notice.given and not self._told:
                self._told = True
                self.pool.leave(self.notice)
            if not self.notice.given:
                self._fill()
            self._flush()
            if not any(slot.in_flight for slot in self._slots):
                if self.notice.given or not (self._replan or self._queue or self._elsewhere):
                    break
                if self._replan:
                    self._replan = False
                    self._queue = deque(self.plan_tasks())
                elif not self._queue and not self._look_for_others():
                    break
                continue
            for done in self.pool.wait(0.2):
                try:
                    self._handle(done)
                except UnitFailed as error:
                    failure = failure or error
                    self.notice.give("failed", self.grace_seconds)
        if failure is not None:
            tell(self.observers, StageEnded(self.zoo, self.stage, "failed"))
            raise failure
        finished = not (self.notice.given or self._elsewhere)
        if not finished and not self.plan_tasks():
            finished = True  # the notice came when the last part was being committed, here or elsewhere
        tell(self.observers, StageEnded(self.zoo, self.stage, "finished" if finished else "stopped"))
        return finished

    def _fill(self) -> None:
        for number, slot in enumerate(self._slots):
            if slot.task is None and slot.in_flight == 0 and (task := self._next_task()) is not None:
                slot.task = task
                slot.submitted = task.part
                slot.last_part = self.last_part
            while slot.task is not None and slot.in_flight < IN_FLIGHT and slot.submitted <= slot.last_part:
                self.pool.submit(number, slot.task, slot.submitted)
                slot.submitted += 1
                slot.in_flight += 1

    def _flush(self) -> None:
        """Ask slots that will train no more of their task how its last commits ended."""
        for number, slot in enumerate(self._slots):
            idle = slot.task is not None and slot.pending and not slot.in_flight
            if idle and slot.task is not None and (self.notice.given or slot.submitted > slot.last_part):
                self.pool.submit(number, slot.task, slot.submitted - 1)
                slot.in_flight, slot.flushing = 1, True

    def _next_task(self) -> Task | None:
        """The next task that nobody else is at."""
        while self._queue:
            task = self._queue.popleft()
            if self.leases is None:
                return task
            if not self.leases.take(task):
                self._elsewhere = True
                continue
            # The plan may be older than the claim: whoever had the unit before has gone on with it.
            for fresh in self.plan_tasks():
                if fresh.models == task.models:
                    return fresh
            self.leases.release(task)
            self._replan = True
        return None

    def _look_for_others(self) -> bool:
        """Wait a little, then plan again with what others have committed or left; False to leave the rest to them."""
        if not self.wait:
            return False
        if not self._look_again:
            self._look_again = time.monotonic() + self._pause
            self._pause = min(30.0, 2 * self._pause)
        if time.monotonic() < self._look_again:
            time.sleep(0.2)
            return True
        self._look_again, self._elsewhere, self._replan = 0.0, False, True
        return True

    def _free(self, slot: _Slot) -> None:
        if slot.task is not None and self.leases is not None:
            self.leases.release(slot.task)
            self._pause = 1.0
        slot.task, slot.pending, slot.flushing = None, 0, False

    def _handle(self, done: Done) -> None:
        slot = self._slots[done.slot]
        under_way = slot.submitted - slot.in_flight
        slot.in_flight -= 1
        task = slot.task
        if done.error is not None:
            slot.submitted = slot.last_part + 1  # what is in flight may fail likewise; nothing more of this task
            if task is not None:
                parts = range(max(0, under_way - slot.pending + slot.flushing), under_way + 1)
                lost = len(task.models) * sum(len(part_epochs(part, self.commit_every)) for part in parts)
                tell(self.observers, Spent(self.zoo, self.stage, lost_epochs=lost))
                self._free(slot)
                self._retry(task, done)
            return
        assert done.advance is not None
        slot.pending = done.advance.pending if task is not None else 0
        self._tell_spent(done.advance)
        for event in done.advance.events:
            tell(self.observers, event)
            if task is not None:
                self._losses[task.unit] = 0
        if done.advance.left is not None and task is not None:
            # Somebody else has gone on with these models, or this slot was told to leave: the store says what is next.
            self._free(slot)
            self._replan = True
            if done.advance.left == "preempted":
                problem = Problem(self.zoo, self.stage, "preempted", f"a worker of unit {task.unit} had to leave")
                tell(self.observers, problem)
                self.pool.replace(done.slot)
        if slot.in_flight == 0 and slot.submitted > slot.last_part and not slot.pending:
            self._free(slot)

    def _tell_spent(self, advance: Advance) -> None:
        if advance.lost_epochs or advance.store_retries or advance.read_bytes:
            spent = Spent(self.zoo, self.stage, advance.lost_epochs, advance.store_retries, advance.read_bytes)
            tell(self.observers, spent)

    def _retry(self, task: Task, done: Done) -> None:
        self._replan = True
        if done.lost:
            losses = self._losses[task.unit] = self._losses.get(task.unit, 0) + 1
            if losses >= LOSSES:
                raise UnitFailed(f"unit {task.unit} of {self.zoo} took {losses} workers down; the last: {done.error}")
            tell(self.observers, Problem(self.zoo, self.stage, "preempted", f"a worker was lost: {done.error}"))
            return
        if isinstance(done.error, StoreUnreachable):  # no fault of the task: to plan again waits for the store
            losses = self._losses[task.unit] = self._losses.get(task.unit, 0) + 1
            if losses >= LOSSES:
                raise UnitFailed(f"unit {task.unit} of {self.zoo} could not use the store {losses} times: {done.error}")
            tell(self.observers, Problem(self.zoo, self.stage, "store", str(done.error)))
            return
        failures = self._failures[task.unit] = self._failures.get(task.unit, 0) + 1
        logger.info(
            "a task failed",
            extra={
                "zoo": self.zoo,
                "unit": task.unit,
                "part": task.part,
                "failures": failures,
                "error": str(done.error),
            },
        )
        if failures >= ATTEMPTS:
            raise UnitFailed(f"unit {task.unit} of {self.zoo} failed {failures} times; the last error: {done.error}")
        tell(self.observers, Problem(self.zoo, self.stage, "retried", f"unit {task.unit}: {done.error}"))
