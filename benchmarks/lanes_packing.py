"""Packing by steps: how much of the work of `lanes` is used where models train on 10, 25, 50 and 100 % of the images.

    python benchmarks/lanes_packing.py [--models 128] [--images 2000]

It counts lane-steps, and compares the CPU time of one session with that of a session per fraction, in which no lane
waits. Both are ratios within one run. Last result: docs/performance.md.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from lanes_work import images, machine, median, network
from numpy.typing import NDArray

from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, initial_state
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS
from zooforge.zoo_jobs.engines.subsets import num_training_rows, packed
from zooforge.zoo_jobs.models.initialize import initial_weights

FRACTIONS = (0.1, 0.25, 0.5, 1.0)
BATCH = 10


def used(steps_P: NDArray[np.int64]) -> float:
    """Share of the lane-steps that are steps of a model; each 16 neighbours take as many as the longest of them."""
    groups = [steps_P[start : start + GROUP_MODELS] for start in range(0, len(steps_P), GROUP_MODELS)]
    return float(steps_P.sum() / sum(GROUP_MODELS * group.max() for group in groups))


def counted(fractions: NDArray[np.float64], num_images: int) -> tuple[float, float]:
    """The share with packing, and in the order of the models."""
    rows_P = np.array([num_training_rows(fraction, num_images) for fraction in fractions.tolist()], np.int32)
    steps_P = -(-rows_P.astype(np.int64) // BATCH)
    return used(steps_P[packed(rows_P)]), used(steps_P)


def seconds(fractions: Sequence[float], num_images: int) -> float:
    """CPU seconds of the second epoch of models with these fractions in one session."""
    of, num_models = network("cnn-s", 1), len(fractions)
    program, zeros = Program(of, "adam", BATCH, False), np.zeros(len(fractions))
    h = Hyperparameters(
        np.arange(num_models, dtype=np.uint32), zeros + 3e-4, zeros, zeros, zeros.astype(bool), zeros,
        np.array(fractions), zeros,
    )  # fmt: skip
    weights = np.tile(initial_weights(of, "kaiming_uniform", 1), (num_models, 1))
    active = np.ones(num_models, np.bool_)
    with LanesEngine().open(program, h, initial_state(program, weights), images(of, num_images, 10)) as session:
        session.train_epoch(1, active)
        start = time.process_time()
        session.train_epoch(2, active)
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=128, help="of a session; a multiple of 64 leaves no spare lanes")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    equal = np.tile(FRACTIONS, options.models // len(FRACTIONS))
    print("equal parts: {:.1%} of the lane-steps are used, {:.1%} unpacked".format(*counted(equal, options.images)))
    random = np.random.default_rng(1)
    drawn = [counted(random.choice(FRACTIONS, options.models), options.images) for _ in range(1000)]
    shares = [median(list(column)) for column in zip(*drawn, strict=True)]
    print(f"drawn, median of 1,000: {shares[0]:.1%}, {shares[1]:.1%} unpacked; least {min(drawn)[0]:.1%}")
    ratios = []
    for _ in range(options.pairs):
        apart = sum(seconds([f] * (options.models // len(FRACTIONS)), options.images) for f in FRACTIONS)
        ratios.append(apart / seconds(equal.tolist(), options.images))
    print(f"time: a session per fraction takes {median(ratios):.2f} times that of one session of all")


if __name__ == "__main__":
    main()
