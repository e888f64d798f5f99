"""What the store holds of one zoo, counted: where a driver's metrics go on from, and all that the exporter shows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.runs.ledger import Ledger
from zooforge.storage.stores.protocol import Traffic

from ..planning.units import Request, WorkUnit, work_units
from ..spec.grid import rows
from ..spec.twins import TwinSpec, Zoo

# Shape suffix: M = models of the zoo, by index.

UNIT_STATES = ("waiting", "running", "committed")
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
UNKNOWN = float("nan")
NO_QUANTILES = (UNKNOWN,) * len(QUANTILES)


class Meter:
    """What went through a store since it was last asked."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._read = self._retries = 0

    def take(self) -> tuple[int, int]:
        """Bytes read and requests tried again."""
        read, retries = self._traffic.read_bytes, self._traffic.num_retries
        found = read - self._read, retries - self._retries
        self._read, self._retries = read, retries
        return found


@dataclass
class Counts:
    """Models and units of one zoo, by how far they are.

    ``states_M`` are committed states without a gap (epoch 0 is one), ``faulty_M`` the share of a model that is faulty:
    where only a task's number of faulty models is known, all its models carry an equal share of it.
    """

    num_epochs: int
    asked_M: NDArray[np.bool_]
    units: Sequence[NDArray[np.int64]]
    states_M: NDArray[np.int32]
    faulty_M: NDArray[np.float64]

    @classmethod
    def of_first(cls, num_models: int, num_epochs: int) -> "Counts":
        """Nothing committed yet of models ``[0, num_models)``, whose units are not known."""
        asked_M = np.ones(num_models, np.bool_)
        return cls(num_epochs, asked_M, (), np.zeros(num_models, np.int32), np.zeros(num_models))

    @property
    def model_epochs(self) -> int:
        return int(self.states_M.sum())

    @property
    def wanted(self) -> int:
        return int(self.asked_M.sum()) * (self.num_epochs + 1)

    @property
    def remaining(self) -> int:
        return self.wanted - int(np.minimum(self.states_M[self.asked_M], self.num_epochs + 1).sum())

    @property
    def models(self) -> dict[str, int]:
        states, faulty = self.states_M[self.asked_M], self.faulty_M[self.asked_M]
        done = states > self.num_epochs
        num_faulty = round(float(faulty.sum()))
        num_done = round(float((1 - faulty)[done].sum()))
        num_waiting = round(float((1 - faulty)[states == 0].sum()))
        num_training = len(states) - num_faulty - num_done - num_waiting
        return {"waiting": num_waiting, "training": max(num_training, 0), "done": num_done, "faulty": num_faulty}

    @property
    def num_units(self) -> dict[str, int]:
        """A unit is running from its first part on until every model that was asked for is done."""
        found = dict.fromkeys(UNIT_STATES, 0)
        for members in self.units:
            states = self.states_M[members]
            if states.min() > self.num_epochs:
                found["committed"] += 1
            else:
                found["running" if states.max() else "waiting"] += 1
        return found

    def add(self, models: Sequence[int], stop: int) -> int:
        """Say that ``models`` have all epochs below ``stop``; gives the number of model-epochs that are new."""
        index = np.asarray(models, np.int64)
        self._reach(int(index.max()) + 1)
        before = self.states_M[index]
        self.states_M[index] = np.maximum(before, stop)
        return int((self.states_M[index] - before).sum())

    def add_faulty(self, models: Sequence[int], count: int) -> None:
        """Say that ``count`` more of ``models`` are faulty."""
        index = np.asarray(models, np.int64)
        self.faulty_M[index] = min((float(self.faulty_M[index].sum()) + count) / len(index), 1.0)

    def _reach(self, num_models: int) -> None:
        """Make room for models that nobody asked for here: another driver's, of a larger request."""
        more = num_models - len(self.states_M)
        if more > 0:
            self.asked_M = np.append(self.asked_M, np.zeros(more, np.bool_))
            self.states_M = np.append(self.states_M, np.zeros(more, np.int32))
            self.faulty_M = np.append(self.faulty_M, np.zeros(more))


@dataclass(frozen=True)
class StoreTotals:
    """Sums over records and usage; true whoever wrote them. ``last_commit`` is Unix time, 0 if not known.

    ``usage`` has the sums of the usage records: pod_seconds, committed_seconds, wasted_seconds, dollars, preemptions,
    lost_epochs, retries, store_retries, read_bytes, whichever there are.
    """

    zoo: str
    stage: str
    counts: Counts
    samples: int
    written_bytes: int
    faulty: Mapping[str, int]
    usage: Mapping[str, float] = field(default_factory=dict)
    last_commit: float = 0.0
    budget_dollars: float | None = None
    expected_faulty_ratio: float = UNKNOWN

    @property
    def dollars(self) -> tuple[float, float]:
        return split_dollars(self.usage)


def split_dollars(usage: Mapping[str, float]) -> tuple[float, float]:
    """(committed, wasted): what pods cost, by the shares of their time that ended in commits and that never will.

    The two are all that was spent once no driver is at work; until then, what is under way is in neither.
    """
    spent, pod_seconds = usage.get("dollars", 0.0), usage.get("pod_seconds", 0.0)
    if pod_seconds <= 0:
        return 0.0, spent
    committed = min(pod_seconds, usage.get("committed_seconds", 0.0))
    wasted = min(pod_seconds - committed, usage.get("wasted_seconds", pod_seconds - committed))
    return spent * committed / pod_seconds, spent * wasted / pod_seconds


def store_totals(
    zoo: Zoo,
    wanted: Request,
    ledger: Ledger,
    usage: Mapping[str, float],
    *,
    units: Iterable[WorkUnit] | None = None,
    absent: Collection[int] = (),
    last_commit: float = 0.0,
    budget_dollars: float | None = None,
) -> StoreTotals:
    """Count what ``ledger`` holds of ``wanted``.

    Args:
        usage: as ``zooforge.storage.runs.run_files.read_usage`` gives it.
        units: of the whole zoo, if at hand.
        absent: models of the request that cannot be made yet, such as twins whose parents are not trained.
    """
    num_models = len(rows(zoo))
    asked_M = np.zeros(num_models, np.bool_)
    asked_M[wanted.models.start : wanted.models.stop] = True
    asked_M[list(absent)] = False
    states_M = np.zeros(num_models, np.int32)
    for model in ledger.models:
        states_M[model] = ledger.num_epochs(model)
    faulty_M = np.zeros(num_models)
    reasons: dict[str, int] = {}
    for model, faulty in ledger.faulty.items():
        faulty_M[model] = 1
        reasons[faulty.reason] = reasons.get(faulty.reason, 0) + 1
    members = (np.asarray(unit.models, np.int64) for unit in (work_units(zoo) if units is None else units))
    asked = (models[asked_M[models]] for models in members)
    totals = ledger.totals
    return StoreTotals(
        zoo=zoo.name,
        stage="sparsify" if isinstance(zoo, TwinSpec) else "train",
        counts=Counts(wanted.num_epochs, asked_M, [models for models in asked if len(models)], states_M, faulty_M),
        samples=totals.samples,
        written_bytes=totals.bytes,
        faulty=reasons,
        usage=usage,
        last_commit=last_commit,
        budget_dollars=budget_dollars,
        expected_faulty_ratio=zoo.root.expected_faulty_ratio,
    )


def quantiles(values: Any) -> tuple[float, ...]:
    """``QUANTILES`` of ``values``, not a number where there are none."""
    return tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else NO_QUANTILES
