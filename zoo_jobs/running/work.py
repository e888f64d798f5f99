"""One command at work on a store: signals, Ray and observers for as long as it runs, and its stages one by one."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, Self

from zooforge.storage.runs.run_files import read_usage
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue.in_store import register
from ..events import Observer, StageEnded, tell
from ..integrations.trackers import Tracker
from ..metrics.driver import RunMetrics
from ..planning.pricing import StageResult
from ..planning.units import Request
from ..spec.twins import Zoo
from ..watching.totals import Meter
from .account import GRACE_SECONDS
from .drive import drive
from .notice import Notice, node_notice_seconds
from .slots.place import Place
from .stage import Options, Session, check, plan_stage


class Work:
    """Runs the stages of a command. A signal asks the workers to commit and leave; a second one ends at once.

    Args:
        metrics: gets every event, and the contents of the store when a stage begins.
        confirm: shows a person the price of the first stage that costs something, and raises if it is refused.

    Attributes:
        attempted: whether anything may have been written.
        results: of the stages that were driven, in order.
    """

    def __init__(
        self,
        options: Options,
        store: ObjectStore,
        observers: Sequence[Observer] = (),
        trackers: Sequence[Tracker] = (),
        metrics: RunMetrics | None = None,
        confirm: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.trackers = store, trackers
        self.notice = Notice()
        self.attempted = False
        self.results: list[StageResult] = []
        self._place = Place(options.ray, options.slots, options.workers_per_gpu)
        self._session = Session(
            options=options,
            store=store,
            place=self._place,
            notice=self.notice,
            meter=Meter(store.traffic),
            observers=[*observers, *([metrics] if metrics is not None else [])],
            metrics=metrics,
            confirm=confirm,
        )
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
    def reason(self) -> str:
        """The reason if a cap or the price stopped the last stage, otherwise empty."""
        return self.results[-1].reason if self.results else ""

    def grow(self, zoo: Zoo, request: Request, refill: frozenset[int] = frozenset(), *, wait: bool = True) -> bool:
        """Train what the store lacks of ``request``.

        Args:
            refill: train models again for the weights of these epochs, where they were not kept.
            wait: without Ray several processes share a run; False leaves the units that others hold to them.

        Returns:
            True when nothing is missing; False after a notice, or where the rest was left to others.

        Raises:
            InputError: the request, the data or the machine cannot do it; nothing was written.
            UnitFailed: a task failed at every attempt.
        """
        session = self._session
        plan = plan_stage(session, zoo, request, refill)
        if session.metrics is not None:
            usage = read_usage(self.store, plan.run.id)
            session.metrics.start_from(plan.totals(plan.ledger, usage, session.options.max_dollars))
        if not plan.tasks():
            register(self.store, zoo, session.options.new_lineage)
            tell(session.observers, plan.started)
            tell(session.observers, StageEnded(plan.run.name, plan.run.stage, "finished"))
            return True
        if self.notice.given:
            return False
        stage = check(session, plan)
        if stage.expected.workers.dollars_per_hour is not None:
            self._session = replace(session, confirm=None)  # later stages may start when no person is there to answer
        self.attempted = True
        result = drive(session, stage, wait=wait)
        self.results.append(result)
        return result.finished

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.notice.given:
            raise KeyboardInterrupt
        sys.stderr.write("\nleaving after the current epochs; press Ctrl-C again to leave immediately\n")
        self.notice.give("signal", node_notice_seconds(os.environ, GRACE_SECONDS))
