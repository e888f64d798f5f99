"""The contract of the engines: the values that they take and return. Pure numpy.

Shape suffixes: P = models of a chunk, C = classes, D = parameters per model, V = values with a noise variance (twins),
T = D + V trained values of a twin, D otherwise.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout

from ..data.prepared import PreparedData
from ..models.arithmetic import MemoryFormat, Precision
from ..models.optimizers import OPTIMIZERS, OptimizerName
from ..models.registry import Architecture, Network
from ..sparsify.kl_schedule import LAMBDA_EPOCHS
from ..tasks.contract import SplitName as SplitName
from ..tasks.contract import TaskName
from ..tasks.registry import DEFAULT
from .subsets import num_training_rows, training_labels, training_rows

DeviceKind = Literal["cpu", "cuda"]
StateArrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class OneCycle:
    """The learning-rate schedule of the reference's ResNets: torch's ``OneCycleLR`` with all its defaults.

    Momentum goes from 0.95 down to 0.85 and back.
    """

    total_steps: int


@dataclass(frozen=True, slots=True)
class Program:
    """The operations that all models of a chunk share."""

    architecture: Network
    optimizer: OptimizerName
    batch_size: int
    dropout: bool  # true if the dropout ratio of every model is positive
    variational: bool = False  # twins: variational-dropout layers, KL term, masked evaluation
    schedule: OneCycle | None = None
    augment: str | None = None
    lambda_epochs: int = LAMBDA_EPOCHS  # variational twins: see ``sparsify.kl_schedule``
    pruned: bool = False  # twins by magnitude: weights that ``mask`` [P, D] of the state marks are zero and stay zero
    precision: Precision = "float32"
    memory_format: MemoryFormat = "contiguous"
    decays_biases: bool = True  # false: weight decay leaves tensors of one axis as they are
    task: TaskName = DEFAULT
    steps_per_epoch: int = 0  # for image_regression, whose batch holds all pixels of a model's image

    @property
    def has_plain_arithmetic(self) -> bool:
        """True if the program computes in float32 with contiguous tensors, which every engine supports."""
        return (self.precision, self.memory_format) == ("float32", "contiguous")

    def ordered_rows(self, data: PreparedData) -> int:
        """Number of training rows whose order is drawn for each epoch. Models that learn images have none."""
        return 0 if self.steps_per_epoch else len(data.train)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Hyperparameters, one value per model. They are float64, so every engine rounds the same numbers."""

    seed_P: NDArray[np.uint32]
    learning_rate_P: NDArray[np.float64]
    weight_decay_P: NDArray[np.float64]
    momentum_P: NDArray[np.float64]
    nesterov_P: NDArray[np.bool_]
    dropout_ratio_P: NDArray[np.float64]
    train_fraction_P: NDArray[np.float64]
    label_noise_P: NDArray[np.float64]
    image_P: NDArray[np.int64] | None = None  # for image_regression: row of the training images that a model learns

    def take(self, models: NDArray[np.intp]) -> "Hyperparameters":
        def rows(values: Any) -> Any:
            return None if values is None else values[models]

        return Hyperparameters(*(rows(getattr(self, name)) for name in self.__slots__))

    def num_rows(self, data: PreparedData, split: SplitName) -> NDArray[np.int32]:
        """Images of a split that each model trains on or is evaluated on, [P]."""
        rows = len(data.split(split))
        fraction_P = self.train_fraction_P if split == "train" else np.ones(len(self.seed_P))
        return np.array([num_training_rows(fraction, rows) for fraction in fraction_P.tolist()], np.int32)

    def training_rows(self, data: PreparedData, model: int) -> NDArray[np.int64]:
        """The rows of the training split that a model trains on, ascending."""
        return training_rows(int(self.seed_P[model]), float(self.train_fraction_P[model]), len(data.train))

    def training_labels(self, data: PreparedData, model: int) -> NDArray[np.uint8]:
        """Labels of the whole training split, [N], as a model is told them."""
        noise = float(self.label_noise_P[model])
        return training_labels(int(self.seed_P[model]), noise, data.train.labels, data.num_classes)


