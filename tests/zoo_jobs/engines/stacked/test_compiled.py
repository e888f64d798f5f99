"""Compiled random numbers: one kernel per layer, with the numbers of the eager ones and of NumPy."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import gaussian_noise
from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.stacked import compiled, random_numbers

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own modules

CPU = torch.device("cpu")
SEEDS = np.array([1, 999_999, 2**32 - 1], np.uint32)


def compiler_counts() -> tuple[Any, Any]:
    """Inductor's count of kernels and dynamo's counters; their import takes seconds."""
    from torch._dynamo.utils import counters
    from torch._inductor import metrics

    return metrics, counters


@pytest.fixture(scope="module")
def made() -> compiled.Draws:
    """The kernels of a C++ compiler; a GPU has those of Triton."""
    metrics, counters = compiler_counts()
    metrics.reset()
    counters.clear()
    return compiled.compiled(CPU)


@pytest.mark.slow
@pytest.mark.parametrize(("num_samples", "num_values"), [(10, 392), (7, 21)])
def test_one_kernel_per_layer_gives_the_numbers_of_numpy(
    made: compiled.Draws, num_samples: int, num_values: int
) -> None:
    assert made.compiled
    seed_P, epoch, step = torch.tensor(SEEDS.astype(np.int64)), torch.tensor(7), torch.tensor(3)
    where = seed_P, epoch, step, random_numbers.sample_streams(1, num_samples, CPU), num_values
    ratio_P = np.array([0.0, 0.3, 0.5])
    threshold_P11 = torch.tensor([philox.dropout_threshold(ratio) for ratio in ratio_P])[:, None, None]
    scale_P11 = torch.tensor([philox.dropout_scale(ratio) for ratio in ratio_P])[:, None, None]
    factors = made.dropout_factors(*where, threshold_P11, scale_P11)
    assert torch.equal(factors, random_numbers.dropout_factors(*where, threshold_P11, scale_P11))
    position = {"epoch": 7, "step": 3, "layer": 1, "num_samples": num_samples, "num_values": num_values}
    for seed, ratio, actual in zip(SEEDS, ratio_P, factors[..., :num_values].numpy(), strict=True):
        kept = philox.keep_mask(seed, ratio=ratio, **position)
        assert np.array_equal(actual, kept * philox.dropout_scale(ratio))
    noise = made.gaussians(*where)[..., :num_values].numpy()
    np.testing.assert_allclose(noise, gaussian_noise.gaussians(SEEDS, **position), rtol=2e-6, atol=2e-6)
    metrics, counters = compiler_counts()
    assert metrics.generated_kernel_count == counters["stats"]["unique_graphs"] > 0


@pytest.mark.slow
def test_compiled_words_are_those_of_philox_bit_for_bit() -> None:
    words = torch.compile(random_numbers.words, dynamic=True, options=compiled.OPTIONS)
    streams = random_numbers.sample_streams(2, 5, CPU)
    for epoch, step, num_words in ((2**32 - 1, 0, 101), (1, 2**32 - 1, 1301), (7, 3, 1304)):
        drawn = words(torch.tensor(SEEDS.astype(np.int64)), philox.Purpose.NOISE, torch.tensor(epoch),
                      torch.tensor(step), streams, num_words)  # fmt: skip
        expected = philox.words(SEEDS[:, None], philox.Purpose.NOISE, epoch=epoch, step=step,
                                stream=philox.sample_streams(2, 5), num_words=num_words)  # fmt: skip
        assert np.array_equal(drawn.numpy(), expected), (epoch, step)


def failing(error: Exception) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        raise error

    return lambda function, **options: call


@pytest.mark.parametrize(
    ("compile_", "reason"),
    [
        (failing(RuntimeError("Failed to find C compiler.\nmore words")), "Failed to find C compiler."),
        (failing(FileNotFoundError("g++")), "g++"),
        (failing(ImportError("no module triton")), "no module triton"),
        (lambda function, **options: lambda *arguments: function(*arguments) + 1, "a trial gave other numbers"),
    ],
    ids=["no compiler", "no program", "no triton", "other numbers"],
)
def test_without_a_compiler_that_can_be_used_numbers_are_drawn_eagerly_and_the_reason_is_logged(
    compile_: Any, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", compile_)
    with caplog.at_level(logging.WARNING):
        assert compiled.compiled(CPU) is compiled.EAGER
    (record,) = caplog.records
    assert record.__dict__["reason"] == reason


def test_a_gpu_compiles_once_and_a_cpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[torch.device] = []
    monkeypatch.setattr(compiled, "compiled", lambda device: devices.append(device) or compiled.EAGER)
    compiled.draws.cache_clear()
    try:
        for name in ("cuda", "cpu", "cuda"):
            compiled.draws(torch.device(name))
    finally:
        compiled.draws.cache_clear()
    assert devices == [torch.device("cuda")]
