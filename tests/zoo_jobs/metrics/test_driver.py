"""The metrics of a driver: counters continue after a restart and count everything once."""

import math

import pytest
from prometheus_client import CollectorRegistry

from tests.support.simulated_runs import committed, started, totals
from zooforge.storage.stores.protocol import Traffic
from zooforge.zoo_jobs.events import Problem, Spent, StageEnded, UsageWritten
from zooforge.zoo_jobs.metrics.driver import RunMetrics
from zooforge.zoo_jobs.metrics.registry import METRICS
from zooforge.zoo_jobs.watching.eta import eta_seconds


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"zooforge_{name}", labels)


def begin(registry: CollectorRegistry, zoo: str, models: int = 8, epochs: int = 4, stage: str = "train") -> RunMetrics:
    """Metrics of a driver that has just started on an empty store."""
    metrics = RunMetrics(registry)
    metrics.start_from(totals(zoo, [0] * models, num_epochs=epochs, stage=stage))
    metrics(started(zoo, models=models, epochs=epochs, stage=stage))
    return metrics


def test_every_metric_of_a_zoo_is_there_before_the_first_commit() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    metrics.start_from(totals("tiny", [0] * 8, budget_dollars=1.0))
    metrics.start_from(totals("tiny-vd", [0] * 8, stage="sparsify"))
    names = {family.name.removeprefix("zooforge_") for family in registry.collect()}
    assert names == {row.name for row in METRICS if row.scope != "store"}
    for name in ("model_epochs_total", "samples_total"):
        assert sample(registry, name, zoo="tiny", stage="train") == 0
    assert sample(registry, "run_state", zoo="tiny", state="waiting") == 1
    assert sample(registry, "models", zoo="tiny", state="waiting") == 8


def test_counters_continue_after_a_restart_of_the_driver() -> None:
    first = begin(registry := CollectorRegistry(), "tiny")
    for epoch in range(3):
        first(committed("tiny", range(8), epoch))
    seen = sample(registry, "model_epochs_total", zoo="tiny", stage="train")
    second = RunMetrics(registry := CollectorRegistry())
    second.start_from(totals("tiny", [3] * 8))
    assert sample(registry, "model_epochs_total", zoo="tiny", stage="train") == seen == 24
    second(started("tiny", done=24))
    second(committed("tiny", range(8), 3))
    assert sample(registry, "model_epochs_total", zoo="tiny", stage="train") == 32
    assert sample(registry, "samples_total", zoo="tiny", stage="train") == 32_000
    assert sample(registry, "store_bytes_total", zoo="tiny", direction="write") == 320_000
    assert sample(registry, "models", zoo="tiny", state="training") == 8


def test_a_model_epoch_counts_once_whoever_commits_it_and_in_any_order_of_events() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    metrics.start_from(totals("tiny", [1] * 8))
    metrics(started("tiny", done=8))
    metrics.start_from(totals("tiny", [3] * 4 + [1] * 4))  # a rival continued the first four
    metrics(committed("tiny", range(4), 1))  # our own commit of the same part, known already
    metrics(committed("tiny", range(8), 2))  # new for the last four alone, two epochs each
    assert sample(registry, "model_epochs_total", zoo="tiny", stage="train") == 4 * 3 + 4 * 3
    metrics.start_from(totals("tiny", [1] * 8))  # an old snapshot lowers no counter
    assert sample(registry, "model_epochs_total", zoo="tiny", stage="train") == 24


def test_models_and_units_are_each_in_exactly_one_state() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    units = [(0, 2, 4), (1, 3), (5, 6, 7)]
    metrics.start_from(totals("tiny", [5, 5, 5, 2, 2, 0, 0, 0], units=units, faulty={1: "nan"}))
    values = {state: sample(registry, "models", zoo="tiny", state=state) for state in ("waiting", "training", "done")}
    assert values == {"waiting": 3, "training": 2, "done": 2}
    assert sample(registry, "models", zoo="tiny", state="faulty") == 1
    for state, count in (("waiting", 1), ("running", 2), ("committed", 0)):
        assert sample(registry, "units", zoo="tiny", stage="train", state=state) == count
    metrics(started("tiny"))
    for epoch in range(2, 5):
        metrics(committed("tiny", (3, 4), epoch))
    for epoch in range(5):
        faulty = {"inf": 2} if epoch == 3 else None
        metrics(committed("tiny", (5, 6, 7), epoch, faulty=faulty))
    metrics(StageEnded("tiny", "train", "finished"))
    assert sample(registry, "models", zoo="tiny", state="done") == 5
    assert sample(registry, "models", zoo="tiny", state="faulty") == 3
    assert sample(registry, "faulty_models_total", zoo="tiny", reason="inf") == 2
    assert sample(registry, "units", zoo="tiny", stage="train", state="committed") == 3
    assert sample(registry, "run_state", zoo="tiny", state="finished") == 1
    assert sample(registry, "run_state", zoo="tiny", state="live") == 0
    assert sample(registry, "eta_seconds", zoo="tiny", quantile="0.9") == 0


