"""The engine ``lanes``: models are SIMD lanes of kernels in C++, with the same bits on every CPU.

docs/lanes.md specifies the layout, the order of sums, the treatment of denormals and the accuracy of functions.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...data.prepared import PreparedData
from ...models.layers import Architecture
from ...sparsify.kl_schedule import kl_weight
from ..contract import (
    MOMENTS,
    DeviceKind,
    Evaluation,
    Hyperparameters,
    Program,
    Running,
    Sparsity,
    SplitName,
    StateArrays,
    magnitude_sparsity,
    noisy_layout,
    not_a_plain_layer_list,
    sparsity_of,
)
from ..host_memory import host_free_bytes
from ..subsets import packed
from . import image_regression
from .program import layer_table

INTERFACE = 3  # version of the extension's interface; an extension with another version is not used
VERSION = 1  # every change of the engine's numbers raises it
GROUP_MODELS = 16  # lanes of the widest kernels
MEMORY_RATIO = 0.5  # share of the free memory that a chunk may take
# For tests: avx512, avx2, vec4 or scalar (results do not depend on it), and the path of an instrumented build.
ISA_VARIABLE = "ZOOFORGE_LANES_ISA"
EXTENSION_VARIABLE = "ZOOFORGE_LANES_EXTENSION"


T = TypeVar("T", bound=np.generic)


def extension() -> Any:
    """The compiled module; None if it was not built, or if its ``INTERFACE`` is another version.

    Raises ImportError if ``EXTENSION_VARIABLE`` is set and names no extension.
    """
    name = f"{__package__}._lanes"
    if name not in sys.modules and EXTENSION_VARIABLE in os.environ:
        spec = importlib.util.spec_from_file_location(name, os.environ[EXTENSION_VARIABLE])
        if spec is None or spec.loader is None:
            raise ImportError(f"{EXTENSION_VARIABLE} names no extension: {os.environ[EXTENSION_VARIABLE]}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return module if getattr(module, "INTERFACE", 1) == INTERFACE else None


def instruction_set() -> str:
    """The name of the instruction set to use. ``auto`` means the widest that the processor has."""
    return os.environ.get(ISA_VARIABLE, "auto")


class LanesEngine:
    """Runs layer lists on one thread of a CPU. A machine's other cores are other slots of the run."""

    name = "lanes"

    def device_kind(self, program: Program, *, gpu: bool) -> DeviceKind:
        """Always the CPU."""
        del program, gpu
        return "cpu"

    def bitwise(self, program: Program) -> bool:
        """True: lanes are independent, and no sum depends on the number of models."""
        del program
        return True

    def refuses(self, program: Program) -> str | None:
        if extension() is None:
            clone = Path(__file__).with_name("CMakeLists.txt").exists()
            from_sources = "`python -m zooforge.zoo_jobs.engines.lanes.build` builds it; needs g++"
            remedy = from_sources if clone else "`pip install 'zooforge[grow]'` brings it"
            return f"its extension is not here, or from older sources ({remedy})"
        if reason := not_a_plain_layer_list(program):
            return reason
        assert isinstance(program.architecture, Architecture)
        if program.optimizer not in extension().OPTIMIZERS:
            return f"it has no kernel for the optimizer {program.optimizer}"
        try:
            layer_table(program.architecture, extension(), program.steps_per_epoch)
        except ValueError as error:
            return str(error)
        isa = instruction_set()
        if not extension().lanes_of(isa):
            return f"{ISA_VARIABLE} asks for {isa!r}, this machine has {', '.join(extension().available())}"
        return None

    def numerics(self, program: Program) -> dict[str, Any]:
        """Engine and version. The instruction set and the chunk are left out, because no bit depends on them."""
        return {"engine": self.name, "version": VERSION}

    def peak_bytes(self, program: Program, data: PreparedData, num_models: int) -> int:
        """Bytes that training ``num_models`` models takes at most: their state and its copy, work space, and images."""
        arguments = *program_arguments(program), instruction_set(), num_models, program.ordered_rows(data)
        state, work = extension().memory(*arguments)
        images = sum(split.images.nbytes for split in (data.train, data.val, data.test))
        return int(2 * state + work + images)

    def chunk_models(self, program: Program, data: PreparedData, num_models: int) -> int:
        """All models if memory allows. A larger chunk is not slower: the working set of a lane group stays the same."""
        free = host_free_bytes() * MEMORY_RATIO
        models = num_models
        while models > GROUP_MODELS and self.peak_bytes(program, data, models) > free:
            models = -(-models // 2 // GROUP_MODELS) * GROUP_MODELS
        return models

    def open(
        self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData
    ) -> "LanesSession":
        reason = self.refuses(program)
        if reason is not None:
            raise ValueError(f"lanes cannot run {program.architecture.name}: {reason}")
        return LanesSession(program, hyperparameters, state, data)


def program_arguments(program: Program) -> tuple[Any, ...]:
    """The first arguments of the extension's functions, in order. Raises ValueError if the program has no kernel."""
    architecture = program.architecture
    if not isinstance(architecture, Architecture):
        raise ValueError(f"{architecture.name} is not a layer list")
    return (
        layer_table(architecture, extension(), program.steps_per_epoch),
        architecture.in_channels,
        architecture.image_size,
        extension().OPTIMIZERS.index(program.optimizer),
        program.batch_size,
        program.dropout,
        program.variational,
    )


def native_data(data: PreparedData, split: SplitName) -> Any:
    """A split as the extension's ``Data``. Contiguous arrays are not copied."""
    part = data.split(split)
    images = np.ascontiguousarray(part.images).reshape(len(part), -1)
    return extension().Data(
        images, np.ascontiguousarray(part.labels), np.ascontiguousarray(data.pixel_values, np.float32)
    )


def native_session(program: Program, hyperparameters: Hyperparameters, isa: str) -> Any:
    """A session of the extension, with a state of zeros."""
    h = hyperparameters
    session = extension().Session(
        *program_arguments(program),
        isa,
        np.ascontiguousarray(h.seed_P, np.uint32),
        np.ascontiguousarray(h.learning_rate_P, np.float64),
        np.ascontiguousarray(h.weight_decay_P, np.float64),
        np.ascontiguousarray(h.momentum_P, np.float64),
        np.ascontiguousarray(h.nesterov_P, np.uint8),
        np.ascontiguousarray(h.dropout_ratio_P, np.float64),
    )
    if program.steps_per_epoch:
        image_regression.put_images(session, program, h)
    return session


class LanesSession:
    """P models in lane-interleaved memory."""

    def __init__(
        self,
        program: Program,
        hyperparameters: Hyperparameters,
        state: StateArrays,
        data: PreparedData,
    ) -> None:
        self._program = program
        self._data = data
        self._num_models = len(hyperparameters.seed_P)
        self._native_data: dict[SplitName, Any] = {}
        self._num_rows_P = hyperparameters.num_rows(data, "train")
        self._packed_P = packed(self._num_rows_P)
        ordered = hyperparameters.take(self._packed_P)
        self._native: Any = native_session(program, ordered, instruction_set())
        if (self._num_rows_P < len(data.train)).any():
            self._native.put_rows([ordered.training_rows(data, i).astype(np.uint32) for i in range(self._num_models)])
        if not program.decays_biases:
            self._native.spare_biases()
        if ordered.label_noise_P.any():
            told_PN = np.stack([ordered.training_labels(data, i) for i in range(self._num_models)])
            self._native.put_labels(self._split("train"), told_PN)
        for field, name in enumerate(self._fields):
            if name is not None:
                self._native.put(field, np.ascontiguousarray(state[name][self._packed_P], np.float32))
        self._mask_PD: NDArray[np.bool_] | None = state["mask"].astype(np.bool_) if program.pruned else None
        if self._mask_PD is not None:
            self._native.put_pruned(self._mask_PD[self._packed_P].astype(np.uint8))
        self._native.put_steps(np.ascontiguousarray(state["step"][self._packed_P], np.int64))

    @property
    def _fields(self) -> tuple[str | None, ...]:
        """Names of the state's float arrays, in the extension's order; None if the program lacks one."""
        log_sigma2 = "log_sigma2" if self._program.variational else None
        return ("weights", log_sigma2, *MOMENTS[self._program.optimizer])

    def _split(self, split: SplitName) -> Any:
        if split not in self._native_data:
            self._native_data[split] = native_data(self._data, split)
        return self._native_data[split]

    def load(self, hyperparameters: Hyperparameters, state: StateArrays) -> bool:
        """Always False, because opening a new session costs no more than loading models into this one."""
        del hyperparameters, state
        return False

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        if self._program.steps_per_epoch:
            return image_regression.train_epoch(self._native, self._split("train"), self._program, active_P)
        loss_sum_P = np.zeros(self._num_models, np.float64)
        correct_P = np.zeros(self._num_models, np.int32)
        weight = kl_weight(epoch, self._program.lambda_epochs) if self._program.variational else 0.0
        active = np.ascontiguousarray(active_P[self._packed_P], np.uint8)
        self._native.train_epoch(self._split("train"), epoch, weight, active, loss_sum_P, correct_P)
        return Running(self._unpacked(loss_sum_P), self._unpacked(correct_P), self._num_rows_P)

    def evaluate(self, split: SplitName) -> Evaluation:
        if self._program.steps_per_epoch:
            return image_regression.evaluate(self._native, self._split(split), self._program, self._num_models)
        loss_sum_P = np.zeros(self._num_models, np.float64)
        correct_P = np.zeros(self._num_models, np.int32)
        num_samples, num_classes = len(self._data.split(split)), self._program.architecture.num_classes
        own = split == "train" and bool((self._num_rows_P < num_samples).any())
        class_correct_PC, class_predicted_PC = (np.zeros((self._num_models, num_classes), np.int32) for _ in range(2))
        if num_samples:
            arrays = loss_sum_P, correct_P, class_correct_PC, class_predicted_PC
            self._native.evaluate(self._split(split), *arrays, own)
        num_rows_P = self._num_rows_P if own else np.full(self._num_models, num_samples, np.int32)
        return Evaluation(
            self._unpacked(loss_sum_P),
            self._unpacked(correct_P),
            num_rows_P,
            self._unpacked(class_correct_PC),
            self._unpacked(class_predicted_PC),
        )

    def sparsity(self) -> Sparsity:
        architecture = self._program.architecture
        if self._mask_PD is not None:
            return magnitude_sparsity(architecture, self._mask_PD)
        if not self._program.variational:
            raise ValueError("only twins have a sparsity")
        kl_P = np.zeros(self._num_models, np.float64)
        num_pruned_P = np.zeros(self._num_models, np.int32)
        pruned_PV = np.zeros((self._num_models, noisy_layout(architecture).size), np.uint8)
        self._native.sparsity(kl_P, num_pruned_P, pruned_PV)
        return sparsity_of(architecture, self._unpacked(pruned_PV).astype(np.bool_), self._unpacked(kl_P))

    def state(self) -> StateArrays:
        state: StateArrays = {}
        for field, name in enumerate(self._fields):
            if name is not None:
                values = np.empty((self._num_models, self._native.field_size(field)), np.float32)
                self._native.get(field, values)
                state[name] = self._unpacked(values)
        steps_P = np.empty(self._num_models, np.int64)
        self._native.get_steps(steps_P)
        state["step"] = self._unpacked(steps_P)
        if self._mask_PD is not None:
            state["mask"] = self._mask_PD.copy()
        return state

    def _unpacked(self, values: NDArray[T]) -> NDArray[T]:
        """Values [P, ...] in the extension's order of models, put into the caller's order."""
        unpacked = np.empty_like(values)
        unpacked[self._packed_P] = values
        return unpacked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._native = None
        self._native_data.clear()
