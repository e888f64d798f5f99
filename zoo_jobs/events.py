"""What happens in a run, as values, and who listens: progress bars, metrics, logs, the usage account. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StageStarted:
    """``done`` model-epochs were in the store when this driver started; ``total`` is what was asked for."""

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
    """One part of one task is in the store. ``won`` is false where a rival had committed the same bytes before."""

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
    """Something a person may have to act on. ``kind`` is bounded: preempted, retried, failed, store, rival."""

    zoo: str
    stage: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class StageEnded:
    """``state`` is finished, stopped (asked to), or failed."""

    zoo: str
    stage: str
    state: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What workers took besides their commits, since the last time that this was said.

    ``lost_epochs`` are model-epochs under way in a worker that left, failed or was lost, and so never committed.
    """

    zoo: str
    stage: str
    lost_epochs: int = 0
    store_retries: int = 0
    read_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UsageWritten:
    """The account was written: ``sums`` over the whole run, by name, as its usage records give them."""

    zoo: str
    stage: str
    sums: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Repriced:
    """The first minute, over what was planned of it, and what the whole stage takes at that ratio."""

    zoo: str
    stage: str
    ratio: float
    seconds: float | None
    dollars: float | None


Event = StageStarted | Repriced | PartCommitted | Problem | Spent | UsageWritten | StageEnded


Left = Literal["preempted", "notice", "rival"]


@dataclass(frozen=True, slots=True)
class Advance:
    """What one call did. ``left``: the task is given back, since a notice came or a rival is ahead.

    ``pending`` parts are trained and their commits under way: a later call says how they ended.
    ``store_retries`` and ``read_bytes`` are those of the worker's store since its last call that ended well.
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
