"""Several drivers share one store; each trains the pieces that it claims. Without Ray and without training."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_pool import LAST_PART, FakePool
from zooforge.storage.runs.claims import Claims
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.events import Event
from zooforge.zoo_jobs.planning.units import Task, WorkUnit
from zooforge.zoo_jobs.running.claims import PIECE_MODELS, ClaimedPieces, claims_of, cut
from zooforge.zoo_jobs.running.driver import Done, Driver, Extent, Sharing, StoreCalls, Timing, UnitFailed
from zooforge.zoo_jobs.running.notice import Notice

RUN = "0123456789abcdef0123456789abcdef"
UNITS = (WorkUnit(tuple(range(0, 160, 2))), WorkUnit(tuple(range(1, 9, 2))))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def leases(store: ObjectStore, number: int, first: int = 0) -> ClaimedPieces:
    claims = Claims(store, RUN, f"20261124T10000{number}Z-abcd")
    return ClaimedPieces(claims, {model: f"{model:07}-0" for model in range(7)}, first)


def test_a_unit_is_claimed_in_pieces_that_depend_on_no_request() -> None:
    names = claims_of(UNITS, bitwise=True)
    assert len(set(names.values())) == 3 + 1
    assert [sum(name == actual for actual in names.values()) for name in dict.fromkeys(names.values())] == [
        32,
        32,
        16,
        4,
    ]
    whole = claims_of(UNITS, bitwise=False)
    assert len(set(whole.values())) == 2


def test_a_task_is_cut_where_another_claim_begins() -> None:
    names = claims_of(UNITS, bitwise=True)
    task = Task(0, UNITS[0].models[30:70], 5)
    pieces = cut([task], names)
    assert [len(piece.models) for piece in pieces] == [2, 32, 6]
    assert {(piece.unit, piece.part) for piece in pieces} == {(0, 5)}
    assert sum((piece.models for piece in pieces), ()) == task.models
    assert all(len(piece.models) <= PIECE_MODELS for piece in pieces)


def test_one_of_several_drivers_has_a_piece_and_the_next_gets_it_afterwards(store: ObjectStore) -> None:
    one, two = leases(store, 1), leases(store, 2)
    task, same = Task(3, (3,), 0), Task(3, (3,), 2)
    assert one.take(task)
    assert one.take(same)  # another task under the same claim
    assert not two.take(task)
    one.release(task)
    assert not two.take(task)
    one.release(same)
    assert two.take(task)
    two.close()
    assert one.take(task)


def test_a_claim_is_renewed_in_time_and_its_loss_is_logged(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    claims = Claims(store, RUN, "20261124T100001Z-abcd")
    held = ClaimedPieces(claims, {0: "0-0"}, 0, lambda: now[0])
    assert held.take(Task(0, (0,), 0))
    before = {stat.key: stat.etag for stat in store.list("")}
    held.beat()
    assert {stat.key: stat.etag for stat in store.list("")} == before
    now[0] = 31.0
    held.beat()
    assert {stat.key: stat.etag for stat in store.list("")} != before
    Claims(store, RUN, "20261124T100002Z-abcd").hold("0-0")  # as if it had been void
    now[0] = 62.0
    held.beat()
    assert "another driver has taken it" in caplog.text


class SharedPool(FakePool):
    """A pool that shares its models with another pool."""

    def __init__(self, other: FakePool, before_wait: Callable[[], None] = lambda: None) -> None:
        super().__init__(1, ())
        self.next_part, self._before_wait = other.next_part, before_wait

    def wait(self, timeout_seconds: float) -> list[object]:
        self._before_wait()
        return super().wait(timeout_seconds)


def driver(
    pool: FakePool,
    held: ClaimedPieces,
    wait: bool = True,
    notice: Notice | None = None,
    calls: StoreCalls | None = None,
) -> Driver:
    events: list[Event] = []
    extent, timing = Extent("z", "train", LAST_PART), Timing(heartbeat_seconds=0.0, pause_seconds=0.01)
    calls, sharing = calls or StoreCalls(pool.plan), Sharing(held, wait)
    return Driver(extent, pool, calls, notice or Notice(), [events.append], sharing, timing)


def test_two_drivers_share_a_run_and_train_nothing_twice(store: ObjectStore) -> None:
    first = FakePool(1, range(7))
    second = SharedPool(first)
    other = driver(second, leases(store, 2))
    started = False

    def between() -> None:
        nonlocal started
        if not started and first.order:
            started = True
            assert not driver(second, leases(store, 2), wait=False).grow()  # the other driver has one piece

    shared = SharedPool(first, between)
    assert driver(shared, leases(store, 1)).grow()
    assert other.grow()
    assert set(first.next_part.values()) == {LAST_PART + 1}
    mine = {task.unit for _, task, _ in shared.order}
    theirs = {task.unit for _, task, _ in second.order}
    assert mine | theirs == set(range(7))
    assert not mine & theirs


def test_a_driver_waits_for_the_pieces_of_others_and_takes_them_when_they_leave(store: ObjectStore) -> None:
    pool, other = FakePool(1, range(3)), leases(store, 2)
    assert other.take(Task(2, (2,), 0))
    looks: list[int] = []

    def plan() -> list[Task]:
        looks.append(len(pool.plan()))
        if looks.count(1) == 3:
            other.close()
        return pool.plan()

    assert driver(pool, leases(store, 1), calls=StoreCalls(plan)).grow()
    assert [task.unit for _, task, _ in pool.order][-1] == 2


def test_a_notice_ends_the_wait_for_others(store: ObjectStore) -> None:
    pool, notice = FakePool(1, range(1)), Notice()
    assert leases(store, 2).take(Task(0, (0,), 0))
    calls = StoreCalls(pool.plan, heartbeat=lambda: notice.give("signal", 1.0))
    assert not driver(pool, leases(store, 1), notice=notice, calls=calls).grow()
    assert pool.order == []


def test_a_piece_that_fails_every_time_is_given_back(store: ObjectStore) -> None:
    pool = FakePool(1, range(2))

    pool.faults[1] = deque([Done(0, None, ValueError("no"))] * 9)
    held = leases(store, 1)
    with pytest.raises(UnitFailed, match="unit 1 of z failed 3 times"):
        driver(pool, held).grow()
    assert leases(store, 2).take(Task(1, (1,), 0))
