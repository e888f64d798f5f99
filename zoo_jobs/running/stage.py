"""Checks a stage before anything is written: `plan_stage` and `check` read and refuse, `Stage` is their result."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zooforge.storage.errors import PinMismatch
from zooforge.storage.formats.labels import LABEL_VERSION
from zooforge.storage.runs.ledger import Ledger, read_ledger
from zooforge.storage.runs.run_files import Control, pin_run, read_attempts, read_chunk, read_control, read_pin
from zooforge.storage.stores.probe import Capabilities, probe, require
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue.code_file import check_code
from ..catalogue.in_store import check as check_extends
from ..catalogue.in_store import check_not_removing
from ..catalogue.parents import check_parents, parent_pin
from ..data.prepare import load
from ..data.prepared import PreparedData
from ..data.sources import default_cache
from ..engines.choose import Choice, choose
from ..errors import InputError, ZooError
from ..events import Observer, StageStarted
from ..metrics.driver import RunMetrics
from ..planning.estimate import epoch_seconds_per_model
from ..planning.machines import machine, slot_price
from ..planning.missing import absent_parents
from ..planning.pricing import Pace, Planned, planned, workers_here
from ..planning.refill import refill_tasks
from ..planning.units import Request, Task, WorkUnit, models_that_fit, tasks, unit_models, work_units
from ..spec.epochs import part_of
from ..spec.own_code import check_allowed
from ..spec.twins import TwinSpec, Zoo
from ..spec.zoo import ZooSpec
from ..watching.totals import Meter, StoreTotals, store_totals
from .account import GRACE_SECONDS
from .inputs import Run
from .notice import Notice, node_notice_seconds
from .slots.place import Place, on_gpus

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the work; none of them changes a byte of the result."""

    store: str
    engine: str = "auto"
    ray: str = "auto"
    slots: int | None = None
    workers_per_gpu: int = 1
    chunk_models: int | None = None
    unattended: bool = False
    mix_engines: bool = False
    new_lineage: bool = False
    allow_code: bool = False
    single_writer: bool = False
    max_hours: float | None = None
    max_dollars: float | None = None
    dollars_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The objects that the stages of one command share."""

    options: Options
    store: ObjectStore
    place: Place
    notice: Notice
    meter: Meter
    observers: Sequence[Observer] = ()
    metrics: RunMetrics | None = None
    """One of ``observers``, if the command serves metrics."""
    confirm: Callable[[str], None] | None = None
    """Shows a person the price of a stage and raises if it is refused; None: no question is asked."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The request of a stage, the ledger of its run, and the tasks for the rest."""

    run: Run
    request: Request
    refill: frozenset[int]
    """Epochs whose weights are made again where they were not kept; empty: train what is missing."""
    choice: Choice
    ledger: Ledger
    units: tuple[WorkUnit, ...]
    absent: frozenset[int]
    """Twins whose parent has not reached the source epoch: they are left out."""
    max_models: int | None
    """The most models of a task."""

    def tasks(self, ledger: Ledger | None = None, slots: int = 1) -> tuple[Task, ...]:
        """Tasks for what ``ledger`` lacks, by default the plan's own. Raises InputError: refill of untrained epochs."""
        ledger = self.ledger if ledger is None else ledger
        if self.refill:
            return refill_tasks(ledger, self.request, self.refill, self.run.zoo.commit_every)

        def next_part(model: int) -> int:
            return self.request.last_part + 1 if model in self.absent else ledger.next_part(model)

        bitwise = self.choice.engine.bitwise(next(iter(self.run.programs())))
        return tasks(self.units, self.request, next_part, slots=slots, bitwise=bitwise, max_models=self.max_models)

    @property
    def last_part(self) -> int:
        return part_of(max(self.refill), self.run.zoo.commit_every) if self.refill else self.request.last_part

    @property
    def started(self) -> StageStarted:
        """The event that begins the stage."""
        wanted = [model for model in self.request.models if model not in self.absent]
        num_states = self.request.num_epochs + 1
        return StageStarted(
            zoo=self.run.name,
            run=self.run.id,
            stage=self.run.stage,
            models=len(wanted),
            epochs=self.request.num_epochs,
            done=sum(min(self.ledger.num_epochs(model), num_states) for model in wanted),
            total=len(wanted) * num_states,
            units=len(self.tasks()),
            engine=self.choice.engine.name,
        )

    def totals(self, ledger: Ledger, usage: Mapping[str, float], budget_dollars: float | None) -> StoreTotals:
        """Totals of what the store holds of the stage, for the metrics."""
        return store_totals(
            self.run.zoo, self.request, ledger, usage, absent=self.absent, budget_dollars=budget_dollars
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the work of a stage needs. All checks have passed and nothing is written yet."""

    plan: StagePlan
    data: PreparedData
    pin: Mapping[str, Any]
    """Settings that the run's numbers depend on, as in the run's pin."""
    slots: int
    capabilities: Capabilities
    expected: Planned
    chunk_models: int | None
    """Models in memory at once: as requested, else the number to which workers without enough memory reduced it."""
    control: Control | None
    """The run's control object as the check has seen it: a stop that is written later stands."""


class Stopped(ZooError):
    """The run's control object says that it must not run."""

    exit_status = 0


def plan_stage(session: Session, zoo: Zoo, request: Request, refill: frozenset[int]) -> StagePlan:
    """Plan the missing part of ``request``. Needs neither data nor Ray.

    Raises:
        InputError: the zoo changes rows of the one in the store, no engine can train it, no parent of twins is trained,
            or the parents of a family are not published.
    """
    store, options = session.store, session.options
    check_allowed(zoo.name, zoo.root.architecture, options.allow_code)
    check_extends(store, zoo, options.new_lineage)
    check_code(zoo.root)
    pin = read_pin(store, zoo.run_id) or {}
    _check_commit_every(zoo, pin)
    run = Run(zoo)
    choice = choose(options.engine, run.programs())
    absent: set[int] = set()
    ledger = read_ledger(store, run.id)
    if isinstance(zoo, TwinSpec):
        absent = absent_parents(read_ledger(store, zoo.parent.run_id), zoo, request)
    else:
        check_parents(store, zoo, [m for m in request.models if refill or ledger.next_part(m) == 0])
    return StagePlan(
        run=run,
        request=request,
        refill=refill,
        choice=choice,
        ledger=ledger,
        units=work_units(zoo, run.rows, size=pin.get("unit_models", new_unit_models(choice, run))),
        absent=frozenset(absent),
        max_models=most_models(zoo, choice.engine.name, os.environ, GRACE_SECONDS, options.workers_per_gpu),
    )


def check(session: Session, plan: StagePlan) -> Stage:
    """Everything that can refuse a stage: data, pin, Ray, price, store and control object.

    The run's objects are only read; the probe of the store writes objects of its own and deletes them.

    Raises:
        InputError: the data, the machine or the settings of the run do not allow it.
        StoreRefused: the store lacks what commits need.
        Stopped: the run was stopped, and ``unattended`` obeys that.
    """
    store, options, place = session.store, session.options, session.place
    run, choice = plan.run, plan.choice
    data = load(run.zoo.root, default_cache(), store)
    there = read_pin(store, run.id)
    pin = {
        "engine": place.numerics(choice, run, data),
        "commit_every": run.zoo.commit_every,
        "unit_models": (there or {}).get("unit_models", new_unit_models(choice, run)),
        "data": data.digest,
    }
    if there is None or "label_version" in there:  # a run that began before these were pinned goes on without them
        pin["label_version"] = (there or {}).get("label_version", LABEL_VERSION)
        if not run.zoo.root.task_row.vectors:
            pin["class_counts"] = data.class_counts(run.zoo.root.num_classes)
    if isinstance(run.zoo, ZooSpec) and run.zoo.start is not None:
        pin["parent"] = parent_pin(store, run.zoo)
    if there is not None:
        pin_settings(session, run, pin)
    expected = _expected(session, plan)
    slots = place.slots(choice, run, data)
    capabilities = probe(store)
    require(capabilities, store.url, single_writer=options.single_writer)
    control = read_control(store, run.id)
    check_not_removing(store, run.zoo, control)
    if options.unattended and control is not None and control.wanted == "stopped":
        raise stopped(run)
    chunk_models = options.chunk_models or read_chunk(store, run.id, choice.engine.name)
    return Stage(plan, data, pin, slots, capabilities, expected, chunk_models, control)


def new_unit_models(choice: Choice, run: Run) -> int:
    """Models of a full unit of a run that has not pinned their number yet."""
    return unit_models(run.zoo, together=choice.engine.name == "stacked" and on_gpus(choice, run))


def pin_settings(session: Session, run: Run, pin: Mapping[str, Any]) -> None:
    """Write the run's pin, or compare it with the existing one. Raises InputError if they differ."""
    may_differ = ("engine",) if session.options.mix_engines else ()
    try:
        pin_run(session.store, run.id, pin, may_differ=may_differ)
    except PinMismatch as error:
        there = read_pin(session.store, run.id) or {}
        hint = "undo that change, or give the zoo another name"
        if all(there.get(name) == value for name, value in pin.items() if name != "engine"):
            hint = "name its engine with --engine, or continue with another one, recorded, with --mix-engines"
        raise InputError(f"{error}; {hint}") from error


def stopped(run: Run) -> Stopped:
    """The error of a run that was stopped, and that this command does not start again."""
    return Stopped(
        f"run {run.id[:8]} of {run.name} was stopped and stays so; `zoo run` without --unattended continues it"
    )


def most_models(
    zoo: Zoo, engine: str, environment: Mapping[str, str], grace_seconds: float, workers_per_gpu: int = 1
) -> int | None:
    """The most models of a task, so that its epoch takes at most half of ``ZOO_NOTICE_SECONDS``.

    Returns:
        None without ``ZOO_NOTICE_SECONDS``, or where ``ZOO_MACHINE`` has no measured rate. At least 1: where not even
        one model fits, that is logged, and every notice costs the epoch that is under way.
    """
    name = environment.get("ZOO_MACHINE")
    if not environment.get("ZOO_NOTICE_SECONDS") or not name:
        return None
    try:
        seconds = epoch_seconds_per_model(zoo, machine(name, workers_per_gpu), engine)
    except InputError:
        return None
    if seconds is None:
        return None
    notice_seconds = node_notice_seconds(environment, grace_seconds)
    fit = models_that_fit(seconds, notice_seconds)
    if fit == 0:
        logger.warning(
            "an epoch does not fit into the notice of a node; each notice costs the epoch that is under way",
            extra={"zoo": zoo.name, "epoch_seconds": round(seconds, 1), "notice_seconds": notice_seconds},
        )
    return max(1, fit)


def _check_commit_every(zoo: Zoo, pin: Mapping[str, Any]) -> None:
    """Parts are counted in commits, so another number of epochs per commit would misread the records."""
    pinned = pin.get("commit_every", zoo.commit_every)
    if pinned != zoo.commit_every:
        raise InputError(
            f"{zoo.name}: commit_every is {zoo.commit_every}, but its run began with {pinned} and keeps it; "
            f"say commit_every: {pinned} in the spec"
        )


def _expected(session: Session, plan: StagePlan) -> Planned:
    """Time and price of the stage, at the pace of the last attempt. A person confirms the price."""
    zoo, engine = plan.run.zoo, plan.choice.engine.name
    slots = session.place.expected_slots(plan.choice, plan.run)
    share = session.place.gpu_share(plan.choice, plan.run) or 1
    price = session.options.dollars_per_hour
    if price is None:
        price = slot_price(os.environ, share)
    ends = [attempt.end or {} for attempt in read_attempts(session.store, zoo.run_id)]
    workers = workers_here(zoo, engine, slots, price, os.environ, round(1 / share))
    expected = planned(zoo, plan.tasks(slots=slots), plan.last_part, workers, Pace.measured(ends, engine))
    if session.confirm is not None and price is not None:
        session.confirm(f"{zoo.name}: {expected.sentence}")
    return expected
