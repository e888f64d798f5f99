"""Helpers of the lanes benchmarks: random programs, executed multiply-adds, the machine's peak, medians."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, StateArrays, initial_state
from zooforge.zoo_jobs.engines.lanes import LanesEngine, LanesSession
from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, ISA_VARIABLE, extension
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.models.layers import Architecture, Conv2d, MaxPool2d
from zooforge.zoo_jobs.models.optimizers import OptimizerName
from zooforge.zoo_jobs.models.registry import architecture

PAIRS = 5  # interleaved measurements of each thing
BATCH = 10


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} x {model}, {', '.join(extension().available())}"


def train_macs(network: Architecture) -> int:
    """Executed multiply-adds of a training sample: rows that a pool drops are not computed, the weight gradient of a
    pooled convolution visits one position in four, and its data gradient takes k + 1 products a row of a cell, not 2 k.
    """
    return _macs(network, training=True)


def forward_macs(network: Architecture) -> int:
    return _macs(network, training=False)


def _macs(network: Architecture, training: bool) -> int:
    total = 0
    shapes = network.shapes
    first = network.parametric[0].index
    for p in network.parametric:
        layer, (_, *space) = p.layer, shapes[p.index + 1]
        plain = isinstance(layer, Conv2d) and (layer.stride, layer.padding) == (1, 0)
        if not isinstance(layer, Conv2d) or not plain or network.layers[p.index + 1] != MaxPool2d():
            total += (1 if not training else 2 if p.index == first else 3) * network.layer_macs(p)
            continue
        visited = int(np.prod([n // 2 for n in space]))
        computed = 4 * visited
        k = layer.kernel_size
        back = 0 if p.index == first else computed * (k + 1) // (2 * k)
        total += layer.in_channels * layer.out_channels * k**2 * (computed + visited + back if training else computed)
    return total


def network(name: str, channels: int, activation: str = "tanh", dropout: bool = False) -> Architecture:
    network = architecture(name, channels, activation, dropout)
    assert isinstance(network, Architecture)
    return network


def images(of: Architecture, train: int, test: int = 10) -> PreparedData:
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = random.integers(0, 256, (count, of.in_channels, of.image_size, of.image_size), np.uint8)
        return Split(pixels, random.integers(0, 10, count).astype(np.uint8))

    table = ((np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5))[None]
    return PreparedData("random", 10, table.repeat(of.in_channels, 0), split(train), split(10), split(test))


@contextmanager
def session(
    of: Architecture,
    num_models: int,
    data: PreparedData,
    *,
    optimizer: OptimizerName = "adam",
    twins: bool = False,
    dropout: float = 0.0,
    isa: str = "auto",
) -> Iterator[LanesSession]:
    program = Program(of, optimizer, BATCH, dropout > 0, twins)
    zeros = np.zeros(num_models)
    hyperparameters = Hyperparameters(
        np.arange(num_models, dtype=np.uint32),
        zeros + 3e-4,
        zeros,
        zeros + 0.9,
        zeros.astype(bool),
        zeros + dropout,
        zeros + 1,
        zeros,
    )
    distinct = np.stack([initial_weights(of, "kaiming_uniform", seed) for seed in range(min(16, num_models))])
    weights = np.resize(distinct, (num_models, of.layout.size))
    with open_with(isa, program, hyperparameters, initial_state(program, weights), data) as opened:
        yield opened


@contextmanager
def open_with(
    isa: str, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData
) -> Iterator[LanesSession]:
    """A session that computes with this instruction set, or with the best if it is ``auto``."""
    os.environ[ISA_VARIABLE] = isa
    opened = LanesEngine().open(program, hyperparameters, state, data)
    os.environ.pop(ISA_VARIABLE, None)
    with opened:
        yield opened


class Slots:
    """Several sessions that train at the same time, each in a thread, as the slots of a run do.

    Args:
        open_one: opens a session of ``GROUP_MODELS`` models.
    """

    def __init__(self, num_slots: int, open_one: Callable[[], AbstractContextManager[LanesSession]]) -> None:
        self.num_models = num_slots * GROUP_MODELS
        self._stack = ExitStack()
        self._sessions = [self._stack.enter_context(open_one()) for _ in range(num_slots)]
        self._pool = self._stack.enter_context(ThreadPoolExecutor(num_slots))

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> None:
        """Train every session's models; the slices of ``active_P`` follow the order of the sessions."""
        pieces = np.split(active_P, len(self._sessions))
        list(self._pool.map(lambda opened, piece: opened.train_epoch(epoch, piece), self._sessions, pieces))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def num_steps(data: PreparedData) -> int:
    """Steps of an epoch in batches of ``BATCH``."""
    return -(-len(data.train) // BATCH)


def cpu_seconds_per_model_step(opened: "LanesSession | Slots", num_models: int, steps: int, epoch: int) -> float:
    start = time.process_time()
    opened.train_epoch(epoch, np.ones(num_models, np.bool_))
    return (time.process_time() - start) / num_models / steps


def vector_sets() -> list[str]:
    """The instruction sets of this machine that runs use, the widest first; the others are for tests."""
    return [isa for isa in extension().available() if isa.startswith("avx")]


def peak(isa: str = "auto") -> float:
    """Multiply-adds per second of one thread that does nothing else."""
    return float(extension().peak(isa, 0.1))


def median(values: list[float]) -> float:
    return statistics.median(values)


@dataclass(frozen=True)
class Turns:
    """Medians of interleaved pairs: microseconds of either side, and the ratio of a pair."""

    plain_us: float
    lanes_us: float
    ratio: float


def in_turns(plain: Callable[[], float], lanes: Callable[[int], float]) -> Turns:
    """Measure both in turns.

    Args:
        plain, lanes: measure once, in seconds; ``lanes`` takes the epoch to train. The first pair only warms up.
    """
    pairs = [(plain(), lanes(1 + pair)) for pair in range(PAIRS + 1)][1:]
    return Turns(
        1e6 * median([one for one, _ in pairs]),
        1e6 * median([other for _, other in pairs]),
        median([one / other for one, other in pairs]),
    )


def share_of_peak(isa: str, macs: int, lanes: Callable[[int], float], pairs: int = PAIRS) -> tuple[float, float]:
    """Microseconds of a step, and the share of the peak that its ``macs`` multiply-adds are; medians over ``pairs``.

    Args:
        lanes: measures a step of one model in seconds; it takes the epoch to train. The first epoch only warms up.
    """
    lanes(1)
    taken = [(peak(isa), lanes(2 + pair)) for pair in range(pairs)]
    return 1e6 * median([seconds for _, seconds in taken]), median([macs / seconds / best for best, seconds in taken])
