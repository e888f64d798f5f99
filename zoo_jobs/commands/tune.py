"""`zoo tune`: searches ranges of hyperparameters, and proposes a grid."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import yaml

from ..catalogue import entries
from ..errors import InputError
from ..quantities import table
from ..running.slots import ray_environment
from ..spec.grid import rows
from ..spec.own_code import OwnCode
from ..spec.twins import TwinSpec
from ..tuning.search_spec import Trial, TuneSpec, best, draws, fixed, proposal, trial_zoo
from .options import json_option, print_json
from .show import writable

SHOWN = 5


@click.command("tune")
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC")
@click.option("--engine", default="auto", show_default=True, help="auto, lanes, stacked or sequential.")
@click.option("--ray", default="auto", show_default=True, help="auto, local, or the address of a cluster.")
@click.option("--slots", type=click.IntRange(1), help="Trials at once on this machine; default: its CPUs.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the proposed zoo there as well.")
@click.option("--trials", "trials_out", type=click.Path(path_type=Path), metavar="FILE",
              help="Write every trial there, as CSV; default: NAME.trials.csv, in --out's folder or here.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be tried, and try nothing.")
@json_option
def command(
    spec: Path,
    engine: str,
    ray: str,
    slots: int | None,
    out: Path | None,
    trials_out: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Try hyperparameters from the ranges in SPEC, a YAML file, and propose a grid for a zoo.

    Every trial is one model, judged by its accuracy on the validation split; Ray Tune ends the worse ones early.
    Only what SPEC names under `ranges` is searched; every other axis has the zoo's first value. All trials are written
    to a file. The proposal is printed as a zoo's YAML: check it, `zoo plan FILE`, `zoo run FILE`.
    """
    try:
        text = spec.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{spec}: no such file; docs/how-to/search-a-grid.md shows what a search is written like"
        ) from None
    search_for = TuneSpec.from_yaml(text, str(spec))
    base = entries.resolve(search_for.zoo)
    if isinstance(base, TwinSpec):
        raise InputError(f"{spec}: zoo: {base.name} are twins; a grid belongs to a zoo that is grown from one")
    if base.draws is not None:
        raise InputError(
            f"{spec}: zoo: the hyperparameters of {base.name} are drawn; a search needs the first of a grid"
        )
    if isinstance(base.architecture, OwnCode):
        raise InputError(f"{spec}: zoo: the network of {base.name} is code, which a search does not run")
    if not base.split.val:
        raise InputError(f"{spec}: zoo: {base.name} has no validation split to judge by")
    trials_out = trials_out or (out.parent if out is not None else Path()) / f"{search_for.name}.trials.csv"
    for option, path in (("--out", out), ("--trials", trials_out)):
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise InputError(f"{option} {path}: {'a folder' if path.is_dir() else f'no folder {path.parent}'}")
    tried = draws(search_for, base)
    same = "; ".join(f"{axis} {_short(value)}" for axis, value in fixed(search_for, base).items())
    searched = search_for.ranges.searched
    click.echo(f"searched: {', '.join(searched)}; fixed: {same or 'nothing'}", err=True)
    if dry_run:
        for values in tried:
            click.echo(", ".join(f"{axis} {_short(values[axis])}" for axis in searched))
        return
    from ..data.prepare import load
    from ..data.sources import default_cache
    from ..engines.choose import choose
    from ..running.inputs import Run

    families = {rows(trial_zoo(base, values))[0].family for values in tried}
    choice = choose(engine, [Run(base).program(family) for family in families])
    data = load(base, default_cache())
    address = ray_environment.prepare(ray)
    from ..tuning.trials import search

    click.echo(
        f"{len(tried)} trials of {base.name}, {search_for.num_epochs} epochs, with {choice.engine.name}", err=True
    )
    told = _Told(len(tried))
    trials = search(search_for, base, choice.engine.name, data, address, slots, told)
    trials_out.write_text(_csv(trials), encoding="utf-8")
    click.echo(f"all trials: {trials_out}", err=True)
    if not best(trials, search_for.best_ratio):
        raise InputError(f"{spec}: no trial stayed finite; try smaller learning rates")
    proposed = proposal(search_for, base, trials)
    written = yaml.safe_dump(writable(proposed), sort_keys=False, allow_unicode=True, width=120)
    if out is not None:
        out.write_text(written, encoding="utf-8")
    if as_json:
        print_json({"trials": [asdict(trial) for trial in trials], "proposal": proposed.to_json()})
        return
    for line in _best_lines(trials, search_for):
        click.echo(line, err=True)
    click.echo(written, nl=False)


def _csv(trials: list[Trial]) -> str:
    """Every trial with all its hyperparameters, the best first. A trial without accuracy became faulty."""
    out = io.StringIO()
    axes = list(trials[0].values)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "val_accuracy", "num_epochs", *axes])
    for number, trial in sorted(
        enumerate(trials), key=lambda item: -1.0 if item[1].accuracy is None else item[1].accuracy, reverse=True
    ):
        accuracy = "" if trial.accuracy is None else repr(trial.accuracy)
        writer.writerow([number, accuracy, trial.num_epochs, *(trial.values[axis] for axis in axes)])
    return out.getvalue()


class _Told:
    """Reports how many trials have ended, about eight times."""

    def __init__(self, total: int) -> None:
        self._total, self._ended, self._best = total, 0, 0.0

    def __call__(self, trial: Trial) -> None:
        self._ended += 1
        self._best = max(self._best, trial.accuracy or 0.0)
        if self._ended % max(1, self._total // 8) == 0 or self._ended == self._total:
            click.echo(f"{self._ended} of {self._total} trials, the best {self._best:.3f}", err=True)


def _best_lines(trials: list[Trial], spec: TuneSpec) -> list[str]:
    top = best(trials, spec.best_ratio)
    faulty = sum(trial.accuracy is None for trial in trials)
    early = sum(trial.accuracy is not None and trial.num_epochs < spec.num_epochs for trial in trials)
    axes = spec.ranges.searched
    cells = [["accuracy", *axes]]
    cells += [[f"{t.accuracy:.3f}", *(_short(t.values[axis]) for axis in axes)] for t in top[:SHOWN]]
    return [
        f"{len(trials)} trials: {early} ended early, {faulty} became faulty; the grid is from the best {len(top)}:",
        *table(cells, ">" * len(cells[0])),
    ]


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
