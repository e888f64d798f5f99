"""Trains the models of one task from epoch to epoch: chunks, labels, and models that stop being finite.

It knows neither the store nor Ray.

Shape suffixes as in ``contract``: P = models, D = parameters, V = noise variances of twins.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.labels import FAULT_REASONS
from zooforge.storage.formats.norms import weight_norms
from zooforge.storage.formats.record import STATE_FIELDS

from ..data.prepared import PreparedData
from ..sparsify.kl_schedule import kl_weight
from ..tasks.registry import DEFAULT, TASKS
from .contract import Engine, Evaluation, Hyperparameters, Program, Running, Session, Sparsity, SplitName, StateArrays

logger = logging.getLogger(__name__)

NEVER = -1  # faulty_epoch of a model that is finite
CANONICAL_NAN = np.array(0x7FC00000, np.uint32).view(np.float32)[()]

Labels = dict[str, Any]  # column -> [P], [P, classes] for lists, masked where a value is null


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The result of one epoch.

    ``fields`` has arrays [P, ...] under the suffix of their name in a shard; ``labels`` has one entry per column.
    """

    epoch: int
    fields: dict[str, NDArray[Any]]
    labels: Labels
    samples: int


class Growth:
    """P models of one program, in memory, at one epoch.

    A model that is not finite at the end of an epoch is frozen: its NaNs become the canonical NaN, its moments become
    zero, and its metrics are null from that epoch on. The bits of the other models are the same as without that model.
    """

    def __init__(
        self,
        engine: Engine,
        program: Program,
        hyperparameters: Hyperparameters,
        state: StateArrays,
        data: PreparedData,
        chunk_models: int | None = None,
    ) -> None:
        """``state`` comes from ``initial_state`` or from ``state``; without ``faulty_epoch`` every model is finite."""
        self._engine, self._program, self._hyperparameters, self._data = engine, program, hyperparameters, data
        self._state = dict(state)
        num_models = len(state["weights"])
        self._faulty_epoch_P = self._state.pop("faulty_epoch", np.full(num_models, NEVER, np.int32)).copy()
        self._reason_P = self._state.pop("faulty_reason", np.full(num_models, NEVER, np.int8)).copy()
        self._chunk = chunk_models or engine.chunk_models(program, data, num_models)
        self._session: Session | None = None
        self._class_count_PC: NDArray[np.int32] | None = None

    @property
    def num_models(self) -> int:
        return len(self._faulty_epoch_P)

    def state(self) -> StateArrays:
        """Arrays [P, ...] from which another process continues with the same bits."""
        return {**self._state, "faulty_epoch": self._faulty_epoch_P.copy(), "faulty_reason": self._reason_P.copy()}

    def close(self) -> None:
        if self._session is not None:
            self._session.__exit__(None, None, None)
            self._session = None

    def step(self, epoch: int, clean_train: bool) -> EpochResult:
        """Train epoch ``epoch`` (epoch 0 only evaluates), then evaluate; ``clean_train`` evaluates the train split too.

        Raises MemoryError when not even one model fits.
        """
        task = TASKS[self._program.task]
        clean_train = clean_train or "test" not in task.splits
        asked: dict[SplitName, bool] = {"train": clean_train, "val": len(self._data.val) > 0, "test": True}
        splits = [split for split, wanted in asked.items() if wanted and split in task.splits]
        while True:
            if self._chunk <= 1:
                return self._step(epoch, splits)
            with contextlib.suppress(MemoryError):
                return self._step(epoch, splits)
            # Close the session here and not earlier: a traceback that refers to its tensors would keep their memory.
            self.close()
            self._chunk = max(1, min(self._chunk, self.num_models) // 2)
            logger.warning("out of memory: the chunk is split", extra={"chunk_models": self._chunk, "epoch": epoch})

    def _step(self, epoch: int, splits: Sequence[SplitName]) -> EpochResult:
        everyone = np.arange(self.num_models)
        pieces = []
        for start in range(0, self.num_models, self._chunk):
            pieces.append(self._step_chunk(everyone[start : start + self._chunk], epoch, splits))
        state = {name: np.concatenate([piece.state[name] for piece in pieces]) for name in pieces[0].state}
        self._freeze(state, epoch)
        self._state = state
        return self._result(epoch, pieces)

    def _step_chunk(self, models: NDArray[np.intp], epoch: int, splits: Sequence[SplitName]) -> "_Piece":
        whole = len(models) == self.num_models
        session = self._session
        if session is None or not whole:
            state = {name: values[models] for name, values in self._state.items()}
            hyperparameters = self._hyperparameters.take(models)
            if session is None or not session.load(hyperparameters, state):
                self.close()
                session = self._engine.open(self._program, hyperparameters, state, self._data)
                session.__enter__()
                self._session = session
        running = session.train_epoch(epoch, self._faulty_epoch_P[models] == NEVER) if epoch > 0 else None
        # Read the state last. On a GPU it is copied to the host while the evaluations run.
        evaluations = {split: session.evaluate(split) for split in splits}
        sparsity = session.sparsity() if self._program.variational or self._program.pruned else None
        return _Piece(session.state(), running, evaluations, sparsity)

    def _freeze(self, state: StateArrays, epoch: int) -> None:
        """Freeze the models that stopped being finite at ``epoch``, and restore the state of models frozen before."""
        trained = [name for name in ("weights", "log_sigma2", "buffers") if name in state]
        frozen = np.flatnonzero(self._faulty_epoch_P != NEVER)
        for name, values in state.items():
            values[frozen] = self._state[name][frozen]
        finite_P = np.all([np.isfinite(state[name]).all(axis=1) for name in trained], axis=0)
        for model in np.flatnonzero(~finite_P & (self._faulty_epoch_P == NEVER)):
            any_nan = any(np.isnan(state[name][model]).any() for name in trained)
            self._faulty_epoch_P[model] = epoch
            self._reason_P[model] = FAULT_REASONS.index("nan" if any_nan else "inf")
            for name, values in state.items():
                if name in trained:
                    values[model][np.isnan(values[model])] = CANONICAL_NAN
                elif name != "step":
                    values[model] = 0

    def _result(self, epoch: int, pieces: "Sequence[_Piece]") -> EpochResult:
        labels = self._labels(epoch, pieces)
        fields = {suffix: self._state[name] for name, suffix in STATE_FIELDS.items() if name in self._state}
        sparsities = [piece.sparsity for piece in pieces if piece.sparsity is not None]
        if sparsities:
            mask_PV = np.concatenate([s.mask_PV for s in sparsities])
            mask_PV[self._faulty_epoch_P != NEVER] = False
            fields[".mask"] = ~mask_PV
        samples = sum(piece.samples for piece in pieces)
        return EpochResult(epoch, fields, labels, samples)

    def _labels(self, epoch: int, pieces: "Sequence[_Piece]") -> Labels:
        faulty_P = self._faulty_epoch_P != NEVER

        def column(values: Any, null_P: NDArray[np.bool_] = faulty_P) -> Any:
            """A label column: null where ``null_P`` is true or a value is not finite."""
            array = np.asarray(values)
            return np.ma.MaskedArray(array, mask=null_P | ~np.isfinite(array))

        def nulls(dtype: type) -> Any:
            return np.ma.MaskedArray(np.zeros(self.num_models, dtype), mask=True)

        def classes(split: str, sums: Sequence[Evaluation]) -> Labels:
            """Class counts of a split, masked row by row like ``column``."""
            both = {"correct": [e.class_correct_PC for e in sums], "predicted": [e.class_predicted_PC for e in sums]}
            shape = (self.num_models, self._program.architecture.num_classes)
            return {
                f"{split}_class_{name}": np.ma.MaskedArray(
                    np.concatenate(counts) if counts else np.zeros(shape, np.int32),
                    mask=np.repeat(faulty_P[:, None] | (not counts), shape[1], axis=1),
                )
                for name, counts in both.items()
            }

        def metrics(prefix: str, sums: Sequence[Running | Evaluation]) -> Labels:
            if not sums:
                return {
                    f"{prefix}_loss": nulls(np.float64),
                    f"{prefix}_correct": nulls(np.int32),
                    f"{prefix}_count": nulls(np.int32),
                }
            count_P = np.concatenate([s.num_samples_P for s in sums])
            return {
                f"{prefix}_loss": column(np.concatenate([s.loss_sum_P for s in sums]) / count_P),
                f"{prefix}_correct": column(np.concatenate([s.correct_P for s in sums])),
                f"{prefix}_count": column(count_P),
            }

        def squared_error(sums: Sequence[Running | Evaluation]) -> Any:
            if not sums:
                return nulls(np.float64)
            return column(np.concatenate([s.loss_sum_P / s.num_samples_P for s in sums]))

        running = [piece.running for piece in pieces if piece.running is not None]
        by_split = {
            split: [piece.evaluations[split] for piece in pieces if split in piece.evaluations]
            for split in TASKS[self._program.task].splits
        }
        labels: Labels = {}
        if self._program.task == DEFAULT:
            labels |= metrics("running_train", running)
            for split, sums in by_split.items():
                labels |= metrics(split, sums) | classes(split, sums)
            labels |= self._class_counts()
        else:
            labels |= {"running_train_mse": squared_error(running), "train_mse": squared_error(by_split["train"])}
        norms, largest = weight_norms(self._state["weights"])
        labels |= {"weight_norm": column(norms), "max_abs_weight": column(largest)}
        sparsities = [piece.sparsity for piece in pieces if piece.sparsity is not None]
        if sparsities:
            labels["kl"] = column(np.concatenate([s.kl_P for s in sparsities]))
            labels["kl_weight"] = np.full(
                self.num_models, kl_weight(epoch, self._program.lambda_epochs) if self._program.variational else 0.0
            )
            labels["num_pruned"] = column(np.concatenate([s.num_pruned_P for s in sparsities]))
            labels["num_prunable"] = column(np.full(self.num_models, sparsities[0].num_prunable, np.int32))
        labels["faulty_epoch"] = np.ma.MaskedArray(self._faulty_epoch_P.copy(), mask=~faulty_P)
        reasons = np.array([*FAULT_REASONS, None], dtype=object)[self._reason_P]
        labels["faulty_reason"] = np.ma.MaskedArray(reasons, mask=~faulty_P)
        return labels

    def _class_counts(self) -> Labels:
        """Number of images per class in the subset of each model; empty if all models train on the whole split."""
        train, h = self._data.train, self._hyperparameters
        whole_P = h.num_rows(self._data, "train") == len(train)
        if whole_P.all():
            return {}
        if self._class_count_PC is None:
            self._class_count_PC = np.zeros((self.num_models, self._program.architecture.num_classes), np.int32)
            for model in np.flatnonzero(~whole_P):
                rows = h.training_rows(self._data, int(model))
                self._class_count_PC[model] = np.bincount(train.labels[rows], minlength=self._class_count_PC.shape[1])
        mask = np.repeat(whole_P[:, None], self._class_count_PC.shape[1], axis=1)
        return {"train_class_count": np.ma.MaskedArray(self._class_count_PC, mask=mask)}


@dataclass(frozen=True, slots=True)
class _Piece:
    """The results of one chunk for an epoch."""

    state: StateArrays
    running: Running | None
    evaluations: dict[SplitName, Evaluation]
    sparsity: Sparsity | None

    @property
    def samples(self) -> int:
        """Training samples, summed over the models of the chunk."""
        return int(self.running.num_samples_P.sum(dtype=np.int64)) if self.running is not None else 0
