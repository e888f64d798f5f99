"""The kind of device that a program uses: slots, requests for GPUs, numerics, pins and refusals all ask here."""

import logging
import os
from pathlib import Path

from .contract import DeviceKind, Engine, Program

logger = logging.getLogger(__name__)


def workers_have_gpus() -> bool:
    """Whether ``ZOO_WORKER_GPUS`` says that a cluster's workers have GPUs, which the driver need not have."""
    return os.environ.get("ZOO_WORKER_GPUS", "0") not in ("", "0")


def has_gpu() -> bool:
    """Whether an NVIDIA device is visible, here or to the workers, without importing torch."""
    if workers_have_gpus():
        return True
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1")


def sees_cuda() -> bool:
    """Whether torch of this process sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def num_cuda_devices() -> int:
    """CUDA devices of this machine, or 1 where only workers have them: an autoscaler starts the first."""
    import torch

    return max(1, torch.cuda.device_count())


def device_kind(engine: Engine, program: Program) -> DeviceKind:
    """The kind of device on which workers run ``program`` with ``engine``: ``cuda`` where they have a GPU and use it.

    Torch is imported only for engines that can use a GPU.
    """
    if engine.device_kind(program, gpu=True) == "cpu":
        return "cpu"
    return engine.device_kind(program, gpu=workers_have_gpus() or sees_cuda())


def no_cuda() -> str:
    """Why torch sees no CUDA device, in words for a person."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no device: `zoo engines` shows the driver"
