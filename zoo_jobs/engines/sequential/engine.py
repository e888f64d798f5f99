"""The engine ``sequential``: one model at a time in plain torch, as the reference trains. Tests compare the other
engines with it."""

from typing import Any

import torch

from ...data.prepared import PreparedData
from ...models.layers import Architecture
from ...models.resnet18 import ResNet18
from ..batches import AUGMENTATIONS
from ..contract import (
    MOMENTS,
    DeviceKind,
    Hyperparameters,
    Program,
    StateArrays,
    not_classification,
)
from ..devices import device_kind
from .layer_list_model import LayerListModel
from .module_model import ModuleModel
from .module_session import ModuleSession
from .session import SequentialSession

VERSION = 1
DEVICE_VERSION = 2  # version of the numbers of ``ModuleSession``
STATE_BYTES = 1 << 30  # largest state of a chunk


class SequentialEngine:
    """Plain torch on one CPU thread or a CUDA device."""

    name = "sequential"

    def __init__(self, device: str | None = None) -> None:
        """
        Args:
            device: name of a torch device. With None, torch modules use a CUDA device if there is one, and layer lists
                always use the CPU, which is faster for one small model at a time.
        """
        self._requested = None if device is None else torch.device(device)

    def device_kind(self, program: Program, *, gpu: bool) -> DeviceKind:
        """The requested device; by default a CUDA device (if any) for torch modules, the CPU for layer lists."""
        if self._requested is not None:
            return "cpu" if self._requested.type == "cpu" else "cuda"
        return "cuda" if gpu and not isinstance(program.architecture, Architecture) else "cpu"

    def bitwise(self, program: Program) -> bool:
        """True on a CPU with one thread; the kernels of a CUDA device may add in any order."""
        return device_kind(self, program) == "cpu"

    def refuses(self, program: Program) -> str | None:
        if not isinstance(program.architecture, Architecture) and (reason := not_classification(program)):
            return reason
        if (program.variational or program.pruned) and not isinstance(program.architecture, Architecture):
            return f"twins need a layer list; {program.architecture.name} has none"
        if program.schedule is not None and program.optimizer != "sgd":
            return f"the one-cycle schedule moves the momentum of sgd; the optimizer is {program.optimizer}"
        if program.augment not in (None, *AUGMENTATIONS):
            return f"augmentation {program.augment!r} is unknown; accepted: {', '.join(AUGMENTATIONS)}"
        if isinstance(program.architecture, Architecture) and not program.has_plain_arithmetic:
            return f"it computes layer lists in contiguous float32, not in {program.memory_format} {program.precision}"
        if program.precision == "tf32" and device_kind(self, program) == "cpu":
            return "tf32 is a mode of CUDA devices, and no worker has one"
        if self._device(program).type == "cuda" and not torch.cuda.is_available():
            return "torch sees no CUDA device"
        return None

    def numerics(self, program: Program) -> dict[str, Any]:
        device = self._device(program)
        cpu = device.type == "cpu"
        options: dict[str, Any] = {}
        if not isinstance(program.architecture, Architecture):
            # `compiled` was an option of earlier versions. Without these entries, runs of those versions could not
            # continue, because their pins would differ.
            options = {"amp": program.precision == "bf16", "channels_last": program.memory_format == "channels_last"}
            options |= {"compiled": False} | ({"tf32": True} if program.precision == "tf32" else {})
        return {
            "engine": self.name,
            "version": DEVICE_VERSION if _on_device(program, device) else VERSION,
            "torch": torch.__version__,
            "threads": 1,
            "device": torch.backends.cpu.get_cpu_capability() if cpu else torch.cuda.get_device_name(device),
            **options,
        }

    def chunk_models(self, program: Program, data: PreparedData, num_models: int) -> int:
        trained = program.architecture.layout.size * (2 if program.variational else 1)
        model_bytes = 4 * trained * (2 + len(MOMENTS[program.optimizer]))
        return max(1, min(num_models, STATE_BYTES // model_bytes))

    def open(
        self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData
    ) -> "SequentialSession | ModuleSession":
        """Raises ValueError, with the reason from ``refuses``, for a program that cannot run."""
        reason = self.refuses(program)
        if reason is not None:
            raise ValueError(reason)
        device = self._device(program)
        if _on_device(program, device):
            return ModuleSession(program, hyperparameters, state, data, device)
        model = (
            LayerListModel(program, device)
            if isinstance(program.architecture, Architecture)
            else ModuleModel(program, device)
        )
        return SequentialSession(program, hyperparameters, state, data, model, device)

    def _device(self, program: Program) -> torch.device:
        """The device of this process's sessions."""
        return self._requested or torch.device(self.device_kind(program, gpu=torch.cuda.is_available()))


def _on_device(program: Program, device: torch.device) -> bool:
    """True if ``ModuleSession`` runs ``program``, which keeps all data on the device.

    A CPU uses ``SequentialSession``, so that its bits stay equal to those of earlier zoos.
    """
    is_resnet = isinstance(program.architecture, ResNet18)  # the steps of a user's code may not be capturable
    return is_resnet and program.optimizer == "sgd" and device.type == "cuda"
