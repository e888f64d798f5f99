"""What a stage is expected to take and to cost: said before it starts, corrected by its first minute. No Ray."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..events import Event, Observer, PartCommitted, Repriced
from ..quantities import dollars, duration
from ..spec.twins import Zoo
from .estimate import is_variational, slot_seconds, stage_seconds
from .machines import Machine, Rate, machine_here
from .units import Task

logger = logging.getLogger(__name__)

CALIBRATION_SECONDS = 60.0
MOST_RATIO = 1.5  # of what was confirmed, above which a stage is stopped


@dataclass(frozen=True, slots=True)
class Planned:
    """Of what was missing when a driver started. ``seconds`` and ``dollars`` are None where nothing was measured.

    Attributes:
        factor: what an earlier attempt measured, as a ratio to the rates of ``machine``; 1 without one.
        dollars_per_hour: of all slots.
    """

    machine: str | None
    engine: str
    slots: int
    factor: float
    seconds: float | None
    dollars: float | None
    dollars_per_hour: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        """``2.1 h on 8 slots of c3-44 with lanes, $3.10``."""
        place = f" of {self.machine}" if self.machine else ""
        count = "1 slot" if self.slots == 1 else f"{self.slots} slots"
        return f"{duration(self.seconds)} on {count}{place} with {self.engine}, {dollars(self.dollars)}"


def rate_here(zoo: Zoo, engine: str, environment: Mapping[str, str]) -> tuple[Machine | None, Rate | None]:
    """The machine that ``ZOO_MACHINE`` names, else the table's default, and the rate that it was measured at."""
    place = machine_here(environment)
    spec = zoo.root
    rate = None if place is None else place.rate(spec.architecture, spec.in_channels, is_variational(zoo), engine)
    return place, rate


def planned(
    zoo: Zoo,
    missing: Iterable[Task],
    last_part: int,
    engine: str,
    slots: int,
    slot_dollars_per_hour: float | None,
    environment: Mapping[str, str],
    factor: float = 1.0,
) -> Planned:
    """What ``missing`` takes on ``slots`` slots."""
    place, rate = rate_here(zoo, engine, environment)
    seconds = None if rate is None else factor * stage_seconds(zoo, rate, missing, last_part, slots)
    price = None if slot_dollars_per_hour is None else slots * slot_dollars_per_hour
    cost = None if seconds is None or price is None else seconds / 3600 * price
    return Planned(None if place is None else place.name, engine, slots, factor, seconds, cost, price)


class Calibration:
    """An observer that compares the first minute of a stage with its plan, once, and tells what follows.

    It counts from the start of the first worker's first part to be committed, and not before a trained epoch is among
    them: epoch 0 is evaluated only. Where that makes the stage dearer than ``MOST_RATIO`` times what was confirmed,
    ``stop`` is called with the reason, unless the cap allows as much.

    Attributes:
        factor: of the plan that holds now: measured over planned, times the plan's own; None before.
    """

    def __init__(
        self,
        zoo: Zoo,
        plan: Planned,
        rate: Rate | None,
        cap_dollars: float | None,
        listeners: Iterable[Observer],
        stop: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zoo, self._plan, self._rate, self._cap = zoo, plan, rate, cap_dollars
        self._listeners, self._stop, self._clock = list(listeners), stop, clock
        self._begun: float | None = None
        self._measured = self._predicted = 0.0
        self.factor: float | None = None

    def __call__(self, event: Event) -> None:
        if not isinstance(event, PartCommitted) or self._rate is None or self.factor is not None:
            return
        now = self._clock()
        if self._begun is None:
            self._begun = now - event.train_seconds
        self._measured += event.train_seconds
        epochs = range(event.epochs[0], event.epochs[-1] + 1)
        self._predicted += self._plan.factor * slot_seconds(self._zoo, self._rate, len(event.models), epochs)
        if epochs[-1] > 0 and now - self._begun >= CALIBRATION_SECONDS:
            self._compare(event.zoo, event.stage)

    def _compare(self, zoo: str, stage: str) -> None:
        ratio, plan = self._measured / self._predicted, self._plan
        self.factor = ratio * plan.factor
        seconds = None if plan.seconds is None else ratio * plan.seconds
        cost = None if plan.dollars is None else ratio * plan.dollars
        too_dear = (
            cost is not None and plan.dollars is not None and cost > max(MOST_RATIO * plan.dollars, self._cap or 0.0)
        )
        for listener in self._listeners:
            listener(Repriced(zoo, stage, ratio, seconds, cost))
        if too_dear:
            figures = {"ratio": round(ratio, 2), "dollars": round(cost or 0.0, 2)}
            logger.warning("dearer than confirmed", extra={"kind": "dearer", "zoo": zoo, **figures})
            self._stop(
                f"by its first minute {zoo} takes {duration(seconds)} and {dollars(cost)}, {ratio:.1f} times the "
                f"{dollars(plan.dollars)} that were confirmed; the same command confirms the new price and goes on"
            )


LEAST_SECONDS = 60.0  # of a plan that is worth a comparison


@dataclass(frozen=True, slots=True)
class Took:
    """A stage that ended, or was stopped before its end, beside its plan; None where no rate or no price was known."""

    zoo: str
    stage: str
    seconds: float
    planned_seconds: float | None
    dollars: float | None
    planned_dollars: float | None
    finished: bool = True
    reason: str = ""
    """Why the stage was stopped, where a cap or its price did that."""

    @property
    def sentence(self) -> str:
        """``train tiny took 5.2 min, planned 4.6 min (+13%); $0.01, planned $0.01 (+12%)``.

        Of less than a minute the difference is not said: starting Ray alone takes longer than that is worth.
        """
        said = f"{self.stage} {self.zoo} took {duration(self.seconds)}"
        if not self.finished:
            return said + (f" of {duration(self.planned_seconds)} that were planned" if self.planned_seconds else "")
        if self.planned_seconds:
            said += f", planned {duration(self.planned_seconds)}{self._off(self.seconds, self.planned_seconds)}"
        if self.dollars is not None:
            said += f"; {dollars(self.dollars)}"
            if self.planned_dollars:
                said += f", planned {dollars(self.planned_dollars)}{self._off(self.dollars, self.planned_dollars)}"
        return said

    def _off(self, found: float, planned: float) -> str:
        return f" ({found / planned - 1:+.0%})" if (self.planned_seconds or 0) >= LEAST_SECONDS else ""
