"""`zoo benchmark`: predicts properties of models from their weights, by named protocols."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..benchmark.methods.registry import FLOOR, METHODS
from ..benchmark.protocols.registry import PROTOCOLS
from ..errors import InputError, unknown
from ..quantities import table
from .options import FOLDER, json_option, print_json
from .working import zoo_and_store

FILE = click.Path(path_type=Path)


@click.command("benchmark")
@zoo_and_store
@click.option("--protocol", default="reference", show_default=True, help=f"{', '.join(PROTOCOLS)}.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Where JSON, Markdown and plots go.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="Default: the current version.")
@click.option("--epochs", metavar="A:B", help="Epochs of the states; default: as the protocol says.")
@click.option("--on", "others", metavar="NAME,...", help="Further zoos, names or addresses, to test on.")
@click.option("--methods", metavar="NAME,...", help=f"{', '.join(METHODS)}, or all; default: those that are quick.")
@click.option(
    "--method", "plugins", multiple=True, metavar="FILE.py:FUNCTION",
    help="Another method, fit(states, labels) -> predict; repeatable.",
)  # fmt: skip
@click.option("--seeds", "num_seeds", type=click.IntRange(1, 100), metavar="N", help="Default: 5.")
@click.option(
    "--thresholds", metavar="A,...", help="Test accuracies that models must reach; default: 0,0.2,0.4,0.6,0.8."
)
@click.option("--weight-threshold", type=float, metavar="X", help="Leave out states with a weight beyond X.")
@click.option("--splits", type=click.Choice(["drawn", "recorded"]), help="By each seed (default), or those of the zoo.")
@click.option("--first", type=click.IntRange(0), metavar="K", help="Epochs to forecast from; default: a quarter.")
@click.option("--order", type=FILE, metavar="FILE", help="Order of the rows of Google's matrix, as published.")
@click.option("--samples", type=FILE, metavar="DIR", help="Generated networks, safetensors files.")
@click.option("--images", type=FILE, metavar="FILE", help="Images; default: those published with the zoo.")
@click.option("--activation", metavar="NAME", help="Of the generated networks, where the zoo has several.")
@click.option("--against", type=FILE, metavar="FILE", help="JSON of an earlier run, to compare with.")
@json_option
def command(
    name: str, store: str, protocol: str, out: Path | None, version: int | None, as_json: bool, **options: Any
) -> None:
    """Predict properties of NAME's models from their weights, and score the predictions.

    docs/benchmarks.md describes the protocols: data, splits, methods, scores, and what is left out.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    row = PROTOCOLS[protocol]
    given = {key: value for key, value in options.items() if value not in (None, ())}
    for key in given:
        if key not in row.options:
            raise InputError(f"{_option(key)}: protocol {protocol} does not take it; `zoo benchmark --help` lists more")
    from zooforge.storage.commands.options import zoo_address
    from zooforge.storage.zoo import open_zoo

    from ..benchmark.against import compared, read_recorded
    from ..benchmark.request import Request

    against, others = given.pop("against", None), given.pop("others", "")
    recorded = read_recorded(against, protocol) if against is not None else None
    if "methods" in row.options:
        given["methods"] = _methods(given.pop("methods", None), given.pop("plugins", ()))
    given["seeds"] = range(given.pop("num_seeds", 5))
    if "thresholds" in given:
        given["thresholds"] = _thresholds(given["thresholds"])
    request = Request(
        zoo=open_zoo(zoo_address(name, store), version),
        store=store,
        others=[open_zoo(zoo_address(other.strip(), store)) for other in others.split(",") if other.strip()],
        say=lambda line: click.echo(line, err=True),
        **given,
    )
    for zoo in (request.zoo, *request.others):
        if zoo.task["name"] not in row.tasks:
            takes = " or ".join(row.tasks)
            raise InputError(f"protocol {protocol} is about {takes}; the task of {zoo.name} is {zoo.task['name']}")
    report = row.load()(request)
    if out is not None:
        stem = "benchmark" if protocol == "reference" else f"benchmark-{protocol}"
        report.write(out, stem, f"{name}: {protocol}")
    if as_json:
        print_json(report.value)
    else:
        for line in report.lines():
            click.echo(line)
    if recorded is not None:
        rows, notes = compared(report, recorded)
        for line in [*table(rows, "<><<<>>><"), *notes]:
            click.echo(line, err=as_json)


def _option(key: str) -> str:
    names = {"others": "on", "plugins": "method", "num_seeds": "seeds"}
    return f"--{names.get(key, key).replace('_', '-')}"


def _methods(names: str | None, plugins: Sequence[str]) -> dict[str, Any]:
    """The methods by name, the floor always first."""
    from ..benchmark.methods.plugin import load_plugin

    if names == "all":
        chosen = list(METHODS)
    elif names is None:
        chosen = [name for name, method in METHODS.items() if method.quick]
    else:
        chosen = [FLOOR, *(name.strip() for name in names.split(",") if name.strip())]
    for name in chosen:
        if name not in METHODS:
            raise unknown("method", name, [*METHODS, "all"])
    loaded = dict(load_plugin(text) for text in plugins)
    if len(loaded) < len(plugins):
        raise InputError("--method: two of the methods have one name")
    return {**{name: METHODS[name].load() for name in dict.fromkeys(chosen)}, **loaded}


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(0 <= value < 1 for value in values):
        raise InputError(f"--thresholds {text}: expected test accuracies from 0 to below 1, e.g. 0,0.4,0.8")
    return tuple(sorted(set(values)))
