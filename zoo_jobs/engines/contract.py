"""What every population engine takes and gives. Pure numpy.

Shape suffixes: P = models of a chunk, D = parameters per model, V = values with a noise variance (twins),
T = D + V trained values of a twin, D otherwise.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout

from ..data.prepared import PreparedData
from ..models.optimizers import OPTIMIZERS, OptimizerName
from ..models.registry import Network

SplitName = Literal["train", "val", "test"]
StateArrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class OneCycle:
    """OneCycleLR of the reference's ResNets: every default of torch's, momentum cycled 0.95 -> 0.85 -> 0.95."""

    total_steps: int


@dataclass(frozen=True, slots=True)
class Program:
    """The sequence of operations that all models of a chunk share."""

    architecture: Network
    optimizer: OptimizerName
    batch_size: int
    dropout: bool  # the ratio of every model is positive
    variational: bool = False  # twins: variational-dropout layers, KL term, masked evaluation
    schedule: OneCycle | None = None
    augment: str | None = None
    pruned: bool = False  # twins by magnitude: what ``mask`` [P, D] of the state marks is zero and stays zero


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Per model; float64 so that every engine rounds the same numbers."""

    seed_P: NDArray[np.uint32]
    learning_rate_P: NDArray[np.float64]
    weight_decay_P: NDArray[np.float64]
    momentum_P: NDArray[np.float64]
    nesterov_P: NDArray[np.bool_]
    dropout_ratio_P: NDArray[np.float64]

    def take(self, models: NDArray[np.intp]) -> "Hyperparameters":
        return Hyperparameters(*(getattr(self, name)[models] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Running:
    """Sums over the samples of one training epoch, taken while weights change, dropout and noise active.

    For twins the loss is the cross-entropy alone; ``kl_P`` of ``Evaluation`` belongs to the end of the epoch.
    """

    loss_sum_P: NDArray[np.float64]
    correct_P: NDArray[np.int32]
    num_samples: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Sums over the samples of a split in eval mode: no dropout; twins masked, their KL term not in the loss."""

    loss_sum_P: NDArray[np.float64]
    correct_P: NDArray[np.int32]
    num_samples: int


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Of twins, from their present state: what a masked evaluation uses, so that mask and accuracy cannot disagree.

    ``mask_PV`` is true for pruned values (log alpha >= 3), in the order of ``noisy_layout``, biases of convolutions
    included; ``num_pruned_P`` of ``num_prunable`` counts weights alone, as the reference's sparsity ratio does.
    """

    mask_PV: NDArray[np.bool_]

    kl_P: NDArray[np.float64]
    num_pruned_P: NDArray[np.int32]
    num_prunable: int


class Session(Protocol):
    """P models in memory, their data at hand. Used by one thread; closing frees memory.

    ``train_epoch`` and ``evaluate`` raise MemoryError when the device is full; the caller then opens smaller chunks.
    """

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        """Train epoch ``epoch`` (1 is the first). What happens to inactive models is not defined: nobody looks."""
        ...

    def evaluate(self, split: SplitName) -> Evaluation: ...

    def sparsity(self) -> Sparsity:
        """Of twins only."""
        ...

    def state(self) -> StateArrays:
        """Copies, in the published layout, each [P, ...]: see ``initial_state`` for the names."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """Makes sessions. Cheap to construct; imports what it needs only then."""

    name: str
    bitwise: bool  # a model's bytes do not depend on its chunk, so a unit may be split

    def refuses(self, program: Program) -> str | None:
        """Why this engine cannot run ``program`` here, in words for a person; None if it can."""
        ...

    def numerics(self, program: Program) -> dict[str, Any]:
        """JSON: engine, version, and all that its numbers depend on."""
        ...

    def chunk_models(self, program: Program, data: PreparedData, num_models: int) -> int:
        """How many of ``num_models`` models to hold at once on this machine."""
        ...

    def open(
        self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData
    ) -> Session: ...


MOMENTS = {name: row.moments for name, row in OPTIMIZERS.items()}


LOG_SIGMA2_START = -10.0


def initial_state(program: Program, weights_PD: NDArray[np.float32], others: StateArrays | None = None) -> StateArrays:
    """State of models that have taken no step: ``weights`` and, all zero, ``step`` [P] int64 and the moments.

    Twins have ``log_sigma2`` [P, V], -10 everywhere, beside it; their moments cover weights, then log sigma^2.
    ``others`` brings what an architecture keeps besides its parameters (``buffers`` [P, B], ``counters`` [P, C]), and
    the ``mask`` [P, D] bool of twins by magnitude, whose weights are set to zero here.
    """
    num_models = weights_PD.shape[0]
    if program.pruned:
        if others is None or "mask" not in others:
            raise ValueError("twins by magnitude need their mask")
        weights_PD = np.where(others["mask"], np.float32(0), weights_PD)
    state: StateArrays = {"weights": weights_PD, "step": np.zeros(num_models, np.int64), **(others or {})}
    trained = weights_PD.shape[1]
    if program.variational:
        num_noisy = noisy_layout(program.architecture).size
        state["log_sigma2"] = np.full((num_models, num_noisy), LOG_SIGMA2_START, np.float32)
        trained += num_noisy
    for name in MOMENTS[program.optimizer]:
        state[name] = np.zeros((num_models, trained), np.float32)
    return state


def noisy_layout(architecture: Network) -> Layout:
    """Layout of the V values that have a noise variance, in layout order: weights and biases of convolutions, weights
    of linear layers.

    Raises ValueError for an architecture that is not a layer list: it has no variational twins.
    """
    if architecture.layers is None:
        raise ValueError(f"variational dropout needs a layer list; {architecture.name} has none")
    noisy = {name for layer in architecture.parametric for name in layer.noisy}
    return Layout.of([(e.name, e.shape) for e in architecture.layout.entries if e.name in noisy])


def sparsity_of(architecture: Network, mask_PV: NDArray[np.bool_], kl_P: NDArray[np.float64]) -> Sparsity:
    """The sparsity of twins: ``mask_PV`` is true where a value is pruned."""
    entries = noisy_layout(architecture).entries
    is_weight_V = np.concatenate([np.full(entry.size, entry.name.endswith(".weight")) for entry in entries])
    num_pruned_P = mask_PV[:, is_weight_V].sum(axis=1).astype(np.int32)
    return Sparsity(mask_PV, kl_P, num_pruned_P, int(is_weight_V.sum()))


def magnitude_sparsity(architecture: Network, mask_PD: NDArray[np.bool_]) -> Sparsity:
    """The sparsity of twins by magnitude: the mask that they began with; the KL term is 0."""
    num_models, masks = len(mask_PD), architecture.layout.unflatten(mask_PD)
    entries = noisy_layout(architecture).entries
    mask_PV = np.concatenate([masks[entry.name].reshape(num_models, -1) for entry in entries], axis=1)
    return sparsity_of(architecture, mask_PV, np.zeros(num_models))
