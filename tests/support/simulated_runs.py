"""Events and totals of invented runs."""

from collections.abc import Sequence

import numpy as np

from zooforge.zoo_jobs.events import PartCommitted, StageStarted
from zooforge.zoo_jobs.watching.totals import Counts, StoreTotals


def started(zoo: str, *, models: int = 8, epochs: int = 4, done: int = 0, stage: str = "train") -> StageStarted:
    return StageStarted(
        zoo=zoo,
        run="a" * 32,
        stage=stage,
        models=models,
        epochs=epochs,
        done=done,
        total=models * (epochs + 1),
        units=2,
        engine="lanes",
    )


def committed(
    zoo: str,
    models: Sequence[int],
    epoch: int,
    *,
    stage: str = "train",
    accuracy: Sequence[float] | None = None,
    sparsity: Sequence[float] = (),
    faulty: dict[str, int] | None = None,
    seconds: float = 1.5,
) -> PartCommitted:
    return PartCommitted(
        zoo=zoo,
        stage=stage,
        models=tuple(models),
        epochs=(epoch,),
        num_faulty=faulty or {},
        test_accuracy=np.asarray([0.5] * len(models) if accuracy is None else accuracy, np.float64),
        sparsity=np.asarray(sparsity, np.float64),
        samples=1000 * len(models),
        train_seconds=seconds,
        commit_seconds=0.05,
        bytes_written=10_000 * len(models),
        won=True,
    )


def totals(
    zoo: str,
    states: Sequence[int],
    *,
    num_epochs: int = 4,
    units: Sequence[Sequence[int]] = (),
    faulty: dict[int, str] | None = None,
    samples: int | None = None,
    usage: dict[str, float] | None = None,
    stage: str = "train",
    last_commit: float = 0.0,
    budget_dollars: float | None = None,
) -> StoreTotals:
    faulty_M = np.zeros(len(states))
    reasons: dict[str, int] = {}
    for model, reason in (faulty or {}).items():
        faulty_M[model] = 1
        reasons[reason] = reasons.get(reason, 0) + 1
    counts = Counts(
        num_epochs,
        np.ones(len(states), np.bool_),
        [np.asarray(unit, np.int64) for unit in units],
        np.asarray(states, np.int32),
        faulty_M,
    )
    return StoreTotals(
        zoo=zoo,
        stage=stage,
        counts=counts,
        samples=1000 * sum(states) if samples is None else samples,
        written_bytes=10_000 * sum(states),
        faulty=reasons,
        usage=usage or {},
        last_commit=last_commit,
        budget_dollars=budget_dollars,
        expected_faulty_ratio=0.05,
    )
