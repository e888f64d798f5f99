"""Plans the time and the price of a stage, compares them with what its first minute took, and measures the pace for the
plan of the next attempt. No Ray."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..events import Event, Observer, PartCommitted, Repriced
from ..quantities import dollars, duration
from ..spec.twins import Zoo
from .estimate import BUSY_FACTOR, is_variational, slot_seconds, stage_seconds
from .machines import Machine, Rate, machine_here
from .units import Task

logger = logging.getLogger(__name__)

CALIBRATION_SECONDS = 60.0
MOST_RATIO = 1.5  # a stage is stopped above this ratio to the confirmed price
SETTLED_SECONDS = 600.0  # a shorter measurement of training may come from a busy minute
COMPARED_SECONDS = 60.0  # planned; for shorter stages the difference is only the start of Ray


@dataclass(frozen=True, slots=True)
class Workers:
    """The slots of one machine that train with one engine. ``machine`` and ``rate`` are None where not measured."""

    engine: str
    slots: int
    slot_dollars_per_hour: float | None
    machine: str | None
    rate: Rate | None

    @property
    def dollars_per_hour(self) -> float | None:
        """Price of all slots."""
        return None if self.slot_dollars_per_hour is None else self.slots * self.slot_dollars_per_hour

    @property
    def sentence(self) -> str:
        """``8 slots of c3-44 with lanes``."""
        place = f" of {self.machine}" if self.machine else ""
        return f"{'1 slot' if self.slots == 1 else f'{self.slots} slots'}{place} with {self.engine}"


@dataclass(frozen=True, slots=True)
class Pace:
    """Training time as a multiple of the time by the rate table: expected value, range and source."""

    factor: float = 1.0
    low: float = 1.0
    high: float = BUSY_FACTOR
    source: str = "by the rate table, which was measured at rest"

    @classmethod
    def measured(cls, ends: Sequence[Mapping[str, Any]], engine: str) -> "Pace":
        """The pace that the last attempt with ``engine`` measured.

        Args:
            ends: records of how the attempts of the run ended, in their order.
        """
        known = [end for end in ends if end.get("factor") and end.get("engine") == engine]
        if not known:
            return cls()
        factor, seconds = float(known[-1]["factor"]), float(known[-1].get("factor_seconds", 0.0))
        low, high = known[-1].get("factor_low", factor), known[-1].get("factor_high", factor)
        if seconds < SETTLED_SECONDS:
            low, high = min(low, 1.0), max(high, 1.0)
        over = f" over {duration(seconds)} of training" if seconds else ""
        return cls(factor, low, high, f"{factor:.2g} times the rate table, as the attempt before measured{over}")


@dataclass(frozen=True, slots=True)
class Planned:
    """Time and price of the missing part of a stage. None where nothing was measured."""

    workers: Workers
    pace: Pace
    seconds: float | None
    dollars: float | None

    @property
    def range_seconds(self) -> tuple[float, float] | None:
        """The range from the fastest to the slowest measurement; other work on a machine makes it slower."""
        if self.seconds is None:
            return None
        return self.pace.low / self.pace.factor * self.seconds, self.pace.high / self.pace.factor * self.seconds

    def to_json(self) -> dict[str, Any]:
        """The value in the form of an attempt's record."""
        return {
            "machine": self.workers.machine,
            "engine": self.workers.engine,
            "slots": self.workers.slots,
            "factor": self.pace.factor,
            "factor_source": self.pace.source,
            "seconds": self.seconds,
            "range_seconds": self.range_seconds,
            "dollars": self.dollars,
            "dollars_per_hour": self.workers.dollars_per_hour,
        }

    @property
    def sentence(self) -> str:
        """``2.1 h (2.1 h to 6.3 h) on 8 slots of c3-44 with lanes, $3.10; by the rate table, ...``."""
        said = f"{duration(self.seconds)}{self._range} on {self.workers.sentence}, {dollars(self.dollars)}"
        return said if self.seconds is None else f"{said}; {self.pace.source}"

    @property
    def _range(self) -> str:
        low, high = map(duration, self.range_seconds or (None, None))
        return "" if low == high else f" ({low} to {high})"


def rate_here(
    zoo: Zoo, engine: str, environment: Mapping[str, str], workers_per_gpu: int = 1
) -> tuple[Machine | None, Rate | None]:
    """The machine that ``ZOO_MACHINE`` names, else the table's default, and the rate that it was measured at."""
    place = machine_here(environment, workers_per_gpu)
    spec = zoo.root
    asked = spec.architecture_name, spec.in_channels, is_variational(zoo), engine, spec.precision
    rate = None if place is None else place.rate(*asked)
    return place, rate


def workers_here(
    zoo: Zoo,
    engine: str,
    slots: int,
    slot_dollars_per_hour: float | None,
    environment: Mapping[str, str],
    workers_per_gpu: int = 1,
) -> Workers:
    """``slots`` slots of the machine that the environment names."""
    place, rate = rate_here(zoo, engine, environment, workers_per_gpu)
    return Workers(engine, slots, slot_dollars_per_hour, None if place is None else place.name, rate)


def planned(zoo: Zoo, missing: Iterable[Task], last_part: int, workers: Workers, pace: Pace) -> Planned:
    """Time and price of training ``missing`` with ``workers`` at ``pace``."""
    seconds = cost = None
    if workers.rate is not None:
        seconds = pace.factor * stage_seconds(zoo, workers.rate, missing, last_part, workers.slots)
        if workers.dollars_per_hour is not None:
            cost = seconds / 3600 * workers.dollars_per_hour
    return Planned(workers, pace, seconds, cost)