@dataclass(frozen=True, slots=True)
class Running:
    """Sums over the samples of one training epoch, taken while the weights change, with dropout and noise active.

    They compare with the labels with which a model trains; an ``Evaluation`` compares with the true labels.

    For twins the loss is the cross-entropy without the KL term. For image_regression a sample is a pixel, its loss is
    the squared error averaged over the channels, and ``correct_P`` is 0.
    """

    loss_sum_P: NDArray[np.float64]
    correct_P: NDArray[np.int32]
    num_samples_P: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Sums over the samples of a split in eval mode: without dropout, and with masked weights for twins.

    The loss has no KL term. For a model with a ``train_fraction`` below 1, the training split is its subset.
    For image_regression the loss is the one that ``Running`` describes, ``correct_P`` is 0, and the counts by class
    have shape [P, 0].
    ``class_correct_PC`` counts the correct predictions of each class; the sum of a row is ``correct_P`` of the model.
    ``class_predicted_PC`` counts how often each class was predicted, correctly or not; the sum of a row is
    ``num_samples_P``. The predicted class is the first one with the largest logit.
    If logits are NaN, ``lanes`` predicts class 0 if the logit of class 0 is NaN and ignores other NaNs. The torch
    engines predict the first class whose logit is NaN.
    """

    loss_sum_P: NDArray[np.float64]
    correct_P: NDArray[np.int32]
    num_samples_P: NDArray[np.int32]
    class_correct_PC: NDArray[np.int32]
    class_predicted_PC: NDArray[np.int32]


def image_evaluation(loss_sum_P: NDArray[np.float64], num_pixels: int) -> Evaluation:
    """The ``Evaluation`` of models that learn an image: sums of squared errors, and counts by class of shape [P, 0]."""
    num_models = len(loss_sum_P)
    none_P0 = np.zeros((num_models, 0), np.int32)
    num_samples_P = np.full(num_models, num_pixels, np.int32)
    return Evaluation(loss_sum_P, np.zeros(num_models, np.int32), num_samples_P, none_P0, none_P0)


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The sparsity of twins in their current state. An evaluation uses the same mask.

    ``mask_PV`` is true for pruned values (log alpha >= 3), in the order of ``noisy_layout``, which includes the biases
    of convolutions. ``num_pruned_P`` and ``num_prunable`` count weights only, as the reference's sparsity ratio does.
    """

    mask_PV: NDArray[np.bool_]
    kl_P: NDArray[np.float64]
    num_pruned_P: NDArray[np.int32]
    num_prunable: int


class Session(Protocol):
    """P models and their data in memory. Only one thread may use a session. Closing it frees the memory.

    ``train_epoch`` and ``evaluate`` raise MemoryError if the device's memory is full; the caller then opens a session
    with fewer models.
    """

    def load(self, hyperparameters: Hyperparameters, state: StateArrays) -> bool:
        """Replace the models by other models of the same program, as if the session had been opened with them.

        Returns False, and changes nothing, if a new session has to be opened for them.
        """
        ...

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        """Train epoch ``epoch`` (1 is the first). The state of inactive models is undefined afterwards."""
        ...

    def evaluate(self, split: SplitName) -> Evaluation: ...

    def sparsity(self) -> Sparsity:
        """The sparsity of twins. Raises ValueError for other models."""
        ...

    def state(self) -> StateArrays:
        """Copies of the state in the published layout, each [P, ...]; ``initial_state`` lists the names."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Engine(Protocol):
    """Opens sessions. An engine is cheap to construct; it imports its libraries when it is constructed."""

    name: str

    def device_kind(self, program: Program, *, gpu: bool) -> DeviceKind:
        """The kind of device that a session of ``program`` uses on a machine with or without a GPU.

        ``devices.device_kind`` answers for the workers of a run.
        """
        ...

    def bitwise(self, program: Program) -> bool:
        """True if a model's bytes depend neither on its chunk nor on the time at which it is trained.

        If so, a unit may be split, and two workers that train the same part commit the same bytes.
        """
        ...

    def refuses(self, program: Program) -> str | None:
        """The reason why this engine cannot run ``program`` here, as a sentence; None if it can."""
        ...

    def numerics(self, program: Program) -> dict[str, Any]:
        """The engine's name and version and everything else that its numbers depend on, as JSON values."""
        ...

    def chunk_models(self, program: Program, data: PreparedData, num_models: int) -> int:
        """Number of models, of ``num_models``, that one session should hold on this machine."""
        ...

    def open(
        self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData
    ) -> Session: ...


