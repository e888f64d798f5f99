"""The small CNN zoo (`small-cnn-fashion-mnist`) with `lanes`: shares of the FMA peak, and against plain PyTorch.

    python benchmarks/lanes_small_cnn.py [--slots 1] [--steps 12]

For each operation family of the zoo (activation and optimizer), the first 16 models of that family train on random
images in batches of 512, with the hyperparameters that the zoo draws for them, dropout included; only the fraction of
the training images is set to 1, so that every lane does the same number of steps (`lanes_packing.py` counts the loss
by fractions). PyTorch trains one model per process of one thread, with the same batches and a dropout ratio of 0.35.

The share divides executed multiply-adds by a peak measured in the same process just before. Every figure is the median
of interleaved pairs, in CPU seconds. The last line of each instruction set is the median over the families.

Last result: docs/performance.md.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
from lanes_work import PAIRS, images, machine, median, peak, train_macs
from plain_torch import Workers

from zooforge.storage.stores.memory import MemoryStore
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.contract import Program
from zooforge.zoo_jobs.engines.lanes import LanesEngine, LanesSession
from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, ISA_VARIABLE, extension
from zooforge.zoo_jobs.models.layers import Activation, Architecture
from zooforge.zoo_jobs.running.inputs import Run

ZOO, STEPS = "small-cnn-fashion-mnist", 4


@contextmanager
def session(run: Run, program: Program, data: PreparedData, isa: str = "auto") -> Iterator[LanesSession]:
    """The first models of the family of ``program``, each on all training images."""
    models = [m for m, row in enumerate(run.rows) if run.program(row.family) == program][:GROUP_MODELS]
    drawn = run.hyperparameters(models)
    whole = dataclasses.replace(drawn, train_fraction_P=np.ones(len(models)))
    os.environ[ISA_VARIABLE] = isa
    opened = LanesEngine().open(program, whole, run.first_state(models, MemoryStore()), data)
    os.environ.pop(ISA_VARIABLE, None)
    with opened:
        yield opened


def seconds_per_model_step(opened: list[LanesSession], epoch: int) -> float:
    """CPU seconds; the sessions train at the same time, each in a thread."""
    active = np.ones(GROUP_MODELS, np.bool_)
    start = time.process_time()
    with ThreadPoolExecutor(len(opened)) as pool:
        list(pool.map(lambda one: one.train_epoch(epoch, active), opened))
    return (time.process_time() - start) / len(opened) / GROUP_MODELS / STEPS


def activation_of(of: Architecture) -> str:
    return next(layer.name for layer in of.layers if isinstance(layer, Activation))


def share_of_peak(run: Run, program: Program, data: PreparedData, isa: str) -> tuple[float, float]:
    """Microseconds per model and step, and the share of the peak."""
    of = program.architecture
    assert isinstance(of, Architecture)
    shares, us = [], []
    with session(run, program, data, isa) as opened:
        seconds_per_model_step([opened], 1)
        for pair in range(PAIRS):
            at_best = peak(isa)
            ours = seconds_per_model_step([opened], 2 + pair)
            shares.append(train_macs(of) * program.batch_size / ours / at_best)
            us.append(1e6 * ours)
    return median(us), median(shares)


def against_torch(run: Run, program: Program, data: PreparedData, slots: int, steps: int) -> str:
    of = program.architecture
    assert isinstance(of, Architecture)
    ratios, plain_us, lanes_us = [], [], []
    with Workers(slots) as workers, ExitStack() as stack:
        opened = [stack.enter_context(session(run, program, data)) for _ in range(slots)]
        for pair in range(PAIRS + 1):
            plain = workers.ask(
                do="train", zoo=ZOO, activation=activation_of(of), optimizer=program.optimizer, twins=False,
                batch=program.batch_size, steps=steps,
            )  # fmt: skip
            ours = seconds_per_model_step(opened, 1 + pair)
            if pair:  # the first warms up
                ratios.append(plain / ours)
                plain_us.append(1e6 * plain)
                lanes_us.append(1e6 * ours)
    return (
        f"{slots} slots, {activation_of(of)}, {program.optimizer}: {median(plain_us):6.0f} us plain, "
        f"{median(lanes_us):6.0f} us lanes a model-step: {median(ratios):4.1f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=12, help="of PyTorch in each pair")
    options = parser.parse_args()
    run = Run(entries.load(ZOO))
    programs = list(run.programs())
    of = programs[0].architecture
    assert isinstance(of, Architecture)
    data = images(of, STEPS * programs[0].batch_size)
    print(f"{machine()}; peak of one thread {peak() / 1e9:.1f} G multiply-adds/s")
    for program in programs:
        print(against_torch(run, program, data, options.slots, options.steps), flush=True)
    for isa in extension().available()[:2]:
        shares = []
        for program in programs:
            us, share = share_of_peak(run, program, data, isa)
            shares.append(share)
            assert isinstance(program.architecture, Architecture)
            what = f"{activation_of(program.architecture)}, {program.optimizer}"
            print(f"{isa}, {what}: {us:6.0f} us a model-step, {share:5.1%} of the peak", flush=True)
        print(f"{isa}: median {median(shares):.1%}, least {min(shares):.1%} of the peak", flush=True)


if __name__ == "__main__":
    main()
