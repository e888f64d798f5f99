"""What a zoo shows to Prometheus: the facts, and the metric families made of them. The only list of names.

No label names a model, an epoch, a pod or a key, so the number of series grows with zoos alone: about 60 each.
"""

import bisect
import itertools
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from ..spec.zoo import NUMERICS_VERSION
from ..watching.totals import NO_QUANTILES, QUANTILES, UNIT_STATES, UNKNOWN

PREFIX = "zooforge_"
MODEL_STATES = ("waiting", "training", "done", "faulty")
RUN_STATES = ("waiting", "live", "stopped", "finished", "failed")
ETA_QUANTILES = (0.1, 0.9)
EPOCH_SECONDS = (0.05, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
COMMIT_SECONDS = (0.02, 0.1, 0.5, 2.0, 10.0, 60.0)

HELP = {
    "run_state": "Whether the run of the zoo is in this state, 1 or 0.",
    "models": "Models that were asked for, each in exactly one state.",
    "units": "Work units with models that were asked for, by what is committed of them.",
    "model_epochs": "Model-epochs in the store, each counted once whoever computed it.",
    "model_epochs_wanted": "Model-epochs that were asked for, epoch 0 included.",
    "samples": "Training samples of the committed model-epochs, summed over models.",
    "epoch_duration_seconds": "Wall time of one epoch of one task; measured by drivers, from their start on.",
    "commit_duration_seconds": "Wall time of one commit; measured by drivers, from their start on.",
    "preemptions": "Times that a worker had to leave or was lost.",
    "lost_epochs": "Model-epochs under way in a worker that left, failed or was lost, never committed.",
    "eta_seconds": "Seconds until the request is done, as an interval; not a number while no rate is known.",
    "last_commit_timestamp_seconds": "Time of the newest commit; before the first one, of the start of the run.",
    "cost_dollars": "Pod-seconds times price from pod start, by what became of the work.",
    "budget_dollars": "Most dollars that the run may cost; absent without a cap.",
    "store_bytes": "Bytes that the run read from and committed to the store.",
    "store_retries": "Requests to the store that had to be tried again.",
    "faulty_models": "Models that stopped being finite, by reason.",
    "faulty_expected_ratio": "Share of models that may become faulty, as the spec of the zoo says.",
    "accuracy_ratio": "Newest accuracy of the models that are finite, quantiles over the zoo.",
    "sparsity_ratio": "Newest share of pruned weights of the twins that are finite, quantiles over the zoo.",
}


@dataclass(slots=True)
class DurationCounts:
    """Durations by bucket; ``counts`` has one entry more than ``bounds``, for what is longer than all."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(self.bounds, seconds)] += times
        self.sum_seconds += seconds * times

    def cumulative(self) -> list[tuple[str, float]]:
        bounds = [*(str(bound) for bound in self.bounds), "+Inf"]
        return [(bound, float(count)) for bound, count in zip(bounds, itertools.accumulate(self.counts), strict=True)]


@dataclass(slots=True)
class ZooFacts:
    """One zoo as it is now. ``stage`` is what makes its models: train, or sparsify for twins.

    Attributes:
        wanted: model-epochs of the request.
        model_epochs: by stage; what vectorize and verify did counts model-epochs sealed and checked.
        eta_seconds: by ``ETA_QUANTILES``.
        last_commit: Unix time.
        accuracy: ``QUANTILES`` by split.
        budget_dollars: None without a cap.
        expected_faulty_ratio: as the zoo's spec says; not a number before that is known, which alerts nobody.
    """

    zoo: str
    stage: str = "train"
    state: str = "waiting"
    models: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)
    model_epochs: Mapping[str, int] = field(default_factory=dict)
    wanted: int = 0
    samples: int = 0
    faulty: Mapping[str, int] = field(default_factory=dict)
    epoch_seconds: DurationCounts = field(default_factory=lambda: DurationCounts(EPOCH_SECONDS))
    commit_seconds: DurationCounts = field(default_factory=lambda: DurationCounts(COMMIT_SECONDS))
    read_bytes: int = 0
    written_bytes: int = 0
    store_retries: int = 0
    preemptions: int = 0
    lost_epochs: int = 0
    eta_seconds: tuple[float, ...] = (UNKNOWN,) * len(ETA_QUANTILES)
    committed_dollars: float = 0.0
    wasted_dollars: float = 0.0
    last_commit: float = 0.0
    accuracy: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"test": NO_QUANTILES})
    sparsity: tuple[float, ...] = NO_QUANTILES
    expected_faulty_ratio: float = UNKNOWN
    budget_dollars: float | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        return (self.stage, "vectorize", "verify")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Twins may also have a parent that was faulty."""
        return ("nan", "inf", "parent") if self.stage == "sparsify" else ("nan", "inf")


_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily, HistogramMetricFamily, SummaryMetricFamily)


