"""The work of one stage: an attempt is written down, what is missing is trained and accounted for. Writes."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import (
    create_run,
    is_stop_asked,
    put_code,
    start_attempt,
    want_run,
    write_chunk,
)

from ..catalogue.in_store import register, send_images
from ..events import Observer, tell
from ..planning.pricing import Calibration, StageResult
from ..planning.units import Task, work_units
from ..spec.own_code import OwnCode
from ..watching.run_log import RunLog
from ..who import who
from .account import GRACE_SECONDS, Account, Caps
from .claims import ClaimedPieces, claims_of
from .driver import Driver, Extent, OutOfMemory, Sharing, StoreCalls
from .patience import Patience
from .slots.worker import WorkerContext
from .stage import Session, Stage, pin_settings, stopped

T = TypeVar("T")


def drive(session: Session, stage: Stage, *, wait: bool = True) -> StageResult:
    """Train what is missing of a stage.

    Args:
        wait: without Ray several processes share a run; False leaves the units that others hold to them.

    Raises:
        Stopped: the run was stopped after the check.
        UnitFailed: a task failed at every attempt.
        StoreAway: the store did not answer for long.
    """
    run, store = stage.plan.run, session.store
    send_images(store, run.zoo)
    models = stage.plan.request.models
    asked: dict[str, Any] = {"models": [models.start, models.stop], "epochs": stage.plan.request.num_epochs}
    asked |= {"single_writer": True} if session.options.single_writer else {}
    job = stage.control.job if session.options.unattended and stage.control is not None else ""
    if want_run(store, run.id, asked, stage.control, job=job) is not None:
        raise stopped(run)
    attempt = start_attempt(store, run.id, _attempt_content(stage))
    with RunLog(store, run.id, attempt) as log:
        return _Attempt(session, stage, attempt, log).drive(wait)


class _Attempt:
    """One driver at work on one stage."""

    def __init__(self, session: Session, stage: Stage, attempt: str, log: RunLog) -> None:
        self._session, self._stage, self._ledger = session, stage, stage.plan.ledger
        self._run = run = stage.plan.run
        options, engine = session.options, stage.plan.choice.engine
        self._context = WorkerContext(
            store_url=options.store,
            engine=engine.name,
            chunk_models=stage.chunk_models,
            attempt=attempt,
            notice_seconds=GRACE_SECONDS,
            num_gpus=session.place.gpu_share(stage.plan.choice, run),
            refill=stage.plan.refill,
            single_writer=options.single_writer,
            label_version=stage.pin.get("label_version", 1),
        )
        self._pieces: ClaimedPieces | None = None
        if session.place.is_shared:
            bitwise = engine.bitwise(next(iter(run.programs())))
            names = claims_of(work_units(run.zoo, run.rows, size=stage.pin["unit_models"]), bitwise)
            self._pieces = ClaimedPieces(Claims(session.store, run.id, attempt), names)
        num_tasks = len(self._tasks())
        self._pool = session.place.pool(min(stage.slots, num_tasks), self._context, run, stage.data)
        caps = Caps(options.max_hours, options.max_dollars)
        self._account = Account(
            session.store,
            run,
            attempt,
            stage.slots,
            caps,
            self._price,
            session.meter,
            session.notice,
            session.observers,
        )
        listeners = [*session.observers, log]
        self._calibration = Calibration(run.zoo, stage.expected, options.max_dollars, listeners, self._account.stop)
        self._observers: list[Observer] = [*listeners, self._account, self._calibration]
        self._patience = Patience(run.name, run.stage, session.notice, self._observers)

    def drive(self, wait: bool) -> StageResult:
        """Train until nothing is missing, and write how the attempt ended."""
        begun, run, plan = time.monotonic(), self._run, self._stage.plan
        tell(self._observers, plan.started)
        calls = StoreCalls(
            plan_tasks=self._patiently(self._plan_again),
            stop_asked=self._patiently(lambda: is_stop_asked(self._session.store, run.id)),
            heartbeat=self._heartbeat,
            remember_chunk=self._remember_chunk,
        )
        state = "failed"
        try:
            self._patience(self._write_files)
            driver = Driver(
                Extent(run.name, run.stage, plan.last_part, run.zoo.commit_every),
                self._pool,
                calls,
                self._session.notice,
                self._observers,
                None if self._pieces is None else Sharing(self._pieces, wait),
            )
            finished = driver.grow()
            state = "finished" if finished else (self._session.notice.reason or "stopped")
        except OutOfMemory as error:  # the same command would run out of memory again
            self._account.stop(str(error))
            raise
        finally:
            self._pool.close()
            if self._pieces is not None:
                self._pieces.close()
            with contextlib.suppress(StoreUnreachable):  # the error that ended the run is the one to report
                self._account.close(state, engine=self._context.engine, **self._calibration.to_json())
        seconds, account = time.monotonic() - begun, self._account
        return StageResult(
            run.name, run.stage, seconds, account.dollars, self._stage.expected, finished, account.reason
        )

    def _write_files(self) -> None:
        """Write the spec and the files of the run, where they are not there.

        A removal (docs/format.md) misses claims that come after its look, but the driver of such a claim sees its stop.
        """
        session, run = self._session, self._run
        if not is_stop_asked(session.store, run.id):
            register(session.store, run.zoo, session.options.new_lineage)
            create_run(session.store, run.id, run.zoo.run_content)
            if isinstance(own := run.zoo.root.architecture, OwnCode):
                put_code(session.store, run.id, own.code)
            pin_settings(session, run, self._stage.pin)

    def _tasks(self) -> Sequence[Task]:
        """Tasks for what is missing by the ledger that was read last."""
        if self._pieces is not None:
            return self._pieces.share(self._stage.plan.tasks(self._ledger))
        return self._stage.plan.tasks(self._ledger, self._stage.slots)

    def _plan_again(self) -> Sequence[Task]:
        self._ledger = read_ledger(self._session.store, self._run.id, self._ledger)
        if self._session.metrics is not None:
            budget = self._session.options.max_dollars
            self._session.metrics.start_from(self._stage.plan.totals(self._ledger, self._account.sums, budget))
        return self._tasks()

    def _heartbeat(self) -> None:
        self._patience(self._account.beat)
        if self._pieces is not None:
            self._pieces.beat()

    def _remember_chunk(self, num_models: int) -> None:
        """At once: the driver may be killed too, and the next attempt begins with it."""
        self._patience(lambda: write_chunk(self._session.store, self._run.id, self._context.engine, num_models))

    def _patiently(self, call: Callable[[], T]) -> Callable[[], T]:
        return lambda: self._patience(call)

    def _price(self) -> float | None:
        """Dollars per hour of all slots: as given, else the sum of what the workers say of their machines."""
        given = self._session.options.dollars_per_hour
        return self._pool.dollars_per_hour if given is None else self._stage.slots * given


def _attempt_content(stage: Stage) -> dict[str, Any]:
    """The record of an attempt, about its machine and request. Nothing of it is published."""
    plan = stage.plan
    return {
        "zoo": plan.run.name,
        "stage": plan.run.stage,
        "models": [plan.request.models.start, plan.request.models.stop],
        "epochs": plan.request.num_epochs,
        "engine": plan.choice.engine.name,
        "why": plan.choice.why,
        "slots": stage.slots,
        "capabilities": stage.capabilities.to_json(),
        "plan": stage.expected.to_json(),
        **who(os.environ),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "image": os.environ.get("ZOO_IMAGE", ""),
        "job": os.environ.get("ZOO_JOB", ""),
    }
