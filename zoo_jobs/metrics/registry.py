"""The registry of Prometheus metrics: one row each, from which HELP, docs/metrics.md and tests follow.

No label names a model, an epoch, a pod or a key, so the number of series grows with zoos alone: about 60 each.
"""

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from prometheus_client.core import Metric

from ..spec.blocks import NUMERICS_VERSION
from ..watching.totals import QUANTILES

PREFIX = "zooforge_"
RUN_STATES = ("waiting", "live", "stopped", "finished", "failed")
ETA_QUANTILES = (0.1, 0.9)
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"

Type = Literal["gauge", "counter", "histogram", "summary", "info"]
_SUFFIX = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric.

    Attributes:
        scope: what has a value of it: each zoo, the store that the exporter reads, or the process that serves.
        name: without the prefix ``zooforge_``, and without the ``_total`` of a counter and the ``_info`` of an info.
        type: a summary here has quantiles alone, without count and sum: they are quantiles over models or forecasts,
            not over observations.
        help: one sentence or two, for HELP and for docs/metrics.md.
        labels: their names, but for ``zoo``, which every metric of a zoo has.
        value: called with the `ZooMetrics`, the `StoreMetrics`, or None for the process. Returns a number (for a
            histogram, a `prometheus_client.Histogram`) or, where there are labels, a mapping from label values to
            numbers; None and empty mappings give no sample.
    """

    scope: Literal["zoo", "store", "process"]
    name: str
    type: Type
    help: str
    labels: tuple[str, ...]
    value: Callable[[Any], Any]

    @property
    def exposed_name(self) -> str:
        """The name in Prometheus; a histogram has three series whose names begin with it."""
        return f"{PREFIX}{self.name}{_SUFFIX.get(self.type, '')}"


def _quantiles(quantiles: Iterable[float], values: Iterable[float]) -> dict[float, float]:
    return dict(zip(quantiles, values, strict=True))


def _build(_: None) -> dict[tuple[str, ...], float]:
    try:
        release = version("zooforge")
    except PackageNotFoundError:  # a clone that was never installed
        release = "unknown"
    return {(release, str(NUMERICS_VERSION), platform.python_version()): 1}


METRICS = (
    MetricRow("zoo", "run_state", "gauge",
        "1 for the state that the run is in, else 0: waiting (for a driver), live, stopped, finished, failed.",
        ("state",), lambda zoo: {state: zoo.state == state for state in RUN_STATES}),
    MetricRow("zoo", "models", "gauge",
        "Models of the request by state: waiting, training, done, faulty. Each model is in exactly one.",
        ("state",), lambda zoo: zoo.counts.models),
    MetricRow("zoo", "units", "gauge",
        "Work units with models of the request: waiting, running (a part is committed), committed (all of them).",
        ("stage", "state"), lambda zoo: {(zoo.stage, state): n for state, n in zoo.counts.num_units.items()}),
    MetricRow("zoo", "model_epochs", "counter",
        "Model-epochs in the store, each counted once; vectorize: in the published version; verify: read back.",
        ("stage",), lambda zoo: {
            zoo.stage: zoo.counts.model_epochs, "vectorize": zoo.sealed_states, "verify": zoo.usage["verified_epochs"]
        }),
    MetricRow("zoo", "model_epochs_wanted", "gauge",
        "Model-epochs of the request, epoch 0 included.",
        ("stage",), lambda zoo: {zoo.stage: zoo.counts.wanted}),
    MetricRow("zoo", "samples", "counter",
        "Training samples of the committed model-epochs, summed over models.",
        ("stage",), lambda zoo: {zoo.stage: zoo.samples}),
    MetricRow("zoo", "epoch_duration_seconds", "histogram",
        "Wall time of one epoch of one task, measured by the driver since its start.",
        (), lambda zoo: zoo.epoch_seconds),
    MetricRow("zoo", "commit_duration_seconds", "histogram",
        "Wall time of the upload of one part and its record, measured by the driver since its start.",
        (), lambda zoo: zoo.commit_seconds),
    MetricRow("zoo", "eta_seconds", "summary",
        "Seconds until the request is done, at the fastest (0.1) and the slowest (0.9) recent rate; NaN without one.",
        ("quantile",), lambda zoo: _quantiles(ETA_QUANTILES, zoo.eta_seconds)),
    MetricRow("zoo", "last_commit_timestamp_seconds", "gauge",
        "Unix time of the newest commit; before the first commit, of the start of the run.",
        (), lambda zoo: zoo.last_commit),
    MetricRow("zoo", "cost_dollars", "counter",
        "Pod-seconds times price since the pods started: committed or wasted. Work in progress is in neither until "
        "it is committed or lost.",
        ("outcome",), lambda zoo: {"committed": zoo.committed_dollars, "wasted": zoo.wasted_dollars}),
    MetricRow("zoo", "budget_dollars", "gauge",
        "The most dollars that the run may cost; absent without a cap.",
        (), lambda zoo: zoo.budget_dollars),
    MetricRow("zoo", "preemptions", "counter",
        "Workers that had to leave or were lost.",
        (), lambda zoo: zoo.usage["preemptions"]),
    MetricRow("zoo", "lost_epochs", "counter",
        "Model-epochs in progress in a worker that left, failed or was lost, and so never committed.",
        (), lambda zoo: zoo.usage["lost_epochs"]),
    MetricRow("zoo", "store_bytes", "counter",
        "Bytes that the run committed to the store (write) and that driver and workers read from it (read).",
        ("direction",), lambda zoo: {"read": zoo.usage["read_bytes"], "write": zoo.written_bytes}),
    MetricRow("zoo", "store_retries", "counter",
        "Requests to the store that driver and workers had to repeat. Tasks that were tried again are not counted.",
        (), lambda zoo: zoo.usage["store_retries"]),
    MetricRow("zoo", "faulty_models", "counter",
        "Models with a weight that is nan or inf; for twins also those with a faulty parent.",
        ("reason",), lambda zoo: {reason: zoo.faulty.get(reason, 0) for reason in zoo.faulty_reasons}),
    MetricRow("zoo", "faulty_expected_ratio", "gauge",
        "Share of models that may become faulty: expected_faulty_ratio of the spec. The alert fires at twice it.",
        (), lambda zoo: zoo.expected_faulty_ratio),
    MetricRow("zoo", "accuracy_ratio", "summary",
        "Newest test accuracy of the finite models: minimum, quartiles and maximum over the zoo.",
        ("split", "quantile"), lambda zoo: {("test", q): v for q, v in _quantiles(QUANTILES, zoo.accuracy).items()}),
    MetricRow("zoo", "sparsity_ratio", "summary",
        "Newest share of pruned weights of the finite twins: minimum, quartiles and maximum over the zoo.",
        ("quantile",), lambda zoo: _quantiles(QUANTILES, zoo.sparsity) if zoo.stage == "sparsify" else {}),
    MetricRow("store", "store_free_bytes", "gauge",
        "Bytes that the store can still take; absent where the store does not know.",
        (), lambda store: store.free_bytes),
    MetricRow("store", "store_read_timestamp_seconds", "gauge",
        "Unix time at which the exporter last read every run of the store; 0 before the first time.",
        (), lambda store: store.read_seconds),
    MetricRow("process", "build", "info",
        "Always 1; the labels say which release serves these metrics.",
        ("version", "numerics_version", "python"), _build),
)  # fmt: skip


Samples = list[tuple[MetricRow, dict[str, str], Any]]
"""(metric, labels, value) of one scope."""


def samples(scope: str, source: Any = None, labels: Mapping[str, str] | None = None) -> Samples:
    """The values of every metric of ``scope`` for ``source``, with ``labels`` added to each sample."""
    collected: Samples = []
    for row in METRICS:
        if row.scope != scope or (value := row.value(source)) is None:
            continue
        for key, number in (value if row.labels else {(): value}).items():
            values = key if isinstance(key, tuple) else (key,)
            own = {name: str(text) for name, text in zip(row.labels, values, strict=True)}
            collected.append((row, {**(labels or {}), **own}, number if row.type == "histogram" else float(number)))
    return collected


def families(parts: Iterable[Samples]) -> Iterator[Metric]:
    """The metric families of all ``parts``; each name comes once, with all its samples."""
    made: dict[str, Metric] = {}
    for part in parts:
        for row, labels, value in part:
            if row.name not in made:
                made[row.name] = Metric(PREFIX + row.name, row.help, row.type)
            if row.type == "histogram":
                for sample in (sample for family in value.collect() for sample in family.samples):
                    suffix = sample.name.rpartition("_")[2]
                    if suffix != "created":
                        name = f"{row.exposed_name}_{suffix}"
                        made[row.name].add_sample(name, {**labels, **sample.labels}, sample.value)
            else:
                made[row.name].add_sample(row.exposed_name, labels, value)
    yield from made.values()


def table() -> str:
    """The metrics as a table in Markdown."""
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for row in METRICS:
        labels = ", ".join((*(("zoo",) if row.scope == "zoo" else ()), *row.labels))
        lines.append(f"| `{row.exposed_name}` | {row.type} | {labels} | {row.help} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """``text`` of a document with its table of metrics, which stands between two comments, written again."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text(encoding="utf-8")), encoding="utf-8")