@dataclass(slots=True)
class _Measured:
    """Seconds of training, and the same training by the rate table."""

    seconds: float = 0.0
    table_seconds: float = 0.0
    has_trained: bool = False  # epoch 0 is only evaluated, so it does not measure training

    def add(self, seconds: float, table_seconds: float, trained: bool) -> None:
        self.seconds += seconds
        self.table_seconds += table_seconds
        self.has_trained |= trained

    @property
    def factor(self) -> float:
        return self.seconds / self.table_seconds


class Calibration:
    """An observer that measures the training of a stage against the rate table, minute by minute and as a whole.

    Only the training time of committed parts counts: the start of workers and waiting for the store are left out. The
    first minute, which begins with the first part and holds a trained epoch, is compared with the plan. Where it makes
    the stage dearer than ``MOST_RATIO`` times what was confirmed, ``stop`` is called with the reason, unless the cap
    allows as much.
    """

    def __init__(
        self,
        zoo: Zoo,
        plan: Planned,
        cap_dollars: float | None,
        listeners: Iterable[Observer],
        stop: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zoo, self._plan, self._cap = zoo, plan, cap_dollars
        self._listeners, self._stop, self._clock = list(listeners), stop, clock
        self._whole, self._minute = _Measured(), _Measured()
        self._minute_began: float | None = None
        self._factors: list[float] = []  # least and greatest factor of the whole minutes so far

    def __call__(self, event: Event) -> None:
        rate = self._plan.workers.rate
        if not isinstance(event, PartCommitted) or rate is None:
            return
        now = self._clock()
        if self._minute_began is None:
            self._minute_began = now - event.train_seconds
        epochs = range(event.epochs[0], event.epochs[-1] + 1)
        table_seconds = slot_seconds(self._zoo, rate, event.models, epochs)
        for measured in (self._whole, self._minute):
            measured.add(event.train_seconds, table_seconds, trained=epochs[-1] > 0)
        if self._minute.has_trained and now - self._minute_began >= CALIBRATION_SECONDS:
            factor, is_first = self._minute.factor, not self._factors
            self._factors = [min([factor, *self._factors]), max([factor, *self._factors])]
            self._minute, self._minute_began = _Measured(), now
            if is_first:
                self._compare(event.zoo, event.stage, factor / self._plan.pace.factor)

    @property
    def factor(self) -> float | None:
        """Seconds of the whole attempt over those of the rate table; None before the first minute has passed."""
        return self._whole.factor if self._factors else None

    def to_json(self) -> dict[str, float | None]:
        """The measured pace, for ``Pace.measured`` of the next attempt."""
        if self.factor is None:
            return {"factor": None}
        low, high = min(self.factor, *self._factors), max(self.factor, *self._factors)
        figures = {"factor": self.factor, "factor_low": low, "factor_high": high}
        return {**figures, "factor_seconds": self._whole.seconds}

    def _compare(self, zoo: str, stage: str, ratio: float) -> None:
        plan = self._plan
        seconds = None if plan.seconds is None else ratio * plan.seconds
        cost = None if plan.dollars is None else ratio * plan.dollars
        for listener in self._listeners:
            listener(Repriced(zoo, stage, ratio, seconds, cost))
        if cost is None or plan.dollars is None or cost <= max(MOST_RATIO * plan.dollars, self._cap or 0.0):
            return
        figures = {"ratio": round(ratio, 2), "dollars": round(cost, 2)}
        logger.warning("dearer than confirmed", extra={"kind": "dearer", "zoo": zoo, **figures})
        self._stop(
            f"by its first minute {zoo} takes {duration(seconds)} and {dollars(cost)}, {ratio:.1f} times the "
            f"{dollars(plan.dollars)} that were confirmed; the same command confirms the new price and continues"
        )


@dataclass(frozen=True, slots=True)
class StageResult:
    """Time and price of a stage that ended or was stopped, and its plan. Dollars are None without a price."""

    zoo: str
    stage: str
    seconds: float
    dollars: float | None
    planned: Planned
    finished: bool = True
    reason: str = ""
    """The reason if a cap or the price stopped the stage, otherwise empty."""

    @property
    def sentence(self) -> str:
        """``train tiny took 5.2 min, planned 4.6 min (+13%); $0.01, planned $0.01 (+12%)``."""
        said, plan = f"{self.stage} {self.zoo} took {duration(self.seconds)}", self.planned
        if not self.finished:
            return said + (f" of {duration(plan.seconds)} that were planned" if plan.seconds else "")
        if plan.seconds:
            said += f", planned {duration(plan.seconds)}{self._difference(self.seconds, plan.seconds)}"
        if self.dollars is not None:
            said += f"; {dollars(self.dollars)}"
            if plan.dollars:
                said += f", planned {dollars(plan.dollars)}{self._difference(self.dollars, plan.dollars)}"
        return said

    def _difference(self, actual: float, expected: float) -> str:
        """The difference in percent; empty for stages in which the start of Ray takes most of the time."""
        return f" ({actual / expected - 1:+.0%})" if (self.planned.seconds or 0) >= COMPARED_SECONDS else ""