class _Scrape:
    """Families under way, in the order of their first sample."""

    def __init__(self) -> None:
        self.families: dict[str, Metric] = {}

    def gauge(self, name: str, labels: Mapping[str, str], value: float) -> None:
        family = self._family(GaugeMetricFamily, name, labels)
        family.add_metric(list(labels.values()), value)

    def counter(self, name: str, labels: Mapping[str, str], value: float) -> None:
        family = self._family(CounterMetricFamily, name, labels)
        family.add_metric(list(labels.values()), value)

    def histogram(self, name: str, labels: Mapping[str, str], value: DurationCounts) -> None:
        family = self._family(HistogramMetricFamily, name, labels)
        family.add_metric(list(labels.values()), buckets=value.cumulative(), sum_value=value.sum_seconds)

    def quantiles(
        self, name: str, labels: Mapping[str, str], quantiles: Iterable[float], values: Iterable[float]
    ) -> None:
        """A summary without count and sum: its quantiles are of models, or of what may happen, not of observations."""
        family = self._family(SummaryMetricFamily, name, labels)
        for quantile, value in zip(quantiles, values, strict=True):
            family.add_sample(family.name, {**labels, "quantile": str(quantile)}, value)

    def _family(self, kind: type[_Family], name: str, labels: Mapping[str, str]) -> _Family:
        found = self.families.get(name)
        if found is None:
            found = self.families[name] = kind(PREFIX + name, HELP[name], labels=list(labels))
        assert isinstance(found, kind)
        return found


def families(zoos: Iterable[ZooFacts]) -> Iterator[Metric]:
    """Every family of ``zoos``; each name comes once, with all its samples."""
    scrape = _Scrape()
    for facts in zoos:
        _add_progress(scrape, facts)
        _add_cost(scrape, facts)
        _add_science(scrape, facts)
    yield from scrape.families.values()


def _add_progress(scrape: _Scrape, facts: ZooFacts) -> None:
    zoo = {"zoo": facts.zoo}
    of_stage = zoo | {"stage": facts.stage}
    for state in RUN_STATES:
        scrape.gauge("run_state", zoo | {"state": state}, float(facts.state == state))
    for state in MODEL_STATES:
        scrape.gauge("models", zoo | {"state": state}, facts.models.get(state, 0))
    for state in UNIT_STATES:
        scrape.gauge("units", of_stage | {"state": state}, facts.units.get(state, 0))
    for stage in facts.stages:
        scrape.counter("model_epochs", zoo | {"stage": stage}, facts.model_epochs.get(stage, 0))
    scrape.gauge("model_epochs_wanted", of_stage, facts.wanted)
    scrape.counter("samples", of_stage, facts.samples)
    scrape.histogram("epoch_duration_seconds", zoo, facts.epoch_seconds)
    scrape.histogram("commit_duration_seconds", zoo, facts.commit_seconds)
    scrape.quantiles("eta_seconds", zoo, ETA_QUANTILES, facts.eta_seconds)
    scrape.gauge("last_commit_timestamp_seconds", zoo, facts.last_commit)


def _add_cost(scrape: _Scrape, facts: ZooFacts) -> None:
    zoo = {"zoo": facts.zoo}
    for outcome, dollars in (("committed", facts.committed_dollars), ("wasted", facts.wasted_dollars)):
        scrape.counter("cost_dollars", zoo | {"outcome": outcome}, dollars)
    if facts.budget_dollars is not None:
        scrape.gauge("budget_dollars", zoo, facts.budget_dollars)
    scrape.counter("preemptions", zoo, facts.preemptions)
    scrape.counter("lost_epochs", zoo, facts.lost_epochs)
    scrape.counter("store_bytes", zoo | {"direction": "read"}, facts.read_bytes)
    scrape.counter("store_bytes", zoo | {"direction": "write"}, facts.written_bytes)
    scrape.counter("store_retries", zoo, facts.store_retries)


def _add_science(scrape: _Scrape, facts: ZooFacts) -> None:
    zoo = {"zoo": facts.zoo}
    for reason in facts.reasons:
        scrape.counter("faulty_models", zoo | {"reason": reason}, facts.faulty.get(reason, 0))
    scrape.gauge("faulty_expected_ratio", zoo, facts.expected_faulty_ratio)
    for split, accuracy in facts.accuracy.items():
        scrape.quantiles("accuracy_ratio", zoo | {"split": split}, QUANTILES, accuracy)
    if facts.stage == "sparsify":
        scrape.quantiles("sparsity_ratio", zoo, QUANTILES, facts.sparsity)


def build_info() -> Metric:
    try:
        release = version("zooforge")
    except PackageNotFoundError:  # a clone that was never installed
        release = "unknown"
    labels = {"version": release, "numerics_version": str(NUMERICS_VERSION), "python": platform.python_version()}
    return InfoMetricFamily(f"{PREFIX}build", "What serves these metrics.", value=labels)


def store_free_bytes(free_bytes: float) -> Metric:
    return GaugeMetricFamily(
        f"{PREFIX}store_free_bytes", "Bytes that the store can still take; absent where it does not say.", free_bytes
    )


def store_read_timestamp(seconds: float) -> Metric:
    text = "Time at which the exporter last read every run of the store; 0 before the first time."
    return GaugeMetricFamily(f"{PREFIX}store_read_timestamp_seconds", text, seconds)
