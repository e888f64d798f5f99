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
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
from lanes_work import PAIRS, machine, median, peak
from plain_torch import Workers

from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, initial_state
from zooforge.zoo_jobs.engines.lanes import LanesEngine, LanesSession
from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, ISA_VARIABLE, extension
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
    os.environ[ISA_VARIABLE] = isa
    opened = LanesEngine().open(program, hyperparameters, initial_state(program, weights), images())
    os.environ.pop(ISA_VARIABLE, None)
    with opened:
        yield opened


def seconds_per_model_step(opened: list[LanesSession], num_models: int, epoch: int) -> float:
    """CPU seconds; the sessions train at the same time, each in a thread."""
    active = np.ones(num_models, np.bool_)
    start = time.process_time()
    with ThreadPoolExecutor(len(opened)) as pool:
        list(pool.map(lambda one: one.train_epoch(epoch, active), opened))
    return (time.process_time() - start) / len(opened) / num_models / STEPS


def share_of_peak(activation: str, isa: str) -> str:
    of, num_models = network(activation), extension().lanes_of(isa)
    shares, us = [], []
    with session(of, num_models, isa) as opened:
        seconds_per_model_step([opened], num_models, 1)
        for pair in range(PAIRS):
            at_best = peak(isa)
            ours = seconds_per_model_step([opened], num_models, 2 + pair)
            shares.append(of.num_train_macs * SIDE**2 / ours / at_best)
            us.append(1e6 * ours)
    what = "with sines" if activation == "sine" else "multiply-adds alone"
    return f"{isa}, {what}: {median(us):6.1f} us a model-step, {median(shares):5.1%} of the peak"


def against_torch(slots: int, steps: int) -> str:
    ratios, plain_us, lanes_us = [], [], []
    with Workers(slots) as workers, ExitStack() as stack:
        opened = [stack.enter_context(session(network(), GROUP_MODELS)) for _ in range(slots)]
        for pair in range(PAIRS + 1):
            plain = workers.ask(do="fit", side=SIDE, steps=steps)
            ours = seconds_per_model_step(opened, GROUP_MODELS, 1 + pair)
            if pair:  # the first warms up
                ratios.append(plain / ours)
                plain_us.append(1e6 * plain)
                lanes_us.append(1e6 * ours)
    minutes = median(lanes_us) * 1e-6 * ZOO_MODELS * ZOO_STEPS / slots / 60
    return (
        f"{slots} slots, adam: {median(plain_us):6.0f} us plain, {median(lanes_us):6.1f} us lanes a model-step: "
        f"{median(ratios):5.1f} x; {ZOO_MODELS} images x {ZOO_STEPS} steps take {minutes:.1f} minutes, not stored"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=150, help="of PyTorch in each pair")
    options = parser.parse_args()
    print(f"{machine()}; peak of one thread {peak() / 1e9:.1f} G multiply-adds/s")
    print(against_torch(options.slots, options.steps), flush=True)
    for isa in extension().available():
        if isa not in ("scalar", "vec4"):
            for activation in ("identity", "sine"):
                print(share_of_peak(activation, isa), flush=True)


if __name__ == "__main__":
    main()
