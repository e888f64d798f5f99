"""Events of a run, for its observers: progress bars, metrics, logs, the usage account. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins. ``done`` of ``total`` requested model-epochs were in the store when this driver started."""

    zoo: str
    run: str
    stage: str
    models: int
    epochs: int
    done: int
    total: int
    units: int
    engine: str


@dataclass(frozen=True, slots=True)
class PartCommitted:
    """One part of one task is in the store. ``won`` is False if another driver had committed it before."""

    zoo: str
    stage: str
    models: tuple[int, ...]
    epochs: tuple[int, ...]
    num_faulty: dict[str, int]  # by reason, models that became faulty in this part
    test_accuracy: NDArray[np.float64]  # of the last epoch, finite models only
    sparsity: NDArray[np.float64]  # of the last epoch, twins only
    samples: int
    train_seconds: float
    commit_seconds: float
    bytes_written: int
    won: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person may have to act on. ``kind`` is preempted, memory, retried, failed, store or rival."""

    zoo: str
    stage: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage ends. ``state`` is finished, stopped (by a notice) or failed."""

    zoo: str
    stage: str
    state: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Costs of workers besides their commits, since the previous event of this kind.

    ``lost_epochs`` are model-epochs that a worker trained and did not commit, because it left, failed or was lost.
    """

    zoo: str
    stage: str
    lost_epochs: int = 0
    store_retries: int = 0
    read_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UsageWritten:
    """A usage record was written. ``sums`` are the sums of all usage records of the run, by name."""

    zoo: str
    stage: str
    sums: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Repriced:
    """The first minute was compared with the plan: their ratio, and what the stage takes at that ratio."""

    zoo: str
    stage: str
    ratio: float
    seconds: float | None
    dollars: float | None


Event = StageStarted | Repriced | PartCommitted | Problem | Spent | UsageWritten | StageEnded


Left = Literal["preempted", "notice", "rival"]


@dataclass(frozen=True, slots=True)
class Advance:
    """The result of one call of a worker.

    Attributes:
        left: why the worker gave the task back: a notice, or another driver is ahead ("rival"). None: it did not.
        pending: trained parts whose commit has not ended; a later call returns its event.
        store_retries, read_bytes: of the worker's store since its last successful call.
    """

    events: tuple[Event, ...]
    left: Left | None = None
    lost_epochs: int = 0
    store_retries: int = 0
    read_bytes: int = 0
    pending: int = 0


class Observer(Protocol):
    def __call__(self, event: Event, /) -> None: ...


def tell(observers: Sequence[Observer], event: Event) -> None:
    for observer in observers:
        observer(event)
