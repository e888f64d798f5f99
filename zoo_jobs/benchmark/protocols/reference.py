"""The reference's own benchmark of its zoos: every property that varies, from states of many epochs, by linear models.

Source: Schürholt et al. (2022), arXiv:2209.14764, and its code; docs/benchmarks.md compares its scores with ours.
"""

import math
from typing import Any

from zooforge.storage.read.selection import select
from zooforge.storage.zoo import Zoo as Published

from ...report.read import spread
from ..linear_models import benchmark, read_states
from ..request import Request
from ..tables import Report

MOST_EPOCHS = 11


def run(request: Request) -> Report:
    def chosen(zoo: Published) -> list[int]:
        selected = select(request.epochs, zoo.epochs, "epochs")
        return spread(zoo.epochs, MOST_EPOCHS) if selected is None else list(selected)

    used = chosen(request.zoo)
    states = read_states(request.zoo, used)
    elsewhere = [read_states(zoo, chosen(zoo)) for zoo in request.others]
    scores = benchmark(states, elsewhere, say=request.say)
    value: dict[str, Any] = {
        "zoo": request.zoo.name,
        "version": request.zoo.version,
        "epochs": used,
        "num_states": {split: len(states.of_split(split)) for split in ("train", "val", "test")},
        "num_left_out": states.num_left_out,
        "scores": [
            {
                "target": score.target,
                "kind": score.kind,
                "features": score.features,
                "penalty": score.penalty,
                **{split: _finite(value) for split, value in score.by_split.items()},
                "elsewhere": {
                    zoo: {"test": _finite(value), "kendall_tau": _finite(tau)}
                    for zoo, (value, tau) in score.elsewhere.items()
                },
            }
            for score in scores
        ],
    }
    names = [zoo.name for zoo in request.others]
    rows = [["property", "features", "score", "train", "val", "test", *names]]
    for score in scores:
        kind = "R2" if score.kind == "regression" else "accuracy"
        shown = [_shown(score.by_split[split]) for split in ("train", "val", "test")]
        there = [_shown(score.elsewhere[name][0]) if name in score.elsewhere else "" for name in names]
        rows.append([score.target, score.features, kind, *shown, *there])
    left = f", {states.num_left_out:,} left out (not finite, or a weight beyond 5)" if states.num_left_out else ""
    counts = ", ".join(f"{count:,} {split}" for split, count in value["num_states"].items())
    return Report(value, rows, "<<<>>>" + ">" * len(names), [f"states: {counts}{left}"])


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _shown(value: Any) -> str:
    return "" if not math.isfinite(value) else f"{value:.3f}"
