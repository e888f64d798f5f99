"""The price of a stage is stated before it starts and corrected after a minute; a far dearer stage is stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_runs import SPEC
from zooforge.storage.errors import StoreUnreachable
from zooforge.zoo_jobs.commands.working import at_work
from zooforge.zoo_jobs.events import Event, PartCommitted, Problem, Repriced
from zooforge.zoo_jobs.planning.estimate import slot_seconds
from zooforge.zoo_jobs.planning.pricing import Calibration, Pace, Planned, StageResult, planned, rate_here, workers_here
from zooforge.zoo_jobs.planning.units import request, tasks, work_units
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.patience import POLICY, Patience, StoreAway

WANTED = request(SPEC, "0:64", 4)
NOWHERE: Mapping[str, str] = {}
TASKS = tasks(work_units(SPEC), WANTED, lambda model: 0, slots=2)


def plan(factor: float = 1.0, price: float | None = 3600.0, environment: Mapping[str, str] = NOWHERE) -> Planned:
    workers = workers_here(SPEC, "lanes", 2, price, environment)
    return planned(SPEC, TASKS, WANTED.last_part, workers, Pace(factor, factor, factor))


class Stage:
    """A calibration, and parts that take ``ratio`` times what was planned."""

    def __init__(self, price: float | None = 3600.0, cap: float | None = None, factor: float = 1.0) -> None:
        self.now, self.told, self.stopped = 0.0, list[Event](), list[str]()
        _, self.rate = rate_here(SPEC, "lanes", {})
        listeners = [self.told.append]
        self.calibration = Calibration(SPEC, plan(factor, price), cap, listeners, self.stopped.append, lambda: self.now)

    def commit(self, epochs: Sequence[int], ratio: float, at: float) -> None:
        assert self.rate is not None
        none, self.now = np.zeros(0), at
        seconds = ratio * slot_seconds(SPEC, self.rate, range(16), range(epochs[0], epochs[-1] + 1))
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


def test_a_stage_without_a_measured_rate_has_no_price() -> None:
    unknown = plan(environment={"ZOO_MACHINE": "my-laptop"})
    assert (unknown.seconds, unknown.dollars, unknown.range_seconds) == (None, None, None)
    assert "not measured" in unknown.sentence
    assert rate_here(SPEC, "stacked", {})[1] is None


def minutes(stage: Stage, ratios: Sequence[float]) -> None:
    """A part at second 0, then two in each minute: they take the minute's ratio times what the table says."""
    for number in range(2 * len(ratios) + 1):
        stage.commit([number + 1], ratios[max(0, number - 1) // 2], 30.0 * number)


def test_the_next_attempt_does_not_plan_with_a_first_minute_on_a_busy_machine() -> None:
    stage = Stage(price=None)
    minutes(stage, [3.0, *[1.0] * 19])
    (told,) = stage.told
    assert isinstance(told, Repriced) and told.ratio == pytest.approx(3.0)
    assert stage.calibration.factor == pytest.approx((3 * 3.0 + 38 * 1.0) / 41, rel=0.01)
    learnt = stage.calibration.to_json()
    assert (learnt["factor_low"], learnt["factor_high"]) == (pytest.approx(1.0), pytest.approx(3.0))


def test_a_plan_says_its_range_and_where_its_factor_comes_from() -> None:
    workers = workers_here(SPEC, "lanes", 2, None, {})
    ends = [
        {"engine": "lanes", "factor": 3.26, "factor_low": 3.26, "factor_high": 3.26, "factor_seconds": 64.0},
        {"engine": "sequential", "factor": 9.0},
        {"engine": "lanes", "factor": None},
    ]
    short = planned(SPEC, TASKS, WANTED.last_part, workers, Pace.measured(ends, "lanes"))
    table, fresh = plan().seconds, planned(SPEC, TASKS, WANTED.last_part, workers, Pace.measured([], "lanes"))
    assert table is not None
    assert short.range_seconds == (pytest.approx(table), pytest.approx(3.26 * table))
    assert "3.3 times the rate table, as the attempt before measured over 64 s of training" in short.sentence
    assert fresh.range_seconds == (pytest.approx(table), pytest.approx(3 * table))
    assert "rate table, which was measured at rest" in fresh.sentence
    long = Pace.measured([{**ends[0], "factor_low": 2.9, "factor_seconds": 4000.0}], "lanes")
    assert (long.low, long.high) == (2.9, 3.26)
    old = Pace.measured([{"engine": "lanes", "factor": 2.0}], "lanes")
    assert (old.low, old.factor, old.high) == (1.0, 2.0, 2.0)


def test_the_end_line_says_how_far_off_the_plan_was() -> None:
    def result(seconds: float, of: float | None, cost: float | None, price: float | None, finished: bool = True) -> str:
        expected = replace(plan(), seconds=of, dollars=price)
        return StageResult("tiny", "train", seconds, cost, expected, finished).sentence

    took = "train tiny took 5.2 min, planned 4.6 min (+13%); $1.20, planned $1.00 (+20%)"
    assert result(312.0, 276.0, 1.2, 1.0) == took
    assert result(9.0, 0.7, None, None) == "train tiny took 9 s, planned 0.7 s"
    assert result(114.0, 6060.0, 0.06, 3.38, False) == "train tiny took 114 s of 101 min that were planned"
    assert result(3.0, None, None, None) == "train tiny took 3 s"


class Away:
    """A store that answers at the ``times``-th call."""

    def __init__(self, times: int) -> None:
        self.times, self.calls = times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls < self.times:
            raise StoreUnreachable("no answer")
        return "here"


def test_the_driver_waits_for_a_store_that_comes_back_and_gives_up_one_that_does_not() -> None:
    now, told = [0.0], list[Event]()

    def sleep(seconds: float) -> None:
        now[0] += 100

    patience = Patience("tiny", "train", Notice(), [told.append], lambda: now[0], sleep)
    assert patience(Away(3)) == "here"
    assert [event.kind for event in told if isinstance(event, Problem)] == ["store", "store"]
    with pytest.raises(StoreAway, match="same command continues") as raised:
        patience(Away(1000))
    assert raised.value.exit_status == 1
    assert now[0] >= POLICY.budget_seconds


def test_a_notice_ends_the_wait_for_a_store() -> None:
    notice = Notice()
    notice.give("signal", 90)
    with pytest.raises(StoreAway):
        Patience("tiny", "train", notice, [])(Away(2))


@pytest.mark.parametrize(("unattended", "attempted", "status"), [(False, False, 2), (True, False, 1), (False, True, 1)])
def test_an_unreachable_store_is_bad_input_only_before_the_first_attempt_of_a_person(
    unattended: bool, attempted: bool, status: int, tmp_path: Path
) -> None:
    values: dict[str, Any] = dict.fromkeys(("max_dollars", "dollars_per_hour", "metrics_port"))
    values |= {"quiet": True, "no_metrics": True, "yes": False, "unattended": unattended}
    with pytest.raises((StoreUnreachable, StoreAway)) as raised, at_work(str(tmp_path), values, []) as work:
        work.attempted = attempted
        raise StoreUnreachable("no answer")
    assert raised.value.exit_status == status
