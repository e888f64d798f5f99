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
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from lanes_work import (
    Slots,
    cpu_seconds_per_model_step,
    images,
    in_turns,
    machine,
    median,
    open_with,
    peak,
    share_of_peak,
    train_macs,
    vector_sets,
)
from plain_torch import Workers

from zooforge.storage.stores.memory import MemoryStore
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.contract import Program
from zooforge.zoo_jobs.engines.lanes import LanesSession
from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, extension
from zooforge.zoo_jobs.models.layers import Activation, Architecture
from zooforge.zoo_jobs.running.inputs import Run

ZOO, STEPS = "small-cnn-fashion-mnist", 4


@contextmanager
def session(
    run: Run, program: Program, data: PreparedData, num_models: int, isa: str = "auto"
) -> Iterator[LanesSession]:
    """The first models of the family of ``program``, each on all training images."""
    models = [m for m, row in enumerate(run.rows) if run.program(row.family) == program][:num_models]
    whole = dataclasses.replace(run.hyperparameters(models), train_fraction_P=np.ones(num_models))
    with open_with(isa, program, whole, run.first_state(models, MemoryStore()), data) as opened:
        yield opened


def activation_of(of: Architecture) -> str:
    return next(layer.name for layer in of.layers if isinstance(layer, Activation))


def share(run: Run, program: Program, data: PreparedData, isa: str) -> tuple[float, float]:
    """Microseconds per model and step, and the share of the peak."""
    of, num_models = program.architecture, extension().lanes_of(isa)
    assert isinstance(of, Architecture)
    with session(run, program, data, num_models, isa) as opened:
        step = partial(cpu_seconds_per_model_step, opened, num_models, STEPS)
        return share_of_peak(isa, train_macs(of) * program.batch_size, step)


def against_torch(run: Run, program: Program, data: PreparedData, slots: int, steps: int) -> str:
    of = program.architecture
    assert isinstance(of, Architecture)
    activation, optimizer = activation_of(of), program.optimizer
    ask = {"zoo": ZOO, "activation": activation, "optimizer": optimizer, "twins": False, "batch": program.batch_size}
    with Workers(slots) as workers, Slots(slots, partial(session, run, program, data, GROUP_MODELS)) as opened:
        turns = in_turns(
            partial(workers.ask, do="train", steps=steps, **ask),
            partial(cpu_seconds_per_model_step, opened, opened.num_models, STEPS),
        )
    return (
        f"{slots} slots, {activation}, {optimizer}: {turns.plain_us:6.0f} us plain, {turns.lanes_us:6.0f} us lanes a "
        f"model-step: {turns.ratio:4.1f} x"
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
    for isa in vector_sets():
        shares = []
        for program in programs:
            us, of_peak = share(run, program, data, isa)
            shares.append(of_peak)
            assert isinstance(program.architecture, Architecture)
            what = f"{activation_of(program.architecture)}, {program.optimizer}"
            print(f"{isa}, {what}: {us:6.0f} us a model-step, {of_peak:5.1%} of the peak", flush=True)
        print(f"{isa}: median {median(shares):.1%}, least {min(shares):.1%} of the peak", flush=True)


if __name__ == "__main__":
    main()
