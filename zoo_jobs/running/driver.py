"""The driver of one stage of a run: it hands tasks to slots until nothing is missing in the store. No Ray.

The store holds all state. A driver may be killed at any moment, and several drivers may work on one run.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from zooforge.storage.errors import StoreUnreachable

from ..errors import ZooError
from ..events import Advance, Observer, Problem, Spent, StageEnded, tell
from ..planning.units import Task
from ..spec.epochs import part_epochs
from .notice import Notice

logger = logging.getLogger(__name__)

IN_FLIGHT = 2  # parts per slot: one runs and one waits, so that a slot is never idle between two parts
ATTEMPTS = 3  # how often a task that raises an error is tried
MEMORY_KILLS = 4  # kills of a task without a new part: each halves the chunk, and the last one ends the run
LOSSES = 10  # lost workers in a row with the same task: preemption does not explain more


class UnitFailed(ZooError):
    """A task failed at every attempt."""


class OutOfMemory(UnitFailed):
    """Workers ran out of memory again and again, also with smaller chunks."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one call: ``advance``, or the error that ended it.

    Attributes:
        lost: the worker died during the call.
        out_of_memory: it died, or the call failed, for lack of memory. The slot then needs a new worker.
        final: the device of this process is broken, so another attempt here would fail too.
    """

    slot: int
    advance: Advance | None
    error: BaseException | None = None
    lost: bool = False
    out_of_memory: bool = False
    final: bool = False


class Pool(Protocol):
    """Slots that train tasks. Calls on one slot run in the order of submission."""

    slots: int

    @property
    def chunk_models(self) -> int | None:
        """Most models in memory at once, for workers that start from now on; None: the engine decides."""
        ...

    def submit(self, slot: int, task: Task, part: int) -> None:
        """Ask ``slot`` to train ``task`` to the end of ``part``."""
        ...

    def wait(self, timeout_seconds: float) -> list[Done]:
        """Wait until a call ends, at most ``timeout_seconds``. Returns the calls that ended."""
        ...

    def leave(self, notice: Notice) -> None:
        """Pass a notice on to every slot."""
        ...

    def halve_chunk(self, num_models: int) -> int:
        """Halve the models in memory of workers that start from now on, at most ``num_models``. Returns the half."""
        ...

    def replace(self, slot: int) -> None:
        """Start a new worker for ``slot``: the present one has to leave and refuses all further work."""
        ...


class Leases(Protocol):
    """The right to work on a task, which one driver has at a time where several share a run."""

    def take(self, task: Task) -> bool:
        """Take the lease of ``task``. Returns False while another driver has it."""
        ...

    def release(self, task: Task) -> None: ...


@dataclass(slots=True)
class _Slot:
    task: Task | None = None
    last_part: int = 0  # of the task
    submitted: int = 0  # the next part to submit
    in_flight: int = 0
    pending: int = 0  # trained parts whose commit has not ended
    flushing: bool = False  # the call in flight only waits for pending commits


@dataclass(frozen=True, slots=True)
class Extent:
    """The stage of a run that a driver grows, and the part that it ends with."""

    zoo: str
    stage: str
    last_part: int
    commit_every: int = 1
    """Epochs of a part, to count the epochs that were lost with a worker."""


@dataclass(frozen=True, slots=True)
class StoreCalls:
    """Calls of a driver to the store of the run. Each may wait while the store does not answer."""

    plan_tasks: Callable[[], Sequence[Task]]
    """Read the ledger and cut what is missing into tasks, in the order to run them."""
    stop_asked: Callable[[], bool] = lambda: False
    """True if the run's control object asks to stop. Called once per heartbeat."""
    heartbeat: Callable[[], None] = lambda: None
    """Renew claims and write the usage account."""
    remember_chunk: Callable[[int], None] = lambda num_models: None
    """Write how many models at once the workers train from now on, since more did not fit into their memory."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Leases of a driver that shares a run with other drivers."""

    leases: Leases
    wait: bool = True
    """True: wait for tasks that other drivers hold. False: leave these tasks to them."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between two heartbeats, for workers to leave, and before a first second look at what others hold.

    ``clock`` and ``sleep`` are those of the driver, for simulations.
    """

    heartbeat_seconds: float = 5.0
    grace_seconds: float = 90.0
    pause_seconds: float = 1.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Driver:
    """Trains what ``calls.plan_tasks`` says is missing.

    Args:
        sharing: where several drivers work on one run; None where this driver takes everything that is missing.
    """

    def __init__(
        self,
        extent: Extent,
        pool: Pool,
        calls: StoreCalls,
        notice: Notice,
        observers: Sequence[Observer],
        sharing: Sharing | None = None,
        timing: Timing = Timing(),
    ) -> None:
        self._extent, self._pool, self._calls, self._notice = extent, pool, calls, notice
        self._observers, self._sharing, self._timing = observers, sharing, timing
        self._slots = [_Slot() for _ in range(pool.slots)]
        self._queue: deque[Task] = deque()
        self._failures: dict[int, int] = {}  # by unit
        self._losses: dict[int, int] = {}  # by unit, since its last commit
        self._memory_kills: dict[int, int] = {}  # likewise
        self._replan = self._told_pool = False
        self._held_by_others = False  # some task was left out because another driver holds it
        self._look_again = 0.0
        self._pause = timing.pause_seconds

    def grow(self) -> bool:
        """Train until nothing is missing.

        Returns:
            True when nothing is missing; False after a notice, or when the rest is left to other drivers.

        Raises:
            UnitFailed: a task failed at every attempt. The other slots have committed their epoch by then.
        """
        self._queue = deque(self._calls.plan_tasks())
        last_heartbeat = -math.inf  # the first heartbeat comes before the first task: a cap may be reached already
        failure: UnitFailed | None = None
        while True:
            if self._timing.clock() - last_heartbeat >= self._timing.heartbeat_seconds:
                last_heartbeat = self._timing.clock()
                self._calls.heartbeat()
                if not self._notice.given and self._calls.stop_asked():
                    self._notice.give("stopped", self._timing.grace_seconds)
            if self._notice.given and not self._told_pool:
                self._told_pool = True
                self._pool.leave(self._notice)
            if not self._notice.given:
                self._fill()
            self._flush()
            if not any(slot.in_flight for slot in self._slots):
                if self._notice.given or not (self._replan or self._queue or self._held_by_others):
                    break
                if self._replan:
                    self._replan = False
                    self._queue = deque(self._calls.plan_tasks())
                elif not self._queue and not self._look_for_others():
                    break
                continue
            for done in self._pool.wait(0.2):
                try:
                    self._handle(done)
                except UnitFailed as error:
                    failure = failure or error
                    self._notice.give("failed", self._timing.grace_seconds)
        if failure is not None:
            self._tell_end("failed")
            raise failure
        finished = not (self._notice.given or self._held_by_others)
        if not finished and not self._calls.plan_tasks():
            finished = True  # the last part was committed, here or by another driver, when the notice came
        self._tell_end("finished" if finished else "stopped")
        return finished

    def _fill(self) -> None:
        """Give every idle slot a task, and every busy slot its next parts."""
        for number, slot in enumerate(self._slots):
            if slot.task is None and slot.in_flight == 0 and (task := self._next_task()) is not None:
                slot.task = task
                slot.submitted = task.part
                slot.last_part = self._extent.last_part
            while slot.task is not None and slot.in_flight < IN_FLIGHT and slot.submitted <= slot.last_part:
                self._pool.submit(number, slot.task, slot.submitted)
                slot.submitted += 1
                slot.in_flight += 1

    def _flush(self) -> None:
        """Ask slots that have no part left to train to wait for their pending commits."""
        for number, slot in enumerate(self._slots):
            idle = slot.task is not None and slot.pending and not slot.in_flight
            if idle and slot.task is not None and (self._notice.given or slot.submitted > slot.last_part):
                self._pool.submit(number, slot.task, slot.submitted - 1)
                slot.in_flight, slot.flushing = 1, True

    def _next_task(self) -> Task | None:
        """The next task that no other driver holds; its lease is taken."""
        while self._queue:
            task = self._queue.popleft()
            if self._sharing is None:
                return task
            if not self._sharing.leases.take(task):
                self._held_by_others = True
                continue
            # The plan may be older than the lease: the driver that had the task before has committed more of it.
            for fresh in self._calls.plan_tasks():
                if fresh.models == task.models:
                    return fresh
            self._sharing.leases.release(task)
            self._replan = True
        return None

    def _look_for_others(self) -> bool:
        """Wait, then plan again with what others committed or released. Returns False to leave the rest to them."""
        if self._sharing is None or not self._sharing.wait:
            return False
        if not self._look_again:
            self._look_again = self._timing.clock() + self._pause
            self._pause = min(30.0, 2 * self._pause)
        if self._timing.clock() < self._look_again:
            self._timing.sleep(min(0.2, self._timing.pause_seconds))
            return True
        self._look_again, self._held_by_others, self._replan = 0.0, False, True
        return True

    def _free(self, slot: _Slot) -> None:
        if slot.task is not None and self._sharing is not None:
            self._sharing.leases.release(slot.task)
            self._pause = self._timing.pause_seconds
        slot.task, slot.pending, slot.flushing = None, 0, False

    def _handle(self, done: Done) -> None:
        """Take in the result of one call. Raises UnitFailed: a task failed at every attempt."""
        slot = self._slots[done.slot]
        part = slot.submitted - slot.in_flight
        slot.in_flight -= 1
        task = slot.task
        if done.error is not None:
            slot.submitted = slot.last_part + 1  # submit nothing more of this task: it would fail likewise
            if task is not None:
                lost_parts = range(max(0, part - slot.pending + slot.flushing), part + 1)
                lost = len(task.models) * sum(len(part_epochs(n, self._extent.commit_every)) for n in lost_parts)
                tell(self._observers, Spent(self._extent.zoo, self._extent.stage, lost_epochs=lost))
                self._free(slot)
                self._retry(task, done)
            return
        assert done.advance is not None
        slot.pending = done.advance.pending if task is not None else 0
        self._tell_spent(done.advance)
        for event in done.advance.events:
            tell(self._observers, event)
            if task is not None:
                self._losses[task.unit] = self._memory_kills[task.unit] = 0
        if done.advance.left is not None and task is not None:
            # Another driver has trained these models further, or the slot has to leave: plan again from the store.
            self._free(slot)
            self._replan = True
            if done.advance.left == "preempted":
                self._tell_problem("preempted", f"a worker of unit {task.unit} had to leave")
                self._pool.replace(done.slot)
        if slot.in_flight == 0 and slot.submitted > slot.last_part and not slot.pending:
            self._free(slot)

    def _retry(self, task: Task, done: Done) -> None:
        """Count the failure and plan again. Raises UnitFailed when the task has failed too often."""
        self._replan = True
        unit = f"unit {task.unit} of {self._extent.zoo}"
        if done.out_of_memory:
            self._give_more_room(task, done)
            return
        if done.final:
            raise UnitFailed(f"{unit}: the GPU of this process failed, run the same command again: {done.error}")
        if done.lost or isinstance(done.error, StoreUnreachable):  # not a fault of the task
            losses = self._losses[task.unit] = self._losses.get(task.unit, 0) + 1
            if losses < LOSSES:
                lost = ("preempted", f"a worker was lost: {done.error}") if done.lost else ("store", str(done.error))
                self._tell_problem(*lost)
                return
            if done.lost:
                raise UnitFailed(f"{unit} took {losses} workers down; the last: {done.error}")
            raise UnitFailed(f"{unit} could not use the store {losses} times: {done.error}")
        failures = self._failures[task.unit] = self._failures.get(task.unit, 0) + 1
        facts = {"unit": task.unit, "part": task.part, "failures": failures, "error": str(done.error)}
        logger.info("a task failed", extra={"zoo": self._extent.zoo, **facts})
        if failures >= ATTEMPTS:
            raise UnitFailed(f"{unit} failed {failures} times; the last error: {done.error}")
        self._tell_problem("retried", f"unit {task.unit}: {done.error}")

    def _give_more_room(self, task: Task, done: Done) -> None:
        """Train the task with a smaller chunk. Raises OutOfMemory after ``MEMORY_KILLS`` without a new part."""
        kills = self._memory_kills[task.unit] = self._memory_kills.get(task.unit, 0) + 1
        if kills >= MEMORY_KILLS:
            chunk = min(self._pool.chunk_models or len(task.models), len(task.models))
            raise OutOfMemory(
                f"out of memory: unit {task.unit} of {self._extent.zoo} failed {kills} times, the last time with "
                f"{chunk} of its {len(task.models)} models at once ({done.error}); "
                "give the workers more memory, or use fewer slots"
            )
        chunk = self._pool.halve_chunk(len(task.models))
        self._calls.remember_chunk(chunk)
        self._pool.replace(done.slot)
        self._tell_problem("memory", f"a worker ran out of memory; models at once from now on: {chunk} ({done.error})")

    def _tell_spent(self, advance: Advance) -> None:
        if advance.lost_epochs or advance.store_retries or advance.read_bytes:
            costs = (advance.lost_epochs, advance.store_retries, advance.read_bytes)
            tell(self._observers, Spent(self._extent.zoo, self._extent.stage, *costs))

    def _tell_problem(self, kind: str, message: str) -> None:
        tell(self._observers, Problem(self._extent.zoo, self._extent.stage, kind, message))

    def _tell_end(self, state: str) -> None:
        tell(self._observers, StageEnded(self._extent.zoo, self._extent.stage, state))
