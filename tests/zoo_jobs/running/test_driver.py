"""The driver with fake slots that a test controls, without Ray and without training."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.fake_pool import LAST_PART, FakePool
from zooforge.zoo_jobs.events import Advance, Event, PartCommitted, Problem, Spent, StageEnded
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running.driver import (
    ATTEMPTS,
    IN_FLIGHT,
    LOSSES,
    MEMORY_KILLS,
    Done,
    Driver,
    Extent,
    OutOfMemory,
    StoreCalls,
    Timing,
    UnitFailed,
)
from zooforge.zoo_jobs.running.notice import Notice

TIMING = Timing()


def drive(
    pool: FakePool,
    notice: Notice | None = None,
    commit_every: int = 1,
    timing: Timing = TIMING,
    **calls: Callable[[], Any],
) -> tuple[bool, list[Event]]:
    events: list[Event] = []
    extent = Extent("zoo", "train", LAST_PART, commit_every)
    driver = Driver(extent, pool, StoreCalls(pool.plan, **calls), notice or Notice(), [events.append], None, timing)
    return driver.grow(), events


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_every_model_reaches_the_last_part_once(slots: int) -> None:
    pool = FakePool(slots, range(7))
    finished, events = drive(pool)
    assert finished
    assert set(pool.next_part.values()) == {LAST_PART + 1}
    parts = [(e.models, e.epochs) for e in events if isinstance(e, PartCommitted)]
    assert sorted(parts) == sorted(((m,), (p,)) for m in range(7) for p in range(LAST_PART + 1))
    assert events[-1] == StageEnded("zoo", "train", "finished")


def test_a_slot_has_at_most_two_parts_in_flight() -> None:
    pool = FakePool(2, range(6))
    drive(pool)
    assert pool.most_in_flight == 2


class LatePool(FakePool):
    """The commit of a part ends during a later call, as with a slot that trains meanwhile."""

    def __init__(self, slots: int, models: Sequence[int]) -> None:
        super().__init__(slots, models)
        self.late: dict[int, list[Event]] = {}
        self.failing: set[int] = set()

    def wait(self, timeout_seconds: float) -> list[Done]:
        leaving = self._notice is not None
        calls = list(self._calls)
        collected = []
        for done in super().wait(timeout_seconds):
            slot, task, _ = calls[0]
            late = self.late.pop(slot, [])
            if late and task.unit in self.failing:
                self.failing.remove(task.unit)
                self.next_part[task.models[0]] = 1
                return [Done(slot, None, ValueError("the last commit failed"))]
            assert done.advance is not None
            if leaving:
                collected.append(Done(slot, Advance(tuple(late), "notice")))
                continue
            if done.advance.events:
                self.late[slot] = list(done.advance.events)
            collected.append(Done(slot, Advance(tuple(late), pending=len(done.advance.events))))
        return collected


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_a_task_is_done_when_its_last_commit_is(slots: int) -> None:
    pool = LatePool(slots, range(7))
    finished, events = drive(pool)
    assert finished
    parts = [(e.models, e.epochs) for e in events if isinstance(e, PartCommitted)]
    assert sorted(parts) == sorted(((m,), (p,)) for m in range(7) for p in range(LAST_PART + 1))
    assert not pool.late


def test_a_commit_that_fails_after_the_last_epoch_is_done_again_from_the_store() -> None:
    pool = LatePool(1, range(2))
    pool.faults[1] = deque()
    pool.next_part = {0: LAST_PART + 1, 1: LAST_PART}
    pool.failing = {1}
    finished, events = drive(pool)
    assert finished
    assert [e.lost_epochs for e in events if isinstance(e, Spent)] == [1]
    assert [e.kind for e in events if isinstance(e, Problem)] == ["retried"]
    assert [e.epochs for e in events if isinstance(e, PartCommitted)][-1] == (LAST_PART,)


def test_a_driver_that_is_told_to_leave_reports_what_was_committed_meanwhile() -> None:
    pool = LatePool(2, range(4))
    notice = Notice()
    pool.faults[1] = deque([lambda: notice.give("signal", 60.0)])
    finished, events = drive(pool, notice=notice)
    assert not finished
    assert not pool.late
    assert sum(isinstance(e, PartCommitted) for e in events) == sum(pool.next_part.values())


def test_committed_parts_are_not_trained_again() -> None:
    pool = FakePool(1, range(3))
    pool.next_part = {0: LAST_PART + 1, 1: 2, 2: 0}
    _, events = drive(pool)
    assert sum(isinstance(e, PartCommitted) for e in events) == 2 + LAST_PART + 1
    assert drive(pool)[1] == [StageEnded("zoo", "train", "finished")]


def test_a_task_that_fails_is_tried_again_and_others_go_on() -> None:
    pool = FakePool(2, range(4))
    pool.faults[2] = deque([Done(0, None, ValueError("once"))])
    finished, events = drive(pool)
    assert finished
    assert set(pool.next_part.values()) == {LAST_PART + 1}
    assert [e.kind for e in events if isinstance(e, Problem)] == ["retried"]


def test_a_task_that_always_fails_ends_the_run_with_its_reason() -> None:
    pool = FakePool(1, range(2))
    pool.faults[1] = deque([Done(0, None, ValueError("no such thing"))] * ATTEMPTS * 2)
    with pytest.raises(UnitFailed, match=r"unit 1 of zoo failed 3 times; the last error: no such thing"):
        drive(pool)


def test_the_unfinished_work_of_a_lost_worker_is_reported_once() -> None:
    pool = FakePool(1, range(2))
    pool.faults[1] = deque([Done(0, None, RuntimeError("killed"), lost=True)] * 2)
    _, events = drive(pool, commit_every=5)
    # Part 0 is epoch 0 alone. At that moment parts 0 and 1 are in flight; the worker was training the older one.
    assert [e.lost_epochs for e in events if isinstance(e, Spent)] == [1]


def test_the_driver_passes_on_what_workers_report_of_their_store() -> None:
    pool = FakePool(1, range(1))
    pool.faults[0] = deque([Done(0, Advance((), None, lost_epochs=3, store_retries=2, read_bytes=7))])
    _, events = drive(pool)
    assert [e for e in events if isinstance(e, Spent)] == [Spent("zoo", "train", 3, 2, 7)]


def test_a_lost_worker_costs_a_retry_and_no_failure() -> None:
    pool = FakePool(1, range(2))
    pool.faults[0] = deque([Done(0, None, RuntimeError("killed"), lost=True)] * (LOSSES - 1))
    finished, events = drive(pool)
    assert finished
    assert {e.kind for e in events if isinstance(e, Problem)} == {"preempted"}


def test_a_task_that_takes_every_worker_down_ends_the_run() -> None:
    pool = FakePool(1, [0])
    pool.faults[0] = deque([Done(0, None, RuntimeError("killed"), lost=True)] * LOSSES * 3)
    with pytest.raises(UnitFailed, match="took 10 workers down"):
        drive(pool)


def test_a_notice_ends_the_run_without_starting_anything_new() -> None:
    pool = FakePool(1, range(5))
    notice = Notice()
    pool.faults[1] = deque([lambda: notice.give("signal", 90)])
    finished, events = drive(pool, notice=notice)
    assert not finished
    assert events[-1] == StageEnded("zoo", "train", "stopped")
    assert {m for m, p in pool.next_part.items() if p > 0} == {0, 1}


def test_a_stop_in_the_store_is_obeyed_at_the_next_heartbeat() -> None:
    pool = FakePool(1, range(50))
    finished, _ = drive(pool, stop_asked=lambda: len(pool.order) > 5, timing=Timing(0.0))
    assert not finished
    assert len(pool.order) < 10


def test_a_task_that_a_rival_is_ahead_of_is_planned_again() -> None:
    pool = FakePool(1, range(2))

    def rival() -> None:
        pool.next_part[0] = LAST_PART + 1

    pool.faults[0] = deque([rival, Done(0, Advance((), "rival"))])
    assert drive(pool)[0]
    assert set(pool.next_part.values()) == {LAST_PART + 1}


def test_a_worker_that_has_to_leave_is_replaced_once_and_asked_nothing_more() -> None:
    pool = FakePool(1, range(2))
    pool.faults[0] = deque([Done(0, Advance((), "preempted"))] * 2)  # both calls in flight return this
    finished, events = drive(pool)
    assert finished
    assert pool.replaced == [0]
    assert [e.kind for e in events if isinstance(e, Problem)] == ["preempted"]
    assert set(pool.next_part.values()) == {LAST_PART + 1}


def test_a_stop_that_the_first_heartbeat_reads_comes_before_the_first_task() -> None:
    pool, notice = FakePool(1, range(2)), Notice()
    finished, _ = drive(pool, notice=notice, heartbeat=lambda: notice.give("stopped", 90.0))
    assert not finished
    assert pool.order == []


class WidePool(FakePool):
    """All models in one task."""

    def plan(self) -> list[Task]:
        part = min(self.next_part.values())
        return [Task(0, tuple(self.next_part), part)] if part <= LAST_PART else []


NO_MEMORY = Done(0, None, MemoryError("15.2GB used / 16.0GB limit"), lost=True, out_of_memory=True)


def test_a_worker_that_runs_out_of_memory_is_replaced_with_half_the_models_at_once() -> None:
    pool = WidePool(1, range(16))
    pool.faults[0] = deque([NO_MEMORY] * IN_FLIGHT * (MEMORY_KILLS - 1))
    remembered: list[int] = []
    finished, events = drive(pool, remember_chunk=remembered.append)
    assert finished
    assert remembered == [8, 4, 2]
    assert (pool.chunk_models, pool.replaced) == (16 // 2 ** (MEMORY_KILLS - 1), [0] * (MEMORY_KILLS - 1))
    problems = [event for event in events if isinstance(event, Problem)]
    assert [problem.kind for problem in problems] == ["memory"] * (MEMORY_KILLS - 1)
    assert "models at once from now on: 8 (15.2GB used / 16.0GB limit" in problems[0].message


def test_a_task_that_runs_out_of_memory_again_and_again_ends_the_run_with_the_numbers() -> None:
    pool = WidePool(1, range(16))
    pool.faults[0] = deque([NO_MEMORY] * IN_FLIGHT * MEMORY_KILLS)
    with pytest.raises(OutOfMemory) as raised:
        drive(pool)
    assert "out of memory: unit 0 of zoo failed 4 times, the last time with 2 of its 16 models at once" in str(
        raised.value
    )
    assert "15.2GB used / 16.0GB limit" in str(raised.value)


def test_a_process_whose_gpu_is_broken_ends_at_once_with_the_cause() -> None:
    pool = FakePool(1, range(2))
    broken = RuntimeError("cuda:0: CUDA error: an illegal memory access was encountered")
    pool.faults[0] = deque([Done(0, None, broken, final=True)])
    with pytest.raises(UnitFailed, match="run the same command again: cuda:0: CUDA error: an illegal memory access"):
        drive(pool)
    assert len([task for _, task, _ in pool.order if task.unit == 0]) == IN_FLIGHT  # submitted before
