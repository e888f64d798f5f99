"""The random numbers of a layer as one compiled kernel, where torch has a compiler for the device."""

import functools
import logging
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import random_numbers

logger = logging.getLogger(__name__)

OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {
    "compile_threads": 1,  # no pool of processes
    # Limits of the operations and reads in one kernel. They are so high that no random word is written to memory.
    "realize_opcount_threshold": 1 << 30,
    "realize_reads_threshold": 1 << 30,
    "realize_acc_reads_threshold": 1 << 30,
}


class Draws(NamedTuple):
    """``dropout_factors`` and ``gaussians`` of ``random_numbers``."""

    dropout_factors: Callable[..., Tensor]
    gaussians: Callable[..., Tensor]
    compiled: bool


EAGER = Draws(random_numbers.dropout_factors, random_numbers.gaussians, compiled=False)


@functools.cache
def draws(device: torch.device) -> Draws:
    """Compiled on a CUDA device, where memory limits the engine; ``EAGER`` on a CPU, which checks the engine."""
    return compiled(device) if device.type == "cuda" else EAGER


def compiled(device: torch.device) -> Draws:
    """One kernel per layer, for any number of models, samples and values; ``EAGER`` where that is not possible.

    It is not possible without a compiler (Triton for CUDA, a C++ compiler for a CPU), or if a trial gives other
    numbers: factors must be equal, and Gaussians agree to a few ulp, since compilers have their own logarithm, sine
    and cosine.
    """
    try:
        made = Draws(
            torch.compile(random_numbers.dropout_factors, dynamic=True, options=OPTIONS),
            torch.compile(random_numbers.gaussians, dynamic=True, options=OPTIONS),
            compiled=True,
        )
        if _agree(made, device):
            return made
        why = "a trial gave other numbers"
    except (RuntimeError, OSError, ImportError, LookupError, subprocess.SubprocessError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
    logger.warning("random numbers are drawn without a compiled kernel, which takes longer", extra={"reason": why})
    return EAGER


def _agree(made: Draws, device: torch.device) -> bool:
    """True if a trial gives the numbers of ``EAGER``: three models, five samples, a thousand values, large words."""
    seed_P = torch.tensor([1, 2, (1 << 32) - 1], device=device)
    epoch, step = torch.tensor((1 << 32) - 1, device=device), torch.tensor(4, device=device)
    stream_S = random_numbers.sample_streams(1, 5, device)
    threshold_P11 = torch.tensor([0, 1 << 30, 1 << 31], device=device)[:, None, None]
    scale_P11 = torch.tensor([1, 4 / 3, 2], device=device)[:, None, None]
    where = seed_P, epoch, step, stream_S, 1000
    factors, same = (one.dropout_factors(*where, threshold_P11, scale_P11) for one in (made, EAGER))
    noise, near = (one.gaussians(*where) for one in (made, EAGER))
    return torch.equal(factors, same) and torch.allclose(noise, near, rtol=1e-5, atol=1e-5)
