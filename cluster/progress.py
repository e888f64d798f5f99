"""How far runs are, from the exporter's metrics. Pure."""

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

SAMPLE = re.compile(r"^(?P<name>zooforge_[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(?P<key>[a-z_]+)="(?P<value>(?:[^"\\]|\\.)*)"')


@dataclass(slots=True)
class Progress:
    """One zoo's state, models by state, and the seconds to its end (quantile -> seconds)."""

    zoo: str
    state: str = ""
    models: dict[str, int] = field(default_factory=dict)
    eta_seconds: dict[str, float] = field(default_factory=dict)
    dollars: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse(text: str) -> dict[str, Progress]:
    """What an exporter's page says of each zoo."""
    found: dict[str, Progress] = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match is None:
            continue
        labels = {m["key"]: m["value"] for m in LABEL.finditer(match["labels"] or "")}
        zoo, value = labels.get("zoo"), _number(match["value"])
        if zoo is None or not math.isfinite(value):
            continue
        one = found.setdefault(zoo, Progress(zoo))
        match match["name"]:
            case "zooforge_run_state" if value == 1 and "state" in labels:
                one.state = labels["state"]
            case "zooforge_models" if "state" in labels:
                one.models[labels["state"]] = int(value)
            case "zooforge_eta_seconds" if "quantile" in labels:
                one.eta_seconds[labels["quantile"]] = value
            case "zooforge_cost_dollars_total" | "zooforge_cost_dollars" if "outcome" in labels:
                one.dollars[labels["outcome"]] = value
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def sentence(one: Progress) -> str:
    """One line for a person."""
    models = ", ".join(f"{count:,} {state}" for state, count in one.models.items() if count)
    eta = ""
    if one.eta_seconds and one.state == "live":
        low, high = min(one.eta_seconds.values()), max(one.eta_seconds.values())
        eta = f"; ends in {low / 60:.0f} to {high / 60:.0f} min"
    return f"{one.zoo}: {one.state or 'unknown'}; models: {models or 'none yet'}{eta}"
