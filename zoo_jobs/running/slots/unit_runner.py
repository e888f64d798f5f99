"""Trains one task on one device, part by part; parts are committed in order while the next one trains. No Ray."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import numpy as np

from zooforge.storage.formats.labels import FAULT_REASONS, LABEL_VERSION, measured_columns
from zooforge.storage.formats.record import PartRecord
from zooforge.storage.keys import run_key
from zooforge.storage.runs.commit import PartData, commit_part
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.protocol import ObjectStore

from ...data.prepared import PreparedData
from ...engines.contract import Engine, StateArrays
from ...engines.growth import NEVER, EpochResult, Growth
from ...events import Advance, Event, PartCommitted
from ...planning.units import Task
from ...spec.epochs import EpochSet, part_epochs
from ..inputs import Run
from ..notice import Notice
from .commit_queue import LIMIT_BYTES, CommitQueue

logger = logging.getLogger(__name__)


class UnitRunner:
    """Trains tasks of one run on one device. Keeps the models of the last task in memory between calls."""

    def __init__(
        self,
        run: Run,
        engine: Engine,
        data: PreparedData,
        store: ObjectStore,
        attempt: str,
        notice: Notice,
        chunk_models: int | None = None,
        refill: frozenset[int] = frozenset(),
        buffer_bytes: int = LIMIT_BYTES,
        label_version: int = LABEL_VERSION,
    ) -> None:
        """Args:
        refill: train tasks from epoch 0 and commit the parts with these epochs again, with weights.
        buffer_bytes: most bytes of parts that wait for their commit while the slot trains; 0 waits for each commit.
        """
        self._refill, self._columns = refill, measured_columns(label_version)
        self._commits: CommitQueue[PartCommitted | None] = CommitQueue(buffer_bytes)
        self._wait = buffer_bytes == 0
        self._commit_seconds = 0.0
        self._behind = False  # another driver's record won a part, and the models in memory differ from it
        self._run, self._engine, self._data, self._store, self._attempt = run, engine, data, store, attempt
        self._commit_every, self._notice, self._chunk_models = run.zoo.commit_every, notice, chunk_models
        self._growth: Growth | None = None
        self._task: Task | None = None
        self._after: PartRecord | None = None  # last record of these models
        self._parents: tuple[str, ...] = ()  # records that the models in memory come from, if the engine is not bitwise
        self._next_part = 0
        self._epoch_seconds = 0.0
        self._lost_epochs = 0  # model-epochs of parts that could not be finished before a notice

    def advance(self, task: Task, part: int) -> Advance:
        """Train ``task`` to the end of ``part``. Commits may still be ``pending`` when the call returns.

        If nothing is left to train, the call waits for the commits. Raises the error of a commit.
        """
        events: list[Event] = []
        try:
            if self._notice.given:
                return self._leave(events)
            if not self._is_warm(task):
                events += _events(self._commits.flush())
                if not self._load(task):
                    return Advance(tuple(events), "rival")
            return self._advance(task, part, events)
        except BaseException:
            self.close()  # the models in memory may be ahead of the store
            raise

    def _advance(self, task: Task, part: int, events: list[Event]) -> Advance:
        idle = True
        while True:
            events += _events(self._commits.take())
            if self._wait or (idle and self._next_part > part):
                events += _events(self._commits.flush())
            if self._behind:  # load the record that won, and train on from it
                self._commits.clear()
                if not self._load(task):
                    return Advance(tuple(events), "rival")
            if self._notice.given:
                return self._leave(events)
            if self._next_part > part:
                return Advance(tuple(events), pending=self._commits.pending)
            idle = False
            epochs = part_epochs(self._next_part, self._commit_every)
            trained = self._train(epochs, len(task.models))
            if trained is None:
                return self._leave(events)
            if not self._refill or self._refill.intersection(epochs):
                self._commits.put(*self._commit(task, epochs, *trained))
            self._next_part += 1

    def close(self) -> None:
        self._commits.clear()
        if self._growth is not None:
            self._growth.close()
        self._growth, self._task, self._behind = None, None, False

    def _leave(self, events: list[Event]) -> Advance:
        events += _events(self._commits.flush())
        self.close()
        lost, self._lost_epochs = self._lost_epochs, 0
        return Advance(tuple(events), "preempted" if self._notice.reason == "preempted" else "notice", lost)

    def _is_warm(self, task: Task) -> bool:
        return self._growth is not None and self._task is not None and self._task.models == task.models

    def _load(self, task: Task) -> bool:
        """Load the last committed state. Returns False if the models are not all at the same part."""
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
        program = self._run.program(self._run.rows[task.models[0]].family)
        self._parents = () if self._engine.bitwise(program) or self._refill else parents
        self._growth = Growth(
            self._engine,
            program,
            self._run.hyperparameters(task.models),
            state,
            self._data,
            self._chunk_models,
        )
        self._task, self._after = task, ledger.last_record(task.unit, task.models)
        return True

    def _train(self, epochs: range, num_models: int) -> tuple[list[EpochResult], float] | None:
        """Train one part. Returns results and seconds; None if the part cannot end before a notice's deadline."""
        assert self._growth is not None
        started = time.monotonic()
        results = []
        for number, epoch in enumerate(epochs):
            commits = self._commit_seconds * (self._commits.unfinished + 1)
            if not self._notice.fits(self._epoch_seconds * (len(epochs) - number) + commits):
                self._lost_epochs = number * num_models
                return None
            epoch_started = time.monotonic()
            results.append(self._growth.step(epoch, clean_train=epoch in self._run.train_eval_epochs))
            self._epoch_seconds = time.monotonic() - epoch_started
        return results, time.monotonic() - started

    def _commit(
        self, task: Task, epochs: range, results: Sequence[EpochResult], seconds: float
    ) -> tuple[Callable[[], PartCommitted | None], int]:
        """The function that commits the part, which any thread may call, and the bytes that it holds."""
        assert self._growth is not None
        refill = bool(self._refill)
        program = self._run.program(self._run.rows[task.models[0]].family)
        state = self._growth.state()
        samples = sum(r.samples for r in results)
        data = PartData(
            unit=task.unit,
            members=task.models,
            part=self._next_part,
            epochs=epochs,
            fields=_fields(results, EpochSet(None) if refill else self._run.kept_epochs),
            labels=_labels(task.models, results, self._columns),
            state={} if refill else state,
            numerics=self._engine.numerics(program),
            samples=samples,
            seconds=seconds,
        )
        num_faulty, last = _newly_faulty(state, epochs), results[-1]

        def commit() -> PartCommitted | None:
            if self._behind:
                return None
            started = time.monotonic()
            after = None if refill else self._after
            committed = commit_part(
                self._store, self._run.id, data, self._attempt, after=after, parents=self._parents, refill=refill
            )
            self._after = committed.record
            if self._parents:
                self._parents = (str(committed.record.key),)
            self._behind = not committed.won and not self._engine.bitwise(program)
            self._commit_seconds = time.monotonic() - started
            return PartCommitted(
                zoo=self._run.name,
                stage=self._run.stage,
                models=task.models,
                epochs=tuple(epochs),
                num_faulty=num_faulty,
                test_accuracy=_test_accuracy(last),
                sparsity=_sparsity(last),
                samples=samples,
                train_seconds=seconds,
                commit_seconds=self._commit_seconds,
                bytes_written=committed.record.num_bytes,
                won=committed.won,
            )

        return commit, _num_bytes(data)


