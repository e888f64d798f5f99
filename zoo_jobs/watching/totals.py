"""Counts of one zoo's records in the store. A driver's metrics start from them; the exporter shows only them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.runs.ledger import Ledger
from zooforge.storage.stores.protocol import Traffic

from ..planning.units import Request, work_units
from ..spec.grid import rows
from ..spec.twins import TwinSpec, Zoo

# Shape suffix: M = models of the zoo, by index.

UNIT_STATES = ("waiting", "running", "committed")
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
UNKNOWN = float("nan")
NO_QUANTILES = (UNKNOWN,) * len(QUANTILES)


class Meter:
    """The traffic of a store since the last call of ``take``."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._read = self._retries = 0

    def take(self) -> tuple[int, int]:
        """Returns (bytes read, requests that were repeated)."""
        read, retries = self._traffic.read_bytes, self._traffic.num_retries
        taken = read - self._read, retries - self._retries
        self._read, self._retries = read, retries
        return taken


@dataclass
class Counts:
    """The progress of the models and units of one zoo.

    Attributes:
        num_epochs: the last epoch of the request.
        asked_M: whether the request names the model.
        units: model indices of each work unit, of the request alone.
        states_M: committed states without a gap; epoch 0 is one of them.
        faulty_M: 1 for a faulty model. Where only the number of faulty models of a task is known, each model of the
            task carries an equal share of it.
    """

    num_epochs: int
    asked_M: NDArray[np.bool_]
    units: Sequence[NDArray[np.int64]]
    states_M: NDArray[np.int32]
    faulty_M: NDArray[np.float64]

    @classmethod
    def none(cls) -> "Counts":
        """Counts of a zoo of which nothing is known."""
        return cls(0, np.zeros(0, np.bool_), (), np.zeros(0, np.int32), np.zeros(0))

    @property
    def model_epochs(self) -> int:
        """Committed model-epochs, of all requests."""
        return int(self.states_M.sum())

    @property
    def wanted(self) -> int:
        """Model-epochs of the request, epoch 0 included."""
        return int(self.asked_M.sum()) * (self.num_epochs + 1)

    @property
    def remaining(self) -> int:
        """Model-epochs of the request that are not committed."""
        return self.wanted - int(np.minimum(self.states_M[self.asked_M], self.num_epochs + 1).sum())

    @property
    def models(self) -> dict[str, int]:
        """The number of models of the request by state; each is in exactly one."""
        states, faulty = self.states_M[self.asked_M], self.faulty_M[self.asked_M]
        done = states > self.num_epochs
        num_faulty = round(float(faulty.sum()))
        num_done = round(float((1 - faulty)[done].sum()))
        num_waiting = round(float((1 - faulty)[states == 0].sum()))
        num_training = len(states) - num_faulty - num_done - num_waiting
        return {"waiting": num_waiting, "training": max(num_training, 0), "done": num_done, "faulty": num_faulty}

    @property
    def num_units(self) -> dict[str, int]:
        """The number of units by state. A unit is running from its first part until all its models are done."""
        numbers = dict.fromkeys(UNIT_STATES, 0)
        for members in self.units:
            states = self.states_M[members]
            if states.min() > self.num_epochs:
                numbers["committed"] += 1
            else:
                numbers["running" if states.max() else "waiting"] += 1
        return numbers

    def add(self, models: Sequence[int], stop: int) -> int:
        """Note that ``models`` have all epochs below ``stop``. Returns the number of model-epochs that are new."""
        index = np.asarray(models, np.int64)
        self._reach(int(index.max()) + 1)
        before = self.states_M[index]
        self.states_M[index] = np.maximum(before, stop)
        return int((self.states_M[index] - before).sum())

    def add_faulty(self, models: Sequence[int], count: int) -> None:
        """Note that ``count`` more of ``models`` are faulty."""
        index = np.asarray(models, np.int64)
        self.faulty_M[index] = min((float(self.faulty_M[index].sum()) + count) / len(index), 1.0)

    def _reach(self, num_models: int) -> None:
        """Make room for models beyond this request: those of another driver with a larger one."""
        more = num_models - len(self.states_M)
        if more > 0:
            self.asked_M = np.append(self.asked_M, np.zeros(more, np.bool_))
            self.states_M = np.append(self.states_M, np.zeros(more, np.int32))
            self.faulty_M = np.append(self.faulty_M, np.zeros(more))


@dataclass(frozen=True)
class StoreTotals:
    """Sums over the records of one zoo, by all drivers.

    Attributes:
        stage: train, or sparsify for twins.
        samples: training samples of the committed model-epochs.
        faulty: number of faulty models by reason.
        usage: sums of the usage records by name: pod_seconds, committed_seconds, wasted_seconds, dollars, preemptions,
            lost_epochs, retries, store_retries, read_bytes. Names that no record has are absent.
        last_commit: Unix time, 0 if not known.
        budget_dollars: the cap of the run, None without one.
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
    """Divide the cost of the pods into the shares of their time that ended in commits and that never will.

    While a driver works, the cost of work in progress is in neither; otherwise the two add up to all that was spent.

    Args:
        usage: sums of usage records.

    Returns:
        (committed, wasted), in dollars.
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
    absent: Collection[int] = (),
    last_commit: float = 0.0,
    budget_dollars: float | None = None,
) -> StoreTotals:
    """Count what ``ledger`` holds of the request ``wanted``.

    Args:
        usage: what `zooforge.storage.runs.run_files.read_usage` returns.
        absent: models of the request that cannot be made yet, such as twins whose parents are not trained.
        last_commit: Unix time, 0 if not known.
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
    members = (np.asarray(unit.models, np.int64) for unit in work_units(zoo))
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
    """`QUANTILES` of ``values`` [N]; NaN if ``values`` is empty."""
    return tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else NO_QUANTILES
