"""Measures the rates that `zoo plan` reckons with, and prints them as entries of zoo_jobs/planning/rates.yaml.

    python benchmarks/rates.py --engine sequential cnn-s:1 cnn-s:3 cnn-l:3
    python benchmarks/rates.py --engine lanes mnist5k-inr-shared

One thread; CPU seconds, so that neighbours on the machine disturb little; the median of five repeats. A rate is
samples per second and slot, batch size 10: trained (forward, backward, Adam step) and evaluated. The name of a zoo
stands for one whose models learn images; its samples are pixels, and a batch is an image.

Last result: AMD EPYC (Zen 4), 2 vCPUs, torch 2.13.0, 2026-11-24: see zoo_jobs/planning/rates.yaml.
"""

import argparse
import datetime
import statistics
import time

import numpy as np
import torch

from zooforge.storage.stores.memory import MemoryStore
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.choose import make_engine
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, Session, SplitName, initial_state
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.models.registry import architecture
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.zoo import ZooSpec

REPEATS = 5


def random_data(channels: int, size: int, num_images: int) -> PreparedData:
    generator = np.random.default_rng(0)

    def split(n: int) -> Split:
        images = generator.integers(0, 256, (n, channels, size, size), np.uint8)
        return Split(images, generator.integers(0, 10, n).astype(np.uint8))

    table = np.tile(np.linspace(-1, 1, 256, dtype=np.float32), (channels, 1))
    return PreparedData("random", 10, table, split(num_images), split(10), split(num_images))


def measure(engine_name: str, name: str, channels: int, variational: bool, num_images: int) -> tuple[float, float]:
    """Samples trained and evaluated per CPU second of one slot."""
    network = architecture(name, channels, "tanh", False)
    program = Program(network, "adam", 10, dropout=False, variational=variational)
    engine = make_engine(engine_name)
    data = random_data(channels, network.image_size, num_images)
    num_models = min(16, engine.chunk_models(program, data, 16)) if engine_name != "sequential" else 1
    values = np.full(num_models, 3e-4)
    zeros = np.zeros(num_models)
    hyperparameters = Hyperparameters(
        np.arange(num_models, dtype=np.uint32), values, zeros, zeros, zeros.astype(bool), zeros, zeros + 1, zeros
    )
    weights = np.stack([initial_weights(network, "kaiming_uniform", seed) for seed in range(num_models)])
    with engine.open(program, hyperparameters, initial_state(program, weights), data) as session:
        return timed(session, num_models, "test")


def measure_zoo(engine_name: str, spec: ZooSpec) -> tuple[float, float]:
    """Pixels trained and evaluated per CPU second of one slot."""
    run, num_models = Run(spec), 1 if engine_name == "sequential" else 16
    program, data = run.program(run.rows[0].family), random_data(spec.in_channels, spec.image_size, num_models)
    models = range(num_models)
    state = run.first_state(models, MemoryStore())
    with make_engine(engine_name).open(program, run.hyperparameters(models), state, data) as session:
        return timed(session, num_models, "train")


def timed(session: Session, num_models: int, evaluated_split: SplitName) -> tuple[float, float]:
    """Samples trained and evaluated per CPU second."""
    trained, evaluated = [], []
    for epoch in range(1, REPEATS + 2):
        start = time.process_time()
        running = session.train_epoch(epoch, np.ones(num_models, bool))
        middle = time.process_time()
        evaluation = session.evaluate(evaluated_split)
        stop = time.process_time()
        if epoch > 1:  # the first also warms up
            trained.append(int(running.num_samples_P.sum()) / (middle - start))
            evaluated.append(int(evaluation.num_samples_P.sum()) / (stop - middle))
    return statistics.median(trained), statistics.median(evaluated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="architecture:channels, e.g. cnn-s:1, or a zoo that learns images")
    parser.add_argument("--engine", default="sequential")
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    def show(name: str, channels: int, is_twin: bool, rates: tuple[float, float]) -> None:
        what = f"architecture: {name}, channels: {channels}, twins: {str(is_twin).lower()}"
        print(f"      - {{engine: {arguments.engine}, {what}, date: {datetime.date.today()},")
        print(
            f"         train_samples_per_second: {rates[0]:.0f}, eval_samples_per_second: {rates[1]:.0f}}}", flush=True
        )

    for network in arguments.networks:
        name, _, channels = network.partition(":")
        if not channels:
            spec = entries.load(name)
            show(spec.architecture_name, spec.in_channels, False, measure_zoo(arguments.engine, spec))
            continue
        for is_twin in (False, True):
            show(
                name, int(channels), is_twin, measure(arguments.engine, name, int(channels), is_twin, arguments.images)
            )


if __name__ == "__main__":
    main()