def test_accuracy_quantiles_are_over_the_newest_value_of_every_model() -> None:
    metrics = begin(registry := CollectorRegistry(), "tiny-vd", stage="sparsify")
    metrics(committed("tiny-vd", range(4), 0, stage="sparsify", accuracy=[0.1] * 4, sparsity=[0.0] * 4))
    metrics(committed("tiny-vd", (4, 5), 0, stage="sparsify", accuracy=[0.2, 0.9], sparsity=[0.5, 0.7]))
    metrics(committed("tiny-vd", (0, 1), 1, stage="sparsify", accuracy=[0.3, 0.4], sparsity=[0.2, 0.2]))
    low = sample(registry, "accuracy_ratio", zoo="tiny-vd", split="test", quantile="0.0")
    high = sample(registry, "accuracy_ratio", zoo="tiny-vd", split="test", quantile="1.0")
    assert (low, high) == (0.2, 0.9)
    assert sample(registry, "sparsity_ratio", zoo="tiny-vd", quantile="1.0") == 0.7
    assert sample(registry, "model_epochs_total", zoo="tiny-vd", stage="sparsify") == 8


def test_problems_and_costs_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    usage = {"preemptions": 3, "dollars": 10.0, "pod_seconds": 100.0, "committed_seconds": 80.0, "lost_epochs": 5}
    metrics.start_from(totals("tiny", [1] * 8, usage=usage, budget_dollars=20.0))
    metrics(Problem("tiny", "train", "preempted", "a worker had to leave"))
    metrics(Problem("tiny", "train", "store", "no answer"))  # its requests are counted by the store itself
    metrics(Problem("tiny", "train", "retried", "unit 0"))
    metrics(Spent("tiny", "train", lost_epochs=16, store_retries=1, read_bytes=1000))
    assert sample(registry, "preemptions_total", zoo="tiny") == 4
    assert sample(registry, "store_retries_total", zoo="tiny") == 1
    assert sample(registry, "lost_epochs_total", zoo="tiny") == 21
    assert sample(registry, "store_bytes_total", zoo="tiny", direction="read") == 1000
    assert sample(registry, "cost_dollars_total", zoo="tiny", outcome="committed") == 8.0
    assert sample(registry, "cost_dollars_total", zoo="tiny", outcome="wasted") == pytest.approx(2.0)
    assert sample(registry, "budget_dollars", zoo="tiny") == 20.0


def test_usage_records_lower_no_counter_and_count_nothing_twice() -> None:
    registry, traffic = CollectorRegistry(), Traffic()
    metrics = RunMetrics(registry, traffic)
    metrics.start_from(totals("tiny", [1] * 8, usage={"store_retries": 10, "dollars": 1.0}))
    metrics(started("tiny"))
    traffic.add(read=500, retries=3)
    metrics(Spent("tiny", "train", store_retries=2))
    assert sample(registry, "store_retries_total", zoo="tiny") == 15
    metrics(UsageWritten("tiny", "train", {"store_retries": 15, "read_bytes": 500, "dollars": 1.5}))
    assert sample(registry, "store_retries_total", zoo="tiny") == 15
    assert sample(registry, "store_bytes_total", zoo="tiny", direction="read") == 500
    assert sample(registry, "cost_dollars_total", zoo="tiny", outcome="wasted") == 1.5
    traffic.add(retries=1)
    metrics(started("tiny-vd", stage="sparsify"))
    traffic.add(retries=7)
    assert sample(registry, "store_retries_total", zoo="tiny") == 16
    assert sample(registry, "store_retries_total", zoo="tiny-vd") == 7


def test_the_time_left_is_an_interval_that_grows_while_nothing_is_committed() -> None:
    steady = [(0.0, 0), *((float(second), 10) for second in range(10, 201, 10))]
    low, high = eta_seconds(steady, 100, 200.0)
    assert low == pytest.approx(100, rel=0.3) and high == pytest.approx(100, rel=0.3)
    stalled_low, stalled_high = eta_seconds(steady, 100, 600.0)
    assert stalled_high > 3 * high and stalled_low > low
    assert all(math.isnan(seconds) for seconds in eta_seconds(steady[:3], 100, 40.0))
    assert eta_seconds([], 0, 0.0) == (0.0, 0.0)


def test_a_clock_that_jumps_an_hour_changes_the_last_commit_and_nothing_else() -> None:
    now = [1_000_000.0, 0.0]
    registry = CollectorRegistry()
    metrics = RunMetrics(registry, clock=lambda: now[0], monotonic=lambda: now[1])
    metrics.start_from(totals("tiny", [0] * 8, num_epochs=40))
    metrics(started("tiny", models=8, epochs=40))
    for epoch in range(20):
        now[0] += 3600 if epoch == 10 else 1
        now[1] += 1
        metrics(committed("tiny", range(8), epoch))
    now[0] -= 3600  # and is set back
    metrics(committed("tiny", range(8), 20))
    assert sample(registry, "last_commit_timestamp_seconds", zoo="tiny") == now[0]
    eta = sample(registry, "eta_seconds", zoo="tiny", quantile="0.9")
    assert eta is not None and eta < 40


def test_a_zoo_has_at_most_64_series() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    for number in range(10):
        metrics.start_from(totals(f"zoo-{number}-vd", [0] * 8, stage="sparsify", budget_dollars=1.0))
    assert sum(len(family.samples) for family in registry.collect()) <= 10 * 64