def _events(results: Iterable[PartCommitted | None]) -> list[PartCommitted]:
    return [event for event in results if event is not None]


def _num_bytes(data: PartData) -> int:
    """Bytes of the arrays of ``data``; arrays that are both weights and state count once."""
    arrays = [*data.state.values(), *(array for by_epoch in data.fields.values() for array in by_epoch.values())]
    return sum({id(array): array.nbytes for array in arrays}.values())


def _fields(results: Sequence[EpochResult], kept: EpochSet) -> dict[str, dict[int, Any]]:
    suffixes = results[0].fields
    return {suffix: {r.epoch: r.fields[suffix] for r in results if r.epoch in kept} for suffix in suffixes}


def _labels(models: Sequence[int], results: Sequence[EpochResult], wanted: Set[str]) -> dict[str, Any]:
    """The wanted label columns with one row per model and epoch, ordered by model, then epoch."""
    num_models, num_epochs = len(models), len(results)
    columns: dict[str, Any] = {
        "model": np.repeat(np.asarray(models, np.int32), num_epochs),
        "epoch": np.tile(np.asarray([r.epoch for r in results], np.int32), num_models),
    }
    for name in wanted & results[0].labels.keys():
        stacked = np.ma.stack([r.labels[name] for r in results], axis=1)
        columns[name] = stacked.reshape(num_models * num_epochs, *stacked.shape[2:])
    return columns


def _newly_faulty(state: StateArrays, epochs: Sequence[int]) -> dict[str, int]:
    fresh = np.isin(state["faulty_epoch"], np.asarray(epochs)) & (state["faulty_epoch"] != NEVER)
    return {reason: int((state["faulty_reason"][fresh] == i).sum()) for i, reason in enumerate(FAULT_REASONS)}


def _test_accuracy(result: EpochResult) -> Any:
    if "test_correct" not in result.labels:
        return np.zeros(0)
    ratio = result.labels["test_correct"] / result.labels["test_count"]
    return np.ma.compressed(ratio).astype(np.float64)


def _sparsity(result: EpochResult) -> Any:
    if "num_pruned" not in result.labels:
        return np.zeros(0)
    return np.ma.compressed(result.labels["num_pruned"] / result.labels["num_prunable"]).astype(np.float64)