def decayed(program: Program) -> NDArray[np.bool_]:
    """True where weight decay shrinks a trained value, [T]. It shrinks log sigma^2 of twins."""
    entries = program.architecture.layout.entries
    parts = [np.full(entry.size, program.decays_biases or len(entry.shape) > 1) for entry in entries]
    if program.variational:
        parts.append(np.ones(noisy_layout(program.architecture).size, np.bool_))
    return np.concatenate(parts)


MOMENTS = {name: row.moments for name, row in OPTIMIZERS.items()}


LOG_SIGMA2_START = -10.0


def initial_state(program: Program, weights_PD: NDArray[np.float32], others: StateArrays | None = None) -> StateArrays:
    """The state of models that have taken no step: ``weights``, and zeros for ``step`` [P] int64 and the moments.

    Variational twins also have ``log_sigma2`` [P, V], which is -10 everywhere; their moments are those of the weights,
    followed by those of log sigma^2.
    ``others`` holds what an architecture keeps besides its parameters (``buffers`` [P, B], ``counters`` [P, C]), and
    for twins by magnitude the ``mask`` [P, D] bool. This function sets their masked weights to zero.
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
    """The ``Sparsity`` of twins. ``mask_PV`` is true where a value is pruned; ``kl_P`` is the KL term in nats."""
    entries = noisy_layout(architecture).entries
    is_weight_V = np.concatenate([np.full(entry.size, entry.name.endswith(".weight")) for entry in entries])
    num_pruned_P = mask_PV[:, is_weight_V].sum(axis=1).astype(np.int32)
    return Sparsity(mask_PV, kl_P, num_pruned_P, int(is_weight_V.sum()))


def magnitude_sparsity(architecture: Network, mask_PD: NDArray[np.bool_]) -> Sparsity:
    """The ``Sparsity`` of twins by magnitude. Their mask never changes, and their KL term is 0."""
    num_models, masks = len(mask_PD), architecture.layout.unflatten(mask_PD)
    entries = noisy_layout(architecture).entries
    mask_PV = np.concatenate([masks[entry.name].reshape(num_models, -1) for entry in entries], axis=1)
    return sparsity_of(architecture, mask_PV, np.zeros(num_models))


def not_classification(program: Program) -> str | None:
    """The reason why an engine that only supports classification refuses ``program``; None if it is classification."""
    return None if program.task == DEFAULT else f"it does not run the task {program.task}"


def not_a_plain_layer_list(program: Program) -> str | None:
    """The reason why engines for plain layer lists refuse ``program``; None if they can run it.

    Such engines have no learning-rate schedule and no augmentation, and their batches have at most 65,536 samples.
    """
    if not isinstance(program.architecture, Architecture):
        return f"{program.architecture.name} is not a layer list"
    if program.schedule is not None:
        return "it has no learning-rate schedule"
    if program.augment is not None:
        return f"it has no augmentation ({program.augment})"
    if not program.has_plain_arithmetic:
        return f"it computes in contiguous float32, not in {program.memory_format} {program.precision}"
    if not 1 <= program.batch_size <= 65536:
        return f"batch size {program.batch_size} is outside 1 ... 65536"
    return None
