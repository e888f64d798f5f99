"""`zoo plan`: estimates what zoos take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import read_attempts, read_pin
from zooforge.storage.stores.open import open_existing_store
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import entries
from ..engines.choose import ENGINES
from ..errors import InputError, unknown
from ..planning.estimate import Estimate, estimate, is_variational, ranked
from ..planning.machines import Machine, machine
from ..planning.pricing import Pace, Planned, Workers, planned
from ..planning.units import Request, request, tasks, unit_models, work_units
from ..quantities import dollars, duration, flop, size, table
from ..spec.grid import rows
from ..spec.twins import TwinSpec, Zoo, twins_of
from ..spec.zoo import ZooSpec
from .options import (
    allow_code_option,
    echo_request,
    epochs_option,
    json_option,
    models_option,
    print_json,
    resolve_zoo,
    set_options,
    zoo_names,
)
from .working import resolve, workers_per_gpu_option


@click.command("plan")
@click.argument("names", nargs=-1, required=True, metavar="NAME... | all", shell_complete=zoo_names)
@models_option
@epochs_option
@click.option("--on", metavar="MACHINE,...", help="Machines to compare, the cheapest first; MACHINE:N is N of them.")
@workers_per_gpu_option
@click.option("--twins", "with_twins", is_flag=True, help="Also the sparse twins that `zoo run` makes of each zoo.")
@click.option("--twin-epochs", type=int, metavar="N", help="Epochs of sparsification; default: the zoo's own.")
@click.option("--engine", metavar="ENGINE", help="Default: the fastest that was measured.")
@click.option("--store", metavar="URL", help="Also estimate what this store lacks, at the pace measured there.")
@set_options
@allow_code_option
@json_option
def command(
    names: tuple[str, ...],
    models: str | None,
    epochs: int | None,
    on: str | None,
    workers_per_gpu: int,
    with_twins: bool,
    twin_epochs: int | None,
    engine: str | None,
    store: str | None,
    settings: tuple[str, ...],
    new_name: str | None,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Estimate models, steps, FLOP, time, dollars, bytes and objects of zoos. Needs no data, and no store.

    Times are those of a machine at rest, to three times as much where other work shares it.
    """
    if engine is not None and engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    machines = [machine(name and name.strip(), workers_per_gpu) for name in (on.split(",") if on else [None])]
    if settings and (len(names) > 1 or names == ("all",)):
        raise InputError("--set makes one zoo of one zoo; name one")
    if twin_epochs is not None and not with_twins:
        raise InputError(f"--twin-epochs {twin_epochs}: twins are planned with --twins")
    opened = None if store is None else open_existing_store(store)
    zoos: list[Zoo] = []
    for name in names:
        if name == "all":
            named: Sequence[Zoo] = entries.load_all()
        elif opened is None:
            named = (resolve_zoo(name, settings, new_name, allow_code),)
        else:
            named = (resolve(name, opened, settings, new_name, allow_code),)
        zoos += [zoo for zoo in named if zoo not in zoos]
    asked: list[tuple[Zoo, Request]] = []
    for zoo in zoos:
        wanted = request(zoo, models, epochs)
        asked.append((zoo, wanted))
        if with_twins and isinstance(zoo, ZooSpec) and zoo.sparsify is not None:
            twins = twins_of(zoo, source_epoch=wanted.num_epochs)
            asked.append((twins, request(twins, models, twin_epochs)))
    found_estimates: list[list[Estimate]] = []
    for zoo, wanted in asked:
        if not as_json and (models or epochs is not None or len(asked) == 1):
            echo_request(zoo, wanted)
        units = work_units(zoo)
        found_estimates.append(ranked([estimate(zoo, wanted, place, engine, units) for place in machines]))
    rest = [] if opened is None else [remaining(opened, zoo, wanted, machines[0], engine) for zoo, wanted in asked]
    if as_json:
        remains = {one.zoo: one.to_json() for one in rest}
        rows = [one.to_json() for per_zoo in found_estimates for one in per_zoo]
        print_json([{**row, "remaining": remains[row["zoo"]]} if remains else row for row in rows])
    elif len(asked) == 1:
        _print_one(asked[0][0], found_estimates[0], machines)
    else:
        _print_table(found_estimates, machines)
    if not as_json:
        for one in rest:
            click.echo(one.sentence)


@dataclass(frozen=True, slots=True)
class Remaining:
    """The part of a request that a store lacks."""

    zoo: str
    num_states: int
    num_missing: int
    planned: Planned

    def to_json(self) -> dict[str, Any]:
        return {"num_states": self.num_missing, **self.planned.to_json()}

    @property
    def sentence(self) -> str:
        there = self.num_states - self.num_missing
        said = f"{self.zoo}: {there:,} of {self.num_states:,} states are in the store"
        return f"{said}; the rest takes {self.planned.sentence}" if self.num_missing else f"{said}, nothing remains"


def remaining(store: ObjectStore, zoo: Zoo, wanted: Request, place: Machine, engine: str | None) -> Remaining:
    """The part of ``wanted`` that ``store`` lacks, and what it takes on ``place`` at the pace of the last attempt."""
    spec = zoo.root
    rate = place.rate(spec.architecture_name, spec.in_channels, is_variational(zoo), engine, spec.precision)
    name = engine or ("auto" if rate is None else rate.engine)
    ledger = read_ledger(store, zoo.run_id)
    units = work_units(zoo, size=(read_pin(store, zoo.run_id) or {}).get("unit_models"))
    missing = tasks(units, wanted, ledger.next_part, slots=place.slots, bitwise=name != "stacked")
    price = None if place.dollars_per_hour is None else place.dollars_per_hour / place.slots
    workers = Workers(name, place.slots, price, place.name, rate)
    pace = Pace.measured([attempt.end or {} for attempt in read_attempts(store, zoo.run_id)], name)
    num_states = wanted.num_epochs + 1
    num_missing = wanted.num_states - sum(min(ledger.num_epochs(model), num_states) for model in wanted.models)
    return Remaining(zoo.name, wanted.num_states, num_missing, planned(zoo, missing, wanted.last_part, workers, pace))


