"""One task on one device: state from the store, part by part, each committed before the next counts. No Ray."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.commit import PartData, commit_part
from storage.keys import run_key
from storage.ledger import read_ledger
from storage.object_store import ObjectStore
from storage.record import PartRecord

from .data.prepared import PreparedData
from .epochs import EpochSet, part_epochs
from .notice import Notice
from .observers import Advance, Event, PartCommitted
from .plan import Task
from .population.contract import Engine, StateArrays
from .population.growth import NEVER, REASONS, EpochResult, Growth
from .run import Run

logger = logging.getLogger(__name__)


class UnitRunner:
    """Advances the tasks of one run on one device; keeps the last task's models in memory between calls."""

    def __init__(
        self,
        run: Run,
        engine: Engine,
        data: PreparedData,
        store: ObjectStore,
        attempt: str,
        commit_every: int,
        notice: Notice,
        chunk_models: int | None = None,
        refill: frozenset[int] = frozenset(),
    ) -> None:
        """With ``refill``, tasks begin at epoch 0 and commit again the parts that hold these epochs, with weights."""
        self._refill = refill
        self._run, self._engine, self._data, self._store, self._attempt = run, engine, data, store, attempt
        self._commit_every, self._notice, self._chunk_models = commit_every, notice, chunk_models
        self._growth: Growth | None = None
        self._task: Task | None = None
        self._after: PartRecord | None = None  # the last record of exactly these members
        self._parents: tuple[str, ...] = ()  # what the models in memory came from, where the engine is not bitwise
        self._next_part = 0
        self._epoch_seconds = 0.0
        self._lost_epochs = 0  # model-epochs of a part that there was no time to finish

    def advance(self, task: Task, part: int) -> Advance:
        """Take ``task`` to the end of ``part``, committing every part on the way; nothing if it is there already."""
        if self._notice.given:
            return self._leave([])
        if not self._is_warm(task) and not self._load(task):
            return Advance((), "rival")
        try:
            return self._advance(task, part)
        except BaseException:
            self.close()  # the models in memory may be ahead of the store
            raise

    def _advance(self, task: Task, part: int) -> Advance:
        events: list[PartCommitted] = []
        while self._next_part <= part:
            epochs = part_epochs(self._next_part, self._commit_every)
            trained = self._train(epochs, len(task.models))
            if trained is None:
                return self._leave(events)
            if not self._refill or self._refill.intersection(epochs):
                events.append(self._commit(task, epochs, *trained))
            self._next_part += 1
            if events and not events[-1].won and not self._engine.bitwise and not self._load(task):
                return Advance(tuple(events), "rival")  # the winner's numbers stand; these models go on from them
            if self._notice.given:
                return self._leave(events)
        return Advance(tuple(events))

    def close(self) -> None:
        if self._growth is not None:
            self._growth.close()
        self._growth, self._task = None, None

    def _leave(self, events: Sequence[Event]) -> Advance:
        self.close()
        lost, self._lost_epochs = self._lost_epochs, 0
        return Advance(tuple(events), "preempted" if self._notice.reason == "preempted" else "notice", lost)

    def _is_warm(self, task: Task) -> bool:
        return self._growth is not None and self._task is not None and self._task.models == task.models

    def _load(self, task: Task) -> bool:
        """Bring the newest committed state into memory; False if the models are not at one and the same part."""
        self.close()
        ledger = read_ledger(self._store, self._run.id)
        parts = {ledger.next_part(model) for model in task.models} if not self._refill else {0}
        if len(parts) != 1:
            return False
        self._next_part = parts.pop()
        parents: tuple[str, ...] = (run_key(self._run.id),)
        if self._next_part == 0:
            state = self._run.first_state(task.models, self._store)
        else:
            loaded = ledger.load_state(task.models)
            state, parents = loaded.arrays, loaded.parents
        self._parents = () if self._engine.bitwise or self._refill else parents
        self._growth = Growth(
            self._engine,
            self._run.program(self._run.rows[task.models[0]].family),
            self._run.hyperparameters(task.models),
            state,
            self._data,
            self._chunk_models,
        )
        self._task, self._after = task, ledger.last_record(task.unit, task.models)
        return True

    def _train(self, epochs: range, num_models: int) -> tuple[list[EpochResult], float] | None:
        """Results and seconds of one part; None if a notice came and the rest of the part does not fit."""
        assert self._growth is not None
        started = time.monotonic()
        results = []
        for number, epoch in enumerate(epochs):
            if not self._notice.fits(self._epoch_seconds * (len(epochs) - number)):
                self._lost_epochs = number * num_models
                return None
            epoch_started = time.monotonic()
            results.append(self._growth.step(epoch, clean_train=epoch in self._run.train_eval_epochs))
            self._epoch_seconds = time.monotonic() - epoch_started
        return results, time.monotonic() - started

    def _commit(self, task: Task, epochs: range, results: Sequence[EpochResult], seconds: float) -> PartCommitted:
        assert self._growth is not None
        started = time.monotonic()
        refill = bool(self._refill)
        state = self._growth.state()
        samples = sum(r.samples for r in results)
        data = PartData(
            unit=task.unit,
            members=task.models,
            part=self._next_part,
            epochs=epochs,
            fields=_fields(results, EpochSet(None) if refill else self._run.kept_epochs),
            labels=_labels(task.models, results),
            state={} if refill else state,
            numerics=self._engine.numerics(self._run.program(self._run.rows[task.models[0]].family)),
            samples=samples,
            seconds=seconds,
        )
        after = None if refill else self._after
        committed = commit_part(
            self._store, self._run.id, data, self._attempt, after=after, parents=self._parents, refill=refill
        )
        self._after = committed.record
        if self._parents:
            self._parents = (str(committed.record.key),)
        return PartCommitted(
            zoo=self._run.name,
            stage=self._run.stage,
            models=task.models,
            epochs=tuple(epochs),
            num_faulty=_newly_faulty(state, epochs),
            test_accuracy=_test_accuracy(results[-1]),
            sparsity=_sparsity(results[-1]),
            samples=samples,
            train_seconds=seconds,
            commit_seconds=time.monotonic() - started,
            bytes_written=committed.record.num_bytes,
            won=committed.won,
        )


