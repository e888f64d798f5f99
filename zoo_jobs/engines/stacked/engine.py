"""The engine ``stacked``: P models take each step together, and each operation is one batched kernel for all models."""

from typing import Any

import torch

from ...data.prepared import PreparedData
from ...tasks.registry import DEFAULT
from ..contract import DeviceKind, Hyperparameters, Program, StateArrays, not_a_plain_layer_list
from ..cuda import free_bytes
from ..devices import no_cuda
from .image_session import ImageSession
from .memory import peak_bytes
from .session import StackedSession
from .update import STEPS

VERSION = 2  # every change of the engine's numbers raises it
CPU_MODELS = 64  # larger chunks are not faster on a CPU


class StackedEngine:
    """Runs layer lists on a CUDA device, or on one CPU thread as a check."""

    name = "stacked"

    def __init__(self, device: str | None = None) -> None:
        """``device`` names a torch device. None means a CUDA device if torch finds one, else the CPU."""
        self._requested = None if device is None else torch.device(device)

    def device_kind(self, program: Program, *, gpu: bool) -> DeviceKind:
        """A CUDA device if there is one, unless another was requested."""
        del program
        if self._requested is not None:
            return "cpu" if self._requested.type == "cpu" else "cuda"
        return "cuda" if gpu else "cpu"

    def bitwise(self, program: Program) -> bool:
        """False: the sums of a matrix product depend on the number of models in it."""
        del program
        return False

    @property
    def device(self) -> torch.device:
        """The torch device that sessions of this process use."""
        if self._requested is not None:
            return self._requested
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def refuses(self, program: Program) -> str | None:
        if reason := not_a_plain_layer_list(program):
            return reason
        if program.optimizer not in STEPS:
            return f"it has no step of the optimizer {program.optimizer}"
        if self.device.type == "cuda" and not torch.cuda.is_available():
            return no_cuda()
        return None

    def numerics(self, program: Program) -> dict[str, Any]:
        device = self.device
        on_cpu = device.type == "cpu"
        kind = torch.backends.cpu.get_cpu_capability() if on_cpu else torch.cuda.get_device_name(device)
        return {"engine": self.name, "version": VERSION, "torch": torch.__version__, "device": kind}

    def peak_bytes(self, program: Program, data: PreparedData, num_models: int) -> int:
        """Bytes that ``num_models`` models and the data take at most, in training and evaluation."""
        return peak_bytes(program, data, num_models, self.device.type == "cuda")

    def chunk_models(self, program: Program, data: PreparedData, num_models: int) -> int:
        """The number of models that fit the device, at most ``CPU_MODELS`` on a CPU, in chunks of nearly equal size."""
        device = self.device
        free = free_bytes(device)
        fixed = self.peak_bytes(program, data, 0)
        per_model = max(1, (self.peak_bytes(program, data, 64) - fixed) // 64)
        fit = max(1, (free - fixed) // per_model)
        if device.type == "cpu":
            fit = min(fit, CPU_MODELS)
        num_chunks = -(-num_models // fit)
        return -(-num_models // num_chunks)

    def open(
        self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData
    ) -> StackedSession:
        """Raises ValueError with the reason from ``refuses``, and MemoryError if the memory is full."""
        reason = self.refuses(program)
        if reason is not None:
            raise ValueError(f"stacked cannot run {program.architecture.name}: {reason}")
        at_once = max(program.batch_size, 10)
        session = StackedSession if program.task == DEFAULT else ImageSession
        return session(program, hyperparameters, state, data, self.device, at_once)
