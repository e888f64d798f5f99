"""A driver records its own cost."""

from pathlib import Path

import pytest

from tests.support.controls import set_control
from tests.support.simulated_runs import committed
from tests.support.tiny_runs import RUN
from zooforge.storage.keys import claim_key, driver_claim, usage_prefix
from zooforge.storage.runs.claims import read_claims
from zooforge.storage.runs.run_files import Control, read_control, read_usage
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.events import Event, Problem, Spent, UsageWritten
from zooforge.zoo_jobs.running.account import USAGE_SECONDS, Account, Caps
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.watching.totals import Meter, split_dollars


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def account(
    store: ObjectStore, clock: Clock, caps: Caps | None = None, told: list[Event] | None = None, number: int = 0
) -> Account:
    listeners = [] if told is None else [told.append]
    meter, attempt = Meter(store.traffic), f"20260101T000000Z-000{number}"
    return Account(store, RUN, attempt, 2, caps or Caps(), lambda: 3.6, meter, Notice(), listeners, clock)


def num_records(store: ObjectStore) -> int:
    return len(list(store.list(usage_prefix(RUN.id))))


def test_retried_tasks_retried_requests_and_losses_are_counted_separately(store: ObjectStore) -> None:
    clock = Clock()
    usage = account(store, clock)
    usage(Problem("tiny", "train", "store", "no answer"))
    usage(Problem("tiny", "train", "retried", "unit 0"))
    usage(Problem("tiny", "train", "preempted", "a worker was lost"))
    usage(Spent("tiny", "train", lost_epochs=16, store_retries=4, read_bytes=1000))
    usage(committed("tiny", range(4), 0, seconds=30))
    store.traffic.add(retries=2)
    before = store.traffic.read_bytes
    clock.now = 100.0
    usage.close("finished")
    sums = read_usage(store, RUN.id)
    assert {name: sums[name] for name in ("preemptions", "retries", "store_retries", "lost_epochs")} == {
        "preemptions": 1,
        "retries": 1,
        "store_retries": 6,
        "lost_epochs": 16,
    }
    assert sums["read_bytes"] == before + 1000
    assert (sums["pod_seconds"], sums["dollars"]) == (200.0, pytest.approx(0.1))
    assert sums["committed_seconds"] > 30
    assert read_claims(store, RUN.id) == {}


def test_the_account_is_written_every_five_minutes_and_soon_after_a_loss(store: ObjectStore) -> None:
    clock, told = Clock(), list[Event]()
    usage = account(store, clock, told=told)
    clock.now = USAGE_SECONDS - 1
    usage.beat()
    assert num_records(store) == 0
    usage(Problem("tiny", "train", "preempted", "a worker was lost"))
    usage.beat()
    assert num_records(store) == 1
    clock.now += USAGE_SECONDS + 1
    usage.beat()
    assert num_records(store) == 2
    sums = [event.sums for event in told if isinstance(event, UsageWritten)]
    assert sums[-1] == read_usage(store, RUN.id)


def test_a_second_driver_goes_on_with_the_sums_of_the_first(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    first = account(store, clock)
    clock.now = 3600.0
    first.close("stopped")
    asked = {"models": [0, 4], "epochs": 2}
    set_control(store, RUN.id, Control("run", "", asked))
    second = account(store, clock, Caps(hours=1.5), number=1)
    clock.now += 1799
    second.beat()
    assert read_control(store, RUN.id) == Control("run", "", asked)
    clock.now += 2
    second.beat()
    assert [record.kind for record in caplog.records if record.levelname == "WARNING"] == ["cap"]
    control = read_control(store, RUN.id)
    assert control == Control(
        "stopped", "the cap of 1.5 hours is reached", asked
    )  # the counters that losses are measured by stay


def test_unfinished_work_is_neither_committed_nor_wasted_and_at_the_end_everything_is_one_of_them(
    store: ObjectStore,
) -> None:
    clock, told = Clock(), list[Event]()
    usage = account(store, clock, told=told)
    for minute in range(1, 31):
        clock.now = 60.0 * minute
        if minute in (9, 18):  # of both slots
            usage(committed("tiny", range(4), minute, seconds=539))
            usage(committed("tiny", range(4, 8), minute, seconds=539))
        usage.beat()
    usage.close("stopped")
    split = [split_dollars(event.sums) for event in told if isinstance(event, UsageWritten)]
    assert split[0] == (0.0, 0.0)  # the first parts were still being trained
    assert split == sorted(split) and [wasted for _, wasted in split] == sorted(wasted for _, wasted in split)
    committed_dollars, wasted_dollars = split[-1]
    assert committed_dollars == pytest.approx(4 * 539.05 / 7200 * 3.6)
    assert committed_dollars + wasted_dollars == pytest.approx(read_usage(store, RUN.id)["dollars"])


def test_the_unfinished_work_of_a_killed_driver_is_wasted_when_the_next_one_starts(store: ObjectStore) -> None:
    clock = Clock()
    first = account(store, clock)
    clock.now = USAGE_SECONDS + 1
    first.beat()
    assert split_dollars(read_usage(store, RUN.id)) == (0.0, 0.0)
    account(store, clock, number=1).close("stopped")  # another driver is alive
    assert split_dollars(read_usage(store, RUN.id)) == (0.0, 0.0)
    store.delete(claim_key(RUN.id, driver_claim("20260101T000000Z-0000")))
    account(store, clock, number=2).close("stopped")
    sums = read_usage(store, RUN.id)
    assert split_dollars(sums) == (0.0, pytest.approx(sums["dollars"]))