def _fields(results: Sequence[EpochResult], kept: EpochSet) -> dict[str, dict[int, Any]]:
    suffixes = results[0].fields
    return {suffix: {r.epoch: r.fields[suffix] for r in results if r.epoch in kept} for suffix in suffixes}


def _labels(models: Sequence[int], results: Sequence[EpochResult]) -> dict[str, Any]:
    """Columns with a row per (model, epoch), model by model."""
    num_models, num_epochs = len(models), len(results)
    columns: dict[str, Any] = {
        "model": np.repeat(np.asarray(models, np.int32), num_epochs),
        "epoch": np.tile(np.asarray([r.epoch for r in results], np.int32), num_models),
    }
    for name in results[0].labels:
        columns[name] = np.ma.stack([r.labels[name] for r in results], axis=1).reshape(-1)
    return columns


def _newly_faulty(state: StateArrays, epochs: Sequence[int]) -> dict[str, int]:
    fresh = np.isin(state["faulty_epoch"], np.asarray(epochs)) & (state["faulty_epoch"] != NEVER)
    return {reason: int((state["faulty_reason"][fresh] == i).sum()) for i, reason in enumerate(REASONS)}


def _test_accuracy(result: EpochResult) -> Any:
    ratio = result.labels["test_correct"] / result.labels["test_count"]
    return np.ma.compressed(ratio).astype(np.float64)


def _sparsity(result: EpochResult) -> Any:
    if "num_pruned" not in result.labels:
        return np.zeros(0)
    return np.ma.compressed(result.labels["num_pruned"] / result.labels["num_prunable"]).astype(np.float64)
