"""Decides which kind of device a program uses.

The numbers of slots, the requests for GPUs, numerics, pins and refusals all depend on these functions.
"""

import logging
import os
from pathlib import Path

from .contract import DeviceKind, Engine, Program

logger = logging.getLogger(__name__)


def workers_have_gpus() -> bool:
    """True if ``ZOO_WORKER_GPUS`` says that a cluster's workers have GPUs. The driver may have none."""
    return os.environ.get("ZOO_WORKER_GPUS", "0") not in ("", "0")


def has_gpu() -> bool:
    """True if this machine or the workers have an NVIDIA device. This function does not import torch."""
    if workers_have_gpus():
        return True
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1")


def sees_cuda() -> bool:
    """True if torch finds a CUDA device in this process."""
    import torch

    return torch.cuda.is_available()


def num_cuda_devices() -> int:
    """Number of CUDA devices of this machine, at least 1: if only workers have GPUs, an autoscaler starts the first."""
    import torch

    return max(1, torch.cuda.device_count())


def device_kind(engine: Engine, program: Program) -> DeviceKind:
    """The kind of device on which workers run ``program`` with ``engine``: ``cuda`` if they have a GPU and use it.

    This imports torch only if the engine can use a GPU.
    """
    if engine.device_kind(program, gpu=True) == "cpu":
        return "cpu"
    return engine.device_kind(program, gpu=workers_have_gpus() or sees_cuda())


def no_cuda() -> str:
    """A sentence that says why torch finds no CUDA device."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no device: `zoo engines` shows the driver"
