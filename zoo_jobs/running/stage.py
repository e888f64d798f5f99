"""One command's work on a store: what was asked is checked, written down, grown, accounted for. The room's hub."""

import contextlib
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from zooforge.storage.errors import PinMismatch, StoreUnreachable
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.ledger import Ledger, read_ledger
from zooforge.storage.runs.run_files import (
    create_run,
    pin_run,
    read_attempts,
    read_control,
    read_pin,
    read_usage,
    start_attempt,
    want_run,
)
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.probe import Capabilities, probe, require
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue.in_store import check, register
from ..data.prepare import load
from ..data.prepared import PreparedData
from ..data.sources import default_cache
from ..engines.choose import Choice, choose
from ..errors import InputError, ZooError
from ..events import Observer, StageEnded, StageStarted, tell
from ..integrations.trackers import Tracker
from ..metrics.driver import RunMetrics
from ..planning.machines import slot_price
from ..planning.missing import absent_parents
from ..planning.pricing import Calibration, Planned, Took, planned, rate_here
from ..planning.refill import refill_tasks
from ..planning.units import Request, Task, tasks, unit_models, work_units
from ..spec.epochs import part_of
from ..spec.twins import TwinSpec, Zoo
from ..watching.run_log import RunLog
from ..watching.totals import Meter, StoreTotals, store_totals
from .account import GRACE_SECONDS, Account, Caps
from .claims import ClaimedPieces, claims_of
from .driver import Driver
from .inputs import Run
from .node import most_models
from .notice import Notice, of_node
from .patience import Patience
from .place import Place, on_gpus
from .worker import WorkerContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How to work; nothing here changes a byte of the result."""

    store: str
    engine: str = "auto"
    ray: str = "auto"
    slots: int | None = None
    chunk_models: int | None = None
    unattended: bool = False
    mix_engines: bool = False
    new_lineage: bool = False
    single_writer: bool = False
    max_hours: float | None = None
    max_dollars: float | None = None
    dollars_per_hour: float | None = None


class Work:
    """A command at work: the store, signals, Ray and the observers, shared by the stages of `zoo run`."""

    def __init__(self, options: Options, observers: Sequence[Observer]) -> None:
        self.options = options
        self.store: ObjectStore = open_store(options.store)
        self.notice = Notice()
        self.metrics: RunMetrics | None = None
        self.trackers: Sequence[Tracker] = ()
        self.confirm: Callable[[str], None] | None = None
        self.attempted = False  # whether anything may have been committed
        self.reason = ""  # why the last stage was stopped, where a cap or its price did that
        self.took: list[Took] = []
        self._meter = Meter(self.store.traffic)
        self._observers = list(observers)
        self._place = Place(options.ray, options.slots)
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._place.__enter__()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._place.__exit__(kind, value, trace)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def _listeners(self) -> list[Observer]:
        return [*self._observers, *([self.metrics] if self.metrics is not None else [])]

    def grow(self, zoo: Zoo, request: Request, refill: frozenset[int] = frozenset(), *, wait: bool = True) -> bool:
        """Train what the store lacks of ``request``. True when all is there, False when a notice was obeyed.

        With ``refill``, models are trained again for the weights of these epochs, where they were not kept. Without
        Ray, several processes share a run; with ``wait`` off, the units that others are at are left to them: False.

        Raises:
            InputError: the request, the data or the machine cannot do it; nothing was written.
            UnitFailed: a task failed every time.
        """
        check(self.store, zoo, self.options.new_lineage)
        run = Run(zoo)
        self._check_commits(zoo)
        choice = choose(self.options.engine, run.programs())
        ledger = read_ledger(self.store, run.id)
        absent = (
            absent_parents(read_ledger(self.store, zoo.parent.run_id), zoo, request)
            if isinstance(zoo, TwinSpec)
            else set()
        )
        plan = self._planner(run, request, choice, absent, refill)
        missing = plan(ledger)
        wanted = [model for model in request.models if model not in absent]
        total = len(wanted) * (request.num_epochs + 1)
        done = sum(min(ledger.num_epochs(model), request.num_epochs + 1) for model in wanted)
        started = StageStarted(
            zoo=run.name,
            run=run.id,
            stage=run.stage,
            models=len(wanted),
            epochs=request.num_epochs,
            done=done,
            total=total,
            units=len(missing),
            engine=choice.engine.name,
        )

        def count(ledger: Ledger, usage: Mapping[str, float]) -> StoreTotals:
            budget = self.options.max_dollars
            return store_totals(zoo, request, ledger, usage, absent=absent, budget_dollars=budget)

        if self.metrics is not None:
            self.metrics.start_from(count(ledger, read_usage(self.store, run.id)))
        if not missing:
            register(self.store, zoo, self.options.new_lineage)
            tell(self._listeners, started)
            tell(self._listeners, StageEnded(run.name, run.stage, "finished"))
            return True
        if self.notice.given:
            return False
        data = load(zoo.root, default_cache(), self.store)
        pin = {
            "engine": self._place.numerics(choice, run, data),
            "commit_every": zoo.commit_every,
            "unit_models": (read_pin(self.store, run.id) or {}).get("unit_models", unit_models(zoo)),
            "data": data.digest,
        }
        if read_pin(self.store, run.id) is not None:
            self._pin(run, pin)  # what does not fit is refused before the first write
        if self._place.is_elsewhere:
            self._place.slots(choice, data)  # likewise an address where no cluster is
        last_part = part_of(max(refill), zoo.commit_every) if refill else request.last_part
        expected = self._expected(zoo, plan, ledger, last_part, choice)
        capabilities = probe(self.store)
        require(capabilities, self.store.url, single_writer=self.options.single_writer)
        register(self.store, zoo, self.options.new_lineage)
        create_run(self.store, run.id, zoo.run_content)
        self._pin(run, pin)
        self._set_wanted(run, request)
        slots = self._place.slots(choice, data)
        context = WorkerContext(
            store_url=self.options.store,
            engine=choice.engine.name,
            chunk_models=self.options.chunk_models,
            attempt=start_attempt(
                self.store, run.id, _attempt_content(run, request, choice, slots, capabilities, expected)
            ),
            commit_every=zoo.commit_every,
            notice_seconds=GRACE_SECONDS,
            num_gpus=1 if on_gpus(choice) else 0,
            refill=refill,
        )
        leases: ClaimedPieces | None = None
        if self._place.is_shared:
            names = claims_of(work_units(zoo, run.rows, size=pin["unit_models"]), choice.engine.bitwise)
            leases = ClaimedPieces(Claims(self.store, run.id, context.attempt), names)
        with RunLog(self.store, run.id, context.attempt) as log:
            return self._drive(
                run, plan, count, ledger, context, data, slots, last_part, started, log, leases, wait, expected
            )

    def _drive(
        self,
        run: Run,
        plan: "Callable[..., tuple[Task, ...]]",
        count: Callable[[Ledger, Mapping[str, float]], StoreTotals],
        ledger: Ledger,
        context: WorkerContext,
        data: PreparedData,
        slots: int,
        last_part: int,
        started: StageStarted,
        log: RunLog,
        leases: ClaimedPieces | None,
        wait: bool,
        expected: Planned,
    ) -> bool:
        begun = time.monotonic()

        def plan_now(ledger: Ledger) -> Sequence[Task]:
            return plan(ledger, slots) if leases is None else leases.share(plan(ledger))

        pool = self._place.pool(min(slots, len(plan_now(ledger))), context, run, data)
        options = self.options

        def price() -> float | None:
            """Of all slots: the price that was given, else the sum of what the workers say of their machines."""
            given = options.dollars_per_hour
            return pool.dollars_per_hour if given is None else slots * given

        caps = Caps(options.max_hours, options.max_dollars)
        self.attempted = True
        account = Account(
            self.store, run, context.attempt, slots, caps, price, self._meter, self.notice, self._listeners
        )
        _, rate = rate_here(run.zoo, context.engine, os.environ)
        listeners = [*self._listeners, log]
        calibration = Calibration(run.zoo, expected, rate, options.max_dollars, listeners, account.stop)
        observers: list[Observer] = [*listeners, account, calibration]
        patience = Patience(run.name, run.stage, self.notice, observers)
        tell(observers, started)
        known = [ledger]

        def plan_again() -> Sequence[Task]:
            known[0] = read_ledger(self.store, run.id, known[0])
            if self.metrics is not None:
                self.metrics.start_from(count(known[0], account.sums))
            return plan_now(known[0])

        def beat() -> None:
            patience(account.beat)
            if leases is not None:
                leases.beat()

        state = "failed"
        try:
            driver = Driver(
                run.name,
                run.stage,
                pool,
                lambda: patience(plan_again),
                last_part,
                self.notice,
                observers,
                stop_asked=lambda: patience(lambda: _stop_asked(self.store, run.id)),
                heartbeat=beat,
                commit_every=context.commit_every,
                leases=leases,
                wait=wait,
            )
            finished = driver.grow()
            state = "finished" if finished else (self.notice.reason or "stopped")
        finally:
            pool.close()
            if leases is not None:
                leases.close()
            with contextlib.suppress(StoreUnreachable):  # the error that ended the run stands
                account.close(state, engine=context.engine, factor=calibration.factor)
        self.reason = account.reason
        seconds = time.monotonic() - begun
        self.took.append(
            Took(run.name, run.stage, seconds, expected.seconds, account.dollars, expected.dollars, finished)
        )
        return finished

    def _expected(
        self, zoo: Zoo, plan: "Callable[..., tuple[Task, ...]]", ledger: Ledger, last_part: int, choice: Choice
    ) -> Planned:
        """What the stage takes, from what an earlier attempt measured where one did; confirmed if it costs money."""
        slots = self._place.expected_slots
        price = self.options.dollars_per_hour
        if price is None:
            price = slot_price(os.environ)
        ends = [attempt.end or {} for attempt in read_attempts(self.store, zoo.run_id)]
        factors = [e["factor"] for e in ends if e.get("factor") and e.get("engine") == choice.engine.name]
        found = planned(
            zoo, plan(ledger, slots), last_part, choice.engine.name, slots, price, os.environ, (factors or [1.0])[-1]
        )
        if self.confirm is not None and price is not None:
            self.confirm(f"{zoo.name}: {found.sentence}")
            self.confirm = None  # later stages go on without anybody being there
        return found

    def _check_commits(self, zoo: Zoo) -> None:
        """Parts are counted in commits, so another number of epochs per commit would misread what is there."""
        pinned = (read_pin(self.store, zoo.run_id) or {}).get("commit_every", zoo.commit_every)
        if pinned != zoo.commit_every:
            raise InputError(
                f"{zoo.name}: commit_every is {zoo.commit_every}, but its run began with {pinned} and keeps it; "
                f"say commit_every: {pinned} in the spec"
            )

    def _pin(self, run: Run, pin: dict[str, Any]) -> None:
        try:
            pin_run(self.store, run.id, pin, may_differ=("engine",) if self.options.mix_engines else ())
        except PinMismatch as error:
            found = read_pin(self.store, run.id) or {}
            hint = "undo that change, or give the zoo another name"
            if all(found.get(name) == value for name, value in pin.items() if name != "engine"):
                hint = "name its engine with --engine, or go on with another one, recorded, with --mix-engines"
            raise InputError(f"{error}; {hint}") from error

    def _planner(
        self, run: Run, request: Request, choice: Choice, absent: set[int], refill: frozenset[int]
    ) -> "Callable[..., tuple[Task, ...]]":
        pinned = read_pin(self.store, run.id) or {}
        units = work_units(run.zoo, run.rows, size=pinned.get("unit_models"))
        never = request.last_part + 1
        most = most_models(run.zoo, choice.engine.name, os.environ, GRACE_SECONDS)

        def plan(ledger: Ledger, slots: int = 1) -> tuple[Task, ...]:
            if refill:
                return refill_tasks(ledger, request, refill, run.zoo.commit_every)

            def next_part(model: int) -> int:
                return never if model in absent else ledger.next_part(model)

            return tasks(units, request, next_part, slots=slots, bitwise=choice.engine.bitwise, max_models=most)

        return plan

    def _set_wanted(self, run: Run, request: Request) -> None:
        """Who starts a run by hand wants it to run; who starts it unattended obeys what was said before."""
        seen = read_control(self.store, run.id)
        stop = seen if self.options.unattended and seen is not None and seen.wanted == "stopped" else None
        if stop is None:
            asked = {"models": [request.models.start, request.models.stop], "epochs": request.num_epochs}
            job = seen.job if self.options.unattended and seen is not None else ""
            stop = want_run(self.store, run.id, asked, seen, job=job)
        if stop is not None:
            raise Stopped(
                f"run {run.id[:8]} of {run.name} was stopped and stays so; `zoo run` without --unattended goes on"
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.notice.given:
            raise KeyboardInterrupt
        sys.stderr.write("\nleaving after the present epochs; once more to leave at once\n")
        self.notice.give("signal", of_node(os.environ, GRACE_SECONDS))


class Stopped(ZooError):
    """The run's control object says that it must not run."""

    exit_status = 0


def _stop_asked(store: ObjectStore, run: str) -> bool:
    control = read_control(store, run)
    return control is not None and control.wanted == "stopped"


def _attempt_content(
    run: Run, request: Request, choice: Choice, slots: int, capabilities: Capabilities, expected: Planned
) -> dict[str, Any]:
    """What a person needs to know later about the machine and the request; nothing of it reaches a published zoo."""
    return {
        "zoo": run.name,
        "stage": run.stage,
        "models": [request.models.start, request.models.stop],
        "epochs": request.num_epochs,
        "engine": choice.engine.name,
        "why": choice.why,
        "slots": slots,
        "capabilities": capabilities.to_json(),
        "plan": expected.to_json(),
        "host": platform.node(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "image": os.environ.get("ZOO_IMAGE", ""),
        "job": os.environ.get("ZOO_JOB", ""),
    }
