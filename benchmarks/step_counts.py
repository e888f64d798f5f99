"""Counts on a CPU the kernels, bytes and waits that a step takes on a GPU. It measures no time.

    PYTHONPATH=. python benchmarks/step_counts.py

Torch's dispatch shows every operation of one training step of 8 models, batches of 10, and of one evaluation. Each
operation that is no view is a kernel, which reads its arguments and writes its results. The random numbers of a layer
are counted as they are computed without a compiler, and as the one kernel that `engines/stacked/compiled.py` makes of
them (tests/zoo_jobs/engines/stacked/test_compiled.py shows that it is one). For a ResNet-18 it counts how often the
host waits for a value of the device in an epoch of 16 steps and an evaluation of 4,000 images.

Last result: docs/performance.md.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from tests.gpu.populations import images, population, program, resnet
from zooforge.zoo_jobs.engines.contract import Program
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.sequential.module_session import ModuleSession
from zooforge.zoo_jobs.engines.stacked import StackedEngine, compiled, network

MODELS, BATCH, EVALUATED = 8, 10, 10
CPU = torch.device("cpu")
NO_KERNELS = ("aten::empty", "aten::new_empty", "aten::empty_like", "aten::empty_strided", "aten::_unsafe_view")


class Counts(TorchDispatchMode):
    """Counts kernels and their bytes, and values that the host reads, while it is active."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)  # mypy knows that torch has no types, but not through super()
        self.kernels = self.num_bytes = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.waits += func is torch.ops.aten._local_scalar_dense.default
        if not func.is_view and func.name().partition(".")[0] not in NO_KERNELS:
            self.add(args, kwargs, result)
        return result

    def add(self, *values: Any) -> None:
        """One kernel that reads and writes all tensors among the values."""
        tensors = {id(one): one for one in tree_flatten(values)[0] if isinstance(one, Tensor)}
        self.kernels += 1
        self.num_bytes += sum(stored_bytes(one) for one in tensors.values())


def stored_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor's values; one that is repeated along an axis counts once."""
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return int(np.prod(sizes, dtype=np.int64)) * tensor.element_size()


def one_kernel(counts: Counts, draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``draw``, counted as one kernel."""

    def drawn(*arguments: Any) -> Tensor:
        with torch.utils._python_dispatch._disable_current_modes():
            result = draw(*arguments)
        counts.add(arguments, result)
        return result

    return drawn


@contextmanager
def counted(as_compiled: bool) -> Iterator[Counts]:
    """Count while the block runs what a GPU does, with the random numbers of a layer as many kernels or as one."""
    counts, draws = Counts(), compiled.EAGER
    if as_compiled:
        draws = compiled.Draws(one_kernel(counts, draws.dropout_factors), one_kernel(counts, draws.gaussians), True)
    on_gpu = patch.object(network, "on_gpu", lambda tensor: True)
    with on_gpu, patch.object(compiled, "draws", lambda device: draws), counts:
        yield counts


def step_counts(of: Program, as_compiled: bool) -> tuple[Counts, Counts]:
    """A training step, and an evaluation of ``EVALUATED`` images."""
    data = images(of.architecture.in_channels, of.architecture.image_size, 2 * BATCH, EVALUATED)
    h, state = population(of, MODELS)
    with StackedEngine("cpu").open(of, h, state, data) as session:
        session.train_epoch(1, np.ones(MODELS, np.bool_))
        session.evaluate("test")
        session._epoch_step.zero_()
        session._first_image.zero_()
        with session._place.active():
            with counted(as_compiled) as step:
                session._train_step(BATCH)
            with counted(as_compiled) as evaluation, torch.no_grad():
                session._evaluate_block("test", EVALUATED)
    return step, evaluation


def resnet_waits() -> dict[str, int]:
    """Waits of an epoch and an evaluation of one ResNet-18: with the session of a CPU, and with that of a GPU."""
    of, data = resnet(4, 16, 16), images(3, 16, 64, 4000)
    h, state = population(of, 1)
    waits = {}
    for name, open_ in (("every block is read", partial(SequentialEngine("cpu").open, of, h, state, data)),
                        ("on the device", partial(ModuleSession, of, h, state, data, CPU))):  # fmt: skip
        reads = patch.object(ModuleSession, "_read_sums", autospec=True, side_effect=ModuleSession._read_sums)
        with reads as read, open_() as session, Counts() as counts:
            session.train_epoch(1, np.ones(1, np.bool_))
            session.evaluate("test")
        waits[name] = counts.waits + read.call_count
    return waits


def main() -> None:
    plans = {
        "CNN-s, 1 channel": program(), "with dropout": program(dropout=True), "twins": program(variational=True),
        "CNN-l, 3 channels": program("cnn-l", 3),
    }  # fmt: skip
    print("program: kernels per step, bytes per sample of a model; with one kernel per layer of random numbers")
    for name, of in plans.items():
        steps = [step_counts(of, as_compiled)[0] for as_compiled in (False, True)]
        (kernels, size), (fewer, less) = ((one.kernels, one.num_bytes / MODELS / BATCH / 1e3) for one in steps)
        print(
            f"{name}: {kernels}, {size:,.0f} kB; {fewer}, {less:,.0f} kB; {kernels / fewer:.1f} x, {size / less:.1f} x"
        )
        assert not any(one.waits for one in steps)
    evaluation = step_counts(plans["CNN-s, 1 channel"], False)[1]
    print(f"evaluation: {evaluation.kernels}, {evaluation.num_bytes / MODELS / EVALUATED / 1e3:,.0f} kB per image")
    for name, waits in resnet_waits().items():
        print(f"ResNet-18, {name}: the host waits {waits} times")


if __name__ == "__main__":
    main()