def _print_one(zoo: Zoo, estimates: list[Estimate], machines: list[Machine]) -> None:
    e = estimates[0]
    families = len({row.family for row in rows(zoo)})
    click.echo(f"{e.num_models:,} models{_cells(zoo, e)}, {e.num_epochs} epochs, {e.num_params:,} parameters each")
    click.echo(
        f"{e.num_states:,} states; {families} operation families, {e.num_units:,} work units of at most "
        f"{unit_models(zoo)} models; {e.num_parts:,} parts"
    )
    click.echo(f"{e.num_steps:,} steps, {flop(e.num_flop)}")
    click.echo(f"{size(e.peak_bytes)} at the peak, {size(e.final_bytes)} in the end; {e.num_objects:,} objects")
    for one in estimates:
        click.echo(_place(one, machines))
    if not isinstance(zoo, TwinSpec) and zoo.sparsify is not None:
        click.echo(f"`zoo run` makes twins as well: `zoo plan {zoo.name} --twins`")


def _cells(zoo: Zoo, e: Estimate) -> str:
    if isinstance(zoo, TwinSpec) or zoo.extend or e.num_models != len(rows(zoo)):
        return ""
    if zoo.draws is not None:
        return " with hyperparameters that are drawn"
    parents = "" if zoo.start is None else f"{len(zoo.start.parents):,} parents x "
    return f" = {parents}{zoo.num_cells:,} cells x {zoo.num_seeds:,} seeds"


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _place(e: Estimate, machines: list[Machine]) -> str:
    place = next(m for m in machines if m.name == e.machine)
    if e.seconds is None:
        what = f"engine {e.engine}" if e.engine else "any engine"
        price = _price(place.dollars_per_hour, place.spot_dollars_per_hour)
        return f"not measured on {e.machine} ({place.description}) with {what}; an hour costs {price}"
    price = _price(e.dollars, e.spot_dollars)
    if e.assumed is not None:
        where = f"{e.machine} ({place.description}; {_slots(e.slots)}, {e.engine})"
        return f"estimated, not measured: {duration(e.seconds)} on {where}, at an assumed {e.assumed}: {price}"
    where = f"{e.machine} ({place.description}; {_slots(e.slots)}, {e.engine})"
    return f"{duration(e.seconds)}, to {duration(e.busy_seconds)} if other work runs there, on {where}: {price}"


def _price(on_demand: float | None, spot: float | None) -> str:
    return dollars(on_demand) if spot is None else f"{dollars(on_demand)}, {dollars(spot)} as spot"


def _print_table(estimates: list[list[Estimate]], machines: list[Machine]) -> None:
    chosen = [per_zoo[0] for per_zoo in estimates]
    lines = [["zoo", "models", "states", "units", "steps", "FLOP", "time", "dollars", "peak", "final", "objects"]]
    lines += [_line(e.zoo, e.num_models, e.num_states, e.num_units, [e]) for e in chosen]
    count = f"{len(chosen)} zoos"
    models, states, units = (sum(getattr(e, key) for e in chosen) for key in ("num_models", "num_states", "num_units"))
    lines.append(_line(count, models, states, units, chosen))
    for line in table(lines, "<>>>>>>>>>>"):
        click.echo(line)
    click.echo()
    for place in machines:
        per_machine = [one for per_zoo in estimates for one in per_zoo if one.machine == place.name]
        measured = [one for one in per_machine if one.seconds is not None and one.assumed is None]
        assumed = [one for one in per_machine if one.assumed is not None]
        sums = _sums(measured)
        click.echo(
            f"{place.name} ({place.description}; {_slots(place.slots)}): {len(measured)} of {len(per_machine)} zoos "
            f"measured, {duration(sums['seconds']) if measured else 'no time'}"
            + (f", {_price(sums['dollars'], sums['spot_dollars'])}" if measured else "")
            + (f"; {len(assumed)} estimated by an assumed share of the peak, {_estimated(assumed)}" if assumed else "")
        )


def _estimated(estimates: list[Estimate]) -> str:
    sums = _sums(estimates)
    return f"{duration(sums['seconds'])}, {_price(sums['dollars'], sums['spot_dollars'])}"


def _sums(estimates: list[Estimate]) -> dict[str, Any]:
    keys = ("num_steps", "num_flop", "peak_bytes", "final_bytes", "num_objects", "seconds", "dollars", "spot_dollars")
    values = {key: [getattr(e, key) for e in estimates] for key in keys}
    return {key: None if any(v is None for v in column) else sum(column) for key, column in values.items()}


def _line(name: str, models: int, states: int, units: int, estimates: list[Estimate]) -> list[str]:
    """A line of the table; ``~`` is before what an assumed share of the peak gives."""
    sums = _sums(estimates)
    about = "~" if any(e.assumed for e in estimates) and sums["seconds"] is not None else ""
    return [
        name, f"{models:,}", f"{states:,}", f"{units:,}", f"{sums['num_steps']:,}", flop(sums["num_flop"]),
        f"{about}{duration(sums['seconds'])}", f"{about}{dollars(sums['dollars'])}", size(sums["peak_bytes"]),
        size(sums["final_bytes"]), f"{sums['num_objects']:,}",
    ]  # fmt: skip
