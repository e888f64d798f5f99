"""Image regression (implicit neural representations) with `lanes`: shares of the FMA peak, and against plain PyTorch.

    python benchmarks/lanes_inr.py [--slots 1] [--steps 150]

The network is the catalogue's: coordinates, two hidden layers of 32 sines, one pixel value; 28 x 28 pixels in one
batch, Adam, 20 steps an epoch. Against PyTorch there are as many slots as PyTorch processes of one thread, by default
one per vCPU. PyTorch trains one model per process: a module, `F.mse_loss`, a step.

"Multiply-adds alone" is the same network with `identity` in place of the sines. Shares divide executed multiply-adds by
a peak measured in the same process just before. Every figure is the median of interleaved pairs, in CPU seconds.

Last result: docs/performance.md.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from lanes_work import Slots, cpu_seconds_per_model_step, in_turns, machine, open_with, peak, share_of_peak, vector_sets
from plain_torch import Workers

from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, initial_state
from zooforge.zoo_jobs.engines.lanes import LanesSession
from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, extension
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.models.layers import Activation, Architecture, Linear

SIDE, STEPS = 28, 20
ZOO_MODELS, ZOO_STEPS = 5_000, 1_000


def network(activation: str = "sine") -> Architecture:
    act = Activation(activation, 30.0 if activation == "sine" else 1.0)
    return Architecture("inr", 2, 1, (Linear(2, 32), act, Linear(32, 32), act, Linear(32, 1)), vector_input=True)


def images() -> PreparedData:
    pixels = np.random.default_rng(0).integers(0, 256, (GROUP_MODELS, 1, SIDE, SIDE), np.uint8)
    none = Split(pixels[:0], np.zeros(0, np.uint8))
    table = (np.arange(256, dtype=np.float32) / np.float32(255))[None]
    return PreparedData("random", 10, table, Split(pixels, np.zeros(GROUP_MODELS, np.uint8)), none, none)


@contextmanager
def session(of: Architecture, num_models: int, isa: str = "auto") -> Iterator[LanesSession]:
    program = Program(of, "adam", SIDE**2, dropout=False, task="image_regression", steps_per_epoch=STEPS)
    zeros, models = np.zeros(num_models), np.arange(num_models)
    hyperparameters = Hyperparameters(
        seed_P=models.astype(np.uint32),
        learning_rate_P=zeros + 1e-4,
        weight_decay_P=zeros,
        momentum_P=zeros,
        nesterov_P=zeros.astype(bool),
        dropout_ratio_P=zeros,
        train_fraction_P=zeros + 1,
        label_noise_P=zeros,
        image_P=models.astype(np.int64),
    )
    weights = np.stack([initial_weights(network(), "siren", seed) for seed in range(num_models)])
    with open_with(isa, program, hyperparameters, initial_state(program, weights), images()) as opened:
        yield opened


def share(activation: str, isa: str) -> str:
    of, num_models = network(activation), extension().lanes_of(isa)
    with session(of, num_models, isa) as opened:
        step = partial(cpu_seconds_per_model_step, opened, num_models, STEPS)
        us, of_peak = share_of_peak(isa, of.num_train_macs * SIDE**2, step)
    what = "with sines" if activation == "sine" else "multiply-adds alone"
    return f"{isa}, {what}: {us:6.1f} us a model-step, {of_peak:5.1%} of the peak"


def against_torch(slots: int, steps: int) -> str:
    with Workers(slots) as workers, Slots(slots, partial(session, network(), GROUP_MODELS)) as opened:
        turns = in_turns(
            partial(workers.ask, do="fit", side=SIDE, steps=steps),
            partial(cpu_seconds_per_model_step, opened, opened.num_models, STEPS),
        )
    minutes = turns.lanes_us * 1e-6 * ZOO_MODELS * ZOO_STEPS / slots / 60
    return (
        f"{slots} slots, adam: {turns.plain_us:6.0f} us plain, {turns.lanes_us:6.1f} us lanes a model-step: "
        f"{turns.ratio:5.1f} x; {ZOO_MODELS} images x {ZOO_STEPS} steps take {minutes:.1f} minutes, not stored"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=150, help="of PyTorch in each pair")
    options = parser.parse_args()
    print(f"{machine()}; peak of one thread {peak() / 1e9:.1f} G multiply-adds/s")
    print(against_torch(options.slots, options.steps), flush=True)
    for isa in vector_sets():
        for activation in ("identity", "sine"):
            print(share(activation, isa), flush=True)


if __name__ == "__main__":
    main()
