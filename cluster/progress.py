"""Reads the progress of runs from the exporter's metrics. No requests, no clock."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from .errors import ClusterError


@dataclass(slots=True)
class Progress:
    """State of one zoo, its models by state, and the seconds until it ends (quantile -> seconds)."""

    zoo: str
    state: str = ""
    models: dict[str, int] = field(default_factory=dict)
    eta_seconds: dict[str, float] = field(default_factory=dict)
    dollars: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse(text: str) -> dict[str, Progress]:
    """The progress of each zoo on an exporter's page. Raises ClusterError if the text is not a page of metrics."""
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (ValueError, LookupError) as error:
        raise ClusterError(f"the exporter's page is not in Prometheus' text format ({str(error)[:100]!r})") from None
    zoos: dict[str, Progress] = {}
    for sample in samples:
        labels, value = sample.labels, float(sample.value)
        if "zoo" not in labels or not sample.name.startswith("zooforge_") or not math.isfinite(value):
            continue
        zoo = zoos.setdefault(labels["zoo"], Progress(labels["zoo"]))
        match sample.name:
            case "zooforge_run_state" if value == 1 and "state" in labels:
                zoo.state = labels["state"]
            case "zooforge_models" if "state" in labels:
                zoo.models[labels["state"]] = int(value)
            case "zooforge_eta_seconds" if "quantile" in labels:
                zoo.eta_seconds[labels["quantile"]] = value
            case "zooforge_cost_dollars_total" | "zooforge_cost_dollars" if "outcome" in labels:
                zoo.dollars[labels["outcome"]] = value
    return zoos


def sentence(zoo: Progress) -> str:
    """The progress in one line."""
    models = ", ".join(f"{count:,} {state}" for state, count in zoo.models.items() if count)
    eta = ""
    if zoo.eta_seconds and zoo.state == "live":
        low, high = min(zoo.eta_seconds.values()), max(zoo.eta_seconds.values())
        eta = f"; ends in {low / 60:.0f} to {high / 60:.0f} min"
    return f"{zoo.zoo}: {zoo.state or 'unknown'}; models: {models or 'none yet'}{eta}"
