"""`zoo benchmark`: predicts properties of models from their weights."""

import json
import math
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..quantities import table
from .options import json_option, print_json
from .working import zoo_and_store

MOST_EPOCHS = 11


@click.command("benchmark")
@zoo_and_store
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where benchmark.json goes.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="Default: the current version.")
@click.option("--epochs", metavar="A:B", help=f"Epochs of the states; default: {MOST_EPOCHS} that are evenly spread.")
@click.option(
    "--on", "others", metavar="NAME,...", help="Further zoos, names or addresses, to test on what NAME taught."
)
@json_option
def command(
    name: str, store: str, out: Path, version: int | None, epochs: str | None, others: str | None, as_json: bool
) -> None:
    """Predict accuracy, gap, epoch and hyperparameters of NAME's models from their weights, and score the predictions.

    Uses ridge and softmax regression, as the reference does for its zoos. They are fitted on the models of the train
    split, with the penalty that is best on val. Features are the weights, and statistics of each tensor. The score is
    R squared, or the share of right answers.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: a file is there; name a folder")
    from zooforge.storage.commands.options import zoo_address
    from zooforge.storage.read.selection import select
    from zooforge.storage.zoo import Zoo as Published
    from zooforge.storage.zoo import open_zoo

    from ..benchmark.linear_models import benchmark, read_states
    from ..report.read import spread

    def opened(zoo: str, number: int | None = None) -> Published:
        return open_zoo(zoo_address(zoo, store), number)

    def chosen(zoo: Published) -> list[int]:
        selected = select(epochs, zoo.epochs, "epochs")
        return spread(zoo.epochs, MOST_EPOCHS) if selected is None else list(selected)

    published = opened(name, version)
    further = [opened(other.strip()) for other in others.split(",")] if others else []
    used = chosen(published)
    states = read_states(published, used)
    elsewhere = [read_states(zoo, chosen(zoo)) for zoo in further]
    scores = benchmark(states, elsewhere, say=lambda line: click.echo(line, err=True))
    value: dict[str, Any] = {
        "zoo": name,
        "version": published.version,
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
    out.mkdir(parents=True, exist_ok=True)
    (out / "benchmark.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json(value)
        return
    rows = [["property", "features", "score", "train", "val", "test", *(zoo.name for zoo in further)]]
    for score in scores:
        kind = "R2" if score.kind == "regression" else "accuracy"
        shown = [_shown(score.by_split[split]) for split in ("train", "val", "test")]
        there = [_shown(score.elsewhere[zoo.name][0]) if zoo.name in score.elsewhere else "" for zoo in further]
        rows.append([score.target, score.features, kind, *shown, *there])
    for line in table(rows, "<<<>>>" + ">" * len(further)):
        click.echo(line)
    left = f", {states.num_left_out:,} left out (not finite, or a weight beyond 5)" if states.num_left_out else ""
    counts = ", ".join(f"{count:,} {split}" for split, count in value["num_states"].items())
    click.echo(f"states: {counts}{left}; {out / 'benchmark.json'}")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _shown(value: Any) -> str:
    return "" if not math.isfinite(value) else f"{value:.3f}"
