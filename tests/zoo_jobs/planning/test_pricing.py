"""A stage's price: said before it starts, corrected by its first minute, stopped where it is far from what was said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_runs import SPEC
from zooforge.storage.errors import StoreUnreachable
from zooforge.zoo_jobs.commands.working import at_work
from zooforge.zoo_jobs.events import Event, PartCommitted, Problem, Repriced
from zooforge.zoo_jobs.planning.estimate import slot_seconds
from zooforge.zoo_jobs.planning.pricing import Calibration, Planned, Took, planned, rate_here
from zooforge.zoo_jobs.planning.units import request, tasks, work_units
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.patience import STORE_SECONDS, Patience, StoreAway

WANTED = request(SPEC, "0:64", 4)
TASKS = tasks(work_units(SPEC), WANTED, lambda model: 0, slots=2)


def plan(factor: float = 1.0, price: float | None = 3600.0) -> Planned:
    return planned(SPEC, TASKS, WANTED.last_part, "lanes", 2, price, {}, factor)


class Stage:
    """A calibration, and parts that take ``ratio`` times what was planned."""

    def __init__(self, price: float | None = 3600.0, cap: float | None = None, factor: float = 1.0) -> None:
        self.now, self.told, self.stopped = 0.0, list[Event](), list[str]()
        _, self.rate = rate_here(SPEC, "lanes", {})
        listeners = [self.told.append]
        self.calibration = Calibration(
            SPEC, plan(factor, price), self.rate, cap, listeners, self.stopped.append, lambda: self.now
        )

    def commit(self, epochs: Sequence[int], ratio: float, at: float) -> None:
        assert self.rate is not None
        none, self.now = np.zeros(0), at
        seconds = ratio * slot_seconds(SPEC, self.rate, 16, range(epochs[0], epochs[-1] + 1))
        self.calibration(
            PartCommitted(SPEC.name, "train", tuple(range(16)), tuple(epochs), {}, none, none, 1, seconds, 0.1, 1, True)
        )


def test_the_first_minute_reprices_the_stage_once_and_epoch_0_is_no_measure() -> None:
    stage = Stage()
    stage.commit([0], 9.0, 1.0)
    stage.commit([0], 9.0, 70.0)
    assert stage.told == []
    stage.commit([1], 1.2, 80.0)
    stage.commit([2], 7.0, 90.0)
    (told,) = stage.told
    assert isinstance(told, Repriced)
    expected = plan()
    assert expected.seconds is not None and expected.dollars is not None
    assert told.seconds == pytest.approx(told.ratio * expected.seconds)
    assert told.dollars == pytest.approx(told.ratio * expected.dollars)


@pytest.mark.parametrize(("ratio", "stops"), [(1.4, False), (1.6, True)])
def test_a_stage_is_stopped_above_one_and_a_half_times_what_was_confirmed(ratio: float, stops: bool) -> None:
    stage = Stage()
    for number in range(7):
        stage.commit([number], ratio, 10.0 * number)
    assert stage.calibration.factor == pytest.approx(ratio)
    assert bool(stage.stopped) == stops
    if stops:
        assert "1.6 times" in stage.stopped[0] and "same command" in stage.stopped[0]


def test_nothing_is_stopped_without_a_price_nor_within_the_cap() -> None:
    for stage in (Stage(price=None), Stage(cap=1e6)):
        for number in range(8):
            stage.commit([number], 5.0, 10.0 * number)
        assert len(stage.told) == 1
        assert stage.stopped == []


def test_the_next_attempt_plans_with_what_was_measured() -> None:
    stage = Stage(factor=2.0)
    for number in range(8):
        stage.commit([number], 2.2, 10.0 * number)
    assert stage.stopped == []
    assert stage.calibration.factor == pytest.approx(2.2)
    once, twice = plan().seconds, plan(2.0).seconds
    assert once is not None and twice == pytest.approx(2 * once)


def test_what_was_not_measured_is_not_priced() -> None:
    unknown = planned(SPEC, TASKS, WANTED.last_part, "lanes", 2, 1.0, {"ZOO_MACHINE": "my-laptop"})
    assert (unknown.seconds, unknown.dollars) == (None, None)
    assert "not measured" in unknown.sentence
    assert rate_here(SPEC, "stacked", {})[1] is None


def test_the_end_line_says_how_far_off_the_plan_was() -> None:
    took = Took("tiny", "train", 312.0, 276.0, 1.2, 1.0)
    assert took.sentence == "train tiny took 5.2 min, planned 4.6 min (+13%); $1.20, planned $1.00 (+20%)"
    assert Took("tiny", "train", 9.0, 0.7, None, None).sentence == "train tiny took 9 s, planned 0.7 s"
    stopped = Took("tiny", "train", 114.0, 6060.0, 0.06, 3.38, finished=False)
    assert stopped.sentence == "train tiny took 114 s of 101 min that were planned"
    assert Took("tiny", "train", 3.0, None, None, None).sentence == "train tiny took 3 s"


class Away:
    """A store that answers at the ``times``-th call."""

    def __init__(self, times: int) -> None:
        self.times, self.calls = times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls < self.times:
            raise StoreUnreachable("no answer")
        return "here"


def test_a_store_that_comes_back_was_waited_for_and_one_that_does_not_is_given_up() -> None:
    now, told = [0.0], list[Event]()

    def sleep(seconds: float) -> None:
        now[0] += 100

    patience = Patience("tiny", "train", Notice(), [told.append], lambda: now[0], sleep)
    assert patience(Away(3)) == "here"
    assert [event.kind for event in told if isinstance(event, Problem)] == ["store", "store"]
    with pytest.raises(StoreAway, match="same command goes on") as raised:
        patience(Away(1000))
    assert raised.value.exit_status == 1
    assert now[0] >= STORE_SECONDS


def test_a_notice_ends_the_wait_for_a_store() -> None:
    notice = Notice()
    notice.give("signal", 90)
    with pytest.raises(StoreAway):
        Patience("tiny", "train", notice, [])(Away(2))


@pytest.mark.parametrize(("unattended", "attempted", "status"), [(False, False, 2), (True, False, 1), (False, True, 1)])
def test_a_store_that_is_away_is_bad_input_only_before_anything_was_begun_by_a_person(
    unattended: bool, attempted: bool, status: int, tmp_path: Path
) -> None:
    values: dict[str, Any] = dict.fromkeys(("max_dollars", "dollars_per_hour", "metrics_port"))
    values |= {"quiet": True, "no_metrics": True, "yes": False, "unattended": unattended}
    with pytest.raises((StoreUnreachable, StoreAway)) as raised, at_work(str(tmp_path), values, []) as work:
        work.attempted = attempted
        raise StoreUnreachable("no answer")
    assert raised.value.exit_status == status
