"""Commits on their own thread: in order, bounded in memory; errors are raised, and only committed parts reported."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.tiny_runs import RUN, random_data
from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import Data
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.events import PartCommitted
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.slots.commit_queue import CommitQueue
from zooforge.zoo_jobs.running.slots.unit_runner import UnitRunner

TASK = Task(0, (0, 2), 0)
DATA = random_data()
SECONDS = 20.0  # long enough for another thread to make progress


class Gate:
    """A job that waits until the test releases it."""

    def __init__(self, number: int, log: list[int]) -> None:
        self.number, self.log = number, log
        self.open = threading.Event()

    def __call__(self) -> int:
        assert self.open.wait(SECONDS)
        self.log.append(self.number)
        return self.number


def test_jobs_run_in_order_and_results_come_in_order() -> None:
    queue: CommitQueue[int] = CommitQueue(1000)
    log: list[int] = []
    gates = [Gate(number, log) for number in range(4)]
    for gate in gates:
        queue.put(gate, 10)
    assert queue.pending == queue.unfinished == 4
    assert queue.take() == []
    for gate in reversed(gates):
        gate.open.set()
    assert queue.flush() == log == [0, 1, 2, 3]
    assert queue.pending == 0


@pytest.mark.parametrize("limits", [(25, 99), (1000, 2)])
def test_put_waits_only_while_the_queue_is_full(limits: tuple[int, int]) -> None:
    queue: CommitQueue[int] = CommitQueue(*limits)
    gates = [Gate(number, []) for number in range(3)]
    for gate in gates[:2]:
        queue.put(gate, 10)
    third = threading.Thread(target=queue.put, args=(gates[2], 10))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    gates[0].open.set()
    third.join(SECONDS)
    assert not third.is_alive()
    for gate in gates:
        gate.open.set()
    assert queue.flush() == [0, 1, 2]


def test_a_job_larger_than_the_queue_goes_alone() -> None:
    queue: CommitQueue[int] = CommitQueue(0)
    for number in range(3):
        queue.put(lambda number=number: number, 1 << 40)
    assert queue.flush() == [0, 1, 2]


@pytest.mark.parametrize("ask", [lambda q: q.flush(), lambda q: wait_for(q.take), lambda q: put_until_it_raises(q)])
def test_an_error_ends_the_jobs_behind_it_and_is_raised_once(ask: Callable[[CommitQueue[int]], Any]) -> None:
    queue: CommitQueue[int] = CommitQueue(1000)
    log: list[int] = []
    gates = [Gate(number, log) for number in range(2)]

    def fail() -> int:
        gates[0]()
        raise StoreUnreachable("the network is gone")

    queue.put(fail, 1)
    queue.put(gates[1], 1)
    for gate in gates:
        gate.open.set()
    with pytest.raises(StoreUnreachable):
        ask(queue)
    assert log == [0]
    queue.clear()
    queue.put(lambda: 7, 1)
    assert queue.flush() == [7]


def wait_for(take: Callable[[], Sequence[int]]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        take()
        time.sleep(0.001)


def put_until_it_raises(queue: CommitQueue[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        queue.put(lambda: 0, 1)


def test_clearing_waits_for_the_job_under_way_and_drops_the_rest() -> None:
    queue: CommitQueue[int] = CommitQueue(1000)
    log: list[int] = []
    gates = [Gate(number, log) for number in range(3)]
    for gate in gates:
        queue.put(gate, 1)
    threading.Timer(0.05, gates[0].open.set).start()
    queue.clear()
    assert (log, queue.pending) == ([0], 0)


class SlowStore(MemoryStore):
    """Delays records until ``let`` is set; with ``broken`` it refuses every write."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.broken = False

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if self.broken:
            raise StoreUnreachable("memory: the network is gone")
        if key.startswith("runs/"):
            assert self.let.wait(SECONDS)
        return super().put(key, data, if_absent=if_absent, if_match=if_match)


def runner(store: MemoryStore, notice: Notice | None = None, **options: Any) -> UnitRunner:
    return UnitRunner(RUN, SequentialEngine(), DATA, store, "20261124T000000Z-0001", notice or Notice(), **options)


def epochs(advance: Any) -> list[int]:
    return [epoch for event in advance.events if isinstance(event, PartCommitted) for epoch in event.epochs]


def test_training_goes_on_while_a_part_is_committed_and_the_records_are_the_same() -> None:
    quiet, store = MemoryStore(), SlowStore()
    runner(quiet, buffer_bytes=0).advance(TASK, 2)
    made = runner(store)
    said = [made.advance(TASK, part) for part in (0, 1, 2)]
    assert [epochs(advance) for advance in said] == [[], [], []]
    assert [advance.pending for advance in said] == [1, 2, 3]
    assert not list(store.list("runs/"))
    store.let.set()
    last = made.advance(TASK, 2)
    assert (epochs(last), last.pending) == ([0, 1, 2], 0)
    actual, expected = read_ledger(store, RUN.id), read_ledger(quiet, RUN.id)
    for part in (0, 1, 2):
        ours, theirs = (ledger.record(ledger.holder(0, part)) for ledger in (actual, expected))
        assert (ours.weights, ours.weight_digests, ours.label_digests) == (
            theirs.weights, theirs.weight_digests, theirs.label_digests,
        )  # fmt: skip
        assert ours.totals.parts == theirs.totals.parts == part + 1
    states = [
        stat.key for stat in store.list("objects/") if b'"kind"' in store.get(stat.key)[0][:400].replace(b"\\", b"")
    ]
    assert len(states) == 1  # the state of a part is deleted when the next part is committed


def test_a_full_buffer_makes_the_unit_wait() -> None:
    store = SlowStore()
    made = runner(store, buffer_bytes=1)
    made.advance(TASK, 0)
    said: list[Any] = []
    waits = threading.Thread(target=lambda: said.append(made.advance(TASK, 1)))
    waits.start()
    waits.join(0.5)
    assert waits.is_alive()
    store.let.set()
    waits.join(SECONDS)
    said.append(made.advance(TASK, 1))
    assert [epoch for advance in said for epoch in epochs(advance)] == [0, 1]


def test_an_error_of_a_commit_ends_the_next_call_and_the_task_begins_again_from_the_store() -> None:
    store = SlowStore()
    store.let.set()
    made = runner(store)
    made.advance(TASK, 0)
    made.advance(TASK, 0)
    store.broken = True
    assert made.advance(TASK, 1).pending == 1
    with pytest.raises(StoreUnreachable):
        made.advance(TASK, 1)
    store.broken = False
    made.advance(TASK, 1)
    assert epochs(made.advance(TASK, 1)) == [1]
    assert read_ledger(store, RUN.id).next_part(0) == 2


def test_parts_trained_before_a_notice_are_still_committed() -> None:
    store, notice = SlowStore(), Notice()
    made = runner(store, notice)
    made.advance(TASK, 0)
    made.advance(TASK, 1)
    notice.give("preempted", 60.0)
    threading.Timer(0.2, store.let.set).start()
    left = made.advance(TASK, 2)
    assert (epochs(left), left.left) == ([0, 1], "preempted")
    assert read_ledger(store, RUN.id).next_part(0) == 2
