"""Small programs for the lanes engine, whose data and weights come from the counter-based generator alone."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.contract import (
    Evaluation,
    Hyperparameters,
    Program,
    Running,
    Session,
    Sparsity,
    StateArrays,
    initial_state,
)
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.lanes.engine import ISA_VARIABLE, extension
from zooforge.zoo_jobs.models.layers import ActivationName, Architecture
from zooforge.zoo_jobs.models.optimizers import OptimizerName
from zooforge.zoo_jobs.models.registry import architecture

if extension() is None:
    pytest.skip("the lanes extension is not built", allow_module_level=True)

INSTRUCTION_SETS: tuple[str, ...] = tuple(extension().available())
CATALOGUE = {
    "cnn-s ch1": ("cnn-s", 1),
    "cnn-s ch3": ("cnn-s", 3),
    "cnn2 ch1": ("cnn2", 1),
    "cnn-l ch3": ("cnn-l", 3),
}


def uniform(seed: int, *shape: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that depend on ``seed`` and ``shape`` alone."""
    size = int(np.prod(shape))
    words = philox.words(seed, philox.Purpose.ORDER, epoch=0, step=0, stream=0, num_words=size)
    return (words / 2.0**32).reshape(shape)


def images(architecture: Architecture, train: int = 20, test: int = 11, mean: float = 0.5) -> PreparedData:
    c, side = architecture.in_channels, architecture.image_size

    def split(seed: int, count: int) -> Split:
        pixels = (uniform(seed, count, c, side, side) * 256).astype(np.uint8)
        return Split(pixels, (uniform(seed + 1, count) * architecture.num_classes).astype(np.uint8))

    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    table = np.stack([(unit - np.float32(mean)) / np.float32(0.5 + 0.1 * i) for i in range(c)])
    return PreparedData("random", architecture.num_classes, table, split(1, train), split(3, 3), split(5, test))


def weights(architecture: Architecture, num_models: int, scale: float = 0.3) -> NDArray[np.float32]:
    return ((uniform(7, num_models, architecture.layout.size) - 0.5) * scale).astype(np.float32)


def hyperparameters(
    num_models: int,
    *,
    dropout: float = 0.0,
    rate: float = 1e-3,
    decay: float = 1e-2,
    momentum: float = 0.9,
    fractions: Sequence[float] = (1.0,),
    noise: float = 0.0,
) -> Hyperparameters:
    """Different values for every model, so that exchanged lanes give other results."""
    i = np.arange(num_models)
    return Hyperparameters(
        seed_P=(1 + 1000 * i).astype(np.uint32),
        learning_rate_P=rate * (1 + i / 8),
        weight_decay_P=decay * (i % 3),
        momentum_P=momentum * (1 - i % 2 / 4),
        nesterov_P=i % 2 == 1,
        dropout_ratio_P=dropout * (1 + i % 4 / 8),
        train_fraction_P=np.array(fractions)[i % len(fractions)],
        label_noise_P=noise * (i % 3) / 2,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """A program and everything that it needs."""

    program: Program
    data: PreparedData
    weights: NDArray[np.float32]
    hyperparameters: Hyperparameters

    @property
    def num_models(self) -> int:
        return len(self.weights)

    def take(self, models: Iterable[int]) -> "Case":
        rows = np.fromiter(models, np.intp)
        return Case(self.program, self.data, self.weights[rows], self.hyperparameters.take(rows))

    def state(self) -> StateArrays:
        mask = {"mask": np.abs(self.weights) < 0.06} if self.program.pruned else None
        return initial_state(self.program, self.weights, mask)


def case(
    architecture: Architecture,
    optimizer: OptimizerName = "adam",
    *,
    num_models: int = 19,
    batch_size: int = 7,
    dropout: float = 0.0,
    variational: bool = False,
    pruned: bool = False,
    rate: float = 1e-3,
    momentum: float = 0.9,
    decay: float | None = None,
    train: int = 20,
    fractions: Sequence[float] = (1.0,),
    noise: float = 0.0,
) -> Case:
    program = Program(architecture, optimizer, batch_size, dropout > 0, variational, pruned=pruned)
    if decay is None:
        decay = 0.0 if variational else 1e-2
    return Case(
        program,
        images(architecture, train),
        weights(architecture, num_models),
        hyperparameters(
            num_models, dropout=dropout, rate=rate, decay=decay, momentum=momentum, fractions=fractions, noise=noise
        ),
    )


def catalogue_case(name: str, activation: ActivationName, optimizer: OptimizerName, kind: str, **options: Any) -> Case:
    """``kind``: plain, dropout, twin or magnitude."""
    catalogue_name, channels = CATALOGUE[name]
    network = architecture(catalogue_name, channels, activation, kind == "dropout")
    assert isinstance(network, Architecture)
    return case(
        network,
        optimizer,
        dropout=0.3 if kind == "dropout" else 0.0,
        variational=kind == "twin",
        pruned=kind == "magnitude",
        **options,
    )


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a run."""

    state: StateArrays
    running: Running
    test: Evaluation
    sparsity: Sparsity | None

    def digest(self, models: slice = slice(None), *, classes: bool = True) -> str:
        """SHA-256 over every byte of the chosen models; with ``classes`` also over their counts by class."""
        arrays = {**self.state, "running": self.running.loss_sum_P, "hits": self.running.correct_P}
        arrays |= {"loss": self.test.loss_sum_P, "correct": self.test.correct_P}
        if classes:
            arrays |= {"right": self.test.class_correct_PC, "predicted": self.test.class_predicted_PC}
        if self.sparsity is not None:
            arrays |= {"kl": self.sparsity.kl_P, "mask": self.sparsity.mask_PV, "gone": self.sparsity.num_pruned_P}
        total = hashlib.sha256()
        for name in sorted(arrays):
            total.update(np.ascontiguousarray(arrays[name][models]).tobytes())
        return total.hexdigest()


def finish(session: Session, running: Running, program: Program) -> Result:
    evaluation = session.evaluate("train" if program.steps_per_epoch else "test")
    twins = program.variational or program.pruned
    return Result(session.state(), running, evaluation, session.sparsity() if twins else None)


def run(
    chosen: Case,
    *,
    isa: str = "auto",
    epochs: Iterable[int] = (1, 2),
    state: StateArrays | None = None,
) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ISA_VARIABLE, isa)
        program = chosen.program
        start = chosen.state() if state is None else state
        with LanesEngine().open(program, chosen.hyperparameters, start, chosen.data) as session:
            active = np.ones(chosen.num_models, np.bool_)
            for epoch in epochs:
                running = session.train_epoch(epoch, active)
            return finish(session, running, program)
