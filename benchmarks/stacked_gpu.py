"""Grows 1,000 CNN-s models x 50 epochs with `stacked` on a GPU, every epoch committed to a store, and times it.

    python benchmarks/stacked_gpu.py                            an H200 or A100: the whole zoo
    python benchmarks/stacked_gpu.py --epochs 3                 a slice; the whole is reckoned from its epochs
    python benchmarks/stacked_gpu.py --device cpu --models 4 --images 200 --tests 50 --epochs 1     does it run?

Prints the time, the ratio to `sequential` on the same device, and the share of the float32 peak that a matrix product
reaches in the same run. Images are random bytes of MNIST's shape: speed does not depend on what they show.

Last result: none. It has not been run on a GPU; on a CPU it runs through.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence

import numpy as np
import torch

from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Program
from zooforge.zoo_jobs.engines.gpu_driver import gpu_report
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.events import PartCommitted
from zooforge.zoo_jobs.models.registry import Architecture
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.slots.unit_runner import UnitRunner

ZOO_EPOCHS = 50
ATTEMPT = "20260101T000000Z-0000"


def random_images(num_train: int, num_test: int) -> PreparedData:
    generator = np.random.default_rng(0)

    def split(n: int) -> Split:
        images = generator.integers(0, 256, (n, 1, 28, 28), np.uint8)
        return Split(images, generator.integers(0, 10, n).astype(np.uint8))

    return PreparedData("random", 10, np.linspace(-1, 1, 256, dtype=np.float32)[None], split(num_train), split(0),
                        split(num_test))  # fmt: skip


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_flop_per_second(device: torch.device) -> float:
    """FLOP per second of a float32 matrix product without TF32: the best of ten."""
    torch.set_float32_matmul_precision("highest")
    side = 8192 if device.type == "cuda" else 512
    left = torch.rand(side, side, device=device)
    out = left @ left
    seconds = []
    for _ in range(10):
        finish(device)
        start = time.perf_counter()
        torch.matmul(left, left, out=out)
        finish(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


def sequential_rate(device: torch.device, run: Run, program: Program, data: PreparedData, num_images: int) -> float:
    """Training samples per second of one model at a time: the median of five epochs, the first left out."""
    split = Split(data.train.images[:num_images], data.train.labels[:num_images])
    short = PreparedData(data.name, 10, data.pixel_values, split, data.val, data.test)
    state = run.first_state([0], open_store(tempfile.mkdtemp()))
    rates = []
    with SequentialEngine(str(device)).open(program, run.hyperparameters([0]), state, short) as session:
        for epoch in range(1, 7):
            start = time.perf_counter()
            session.train_epoch(epoch, np.ones(1, np.bool_))
            finish(device)
            rates.append(len(split) / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def training_rate(parts: Sequence[PartCommitted]) -> float:
    """Training samples per second of the parts that trained: their samples by their own time, evaluation included."""
    trained = [part for part in parts if part.samples]
    return sum(part.samples for part in trained) / sum(part.train_seconds for part in trained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=ZOO_EPOCHS)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, help="models at once; default: what fits the device")
    parser.add_argument("--store", help="where to commit; default: a folder that is deleted again")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(gpu_report().words)
    run = Run(load("mnist-cnn-s-seed"))
    data = random_images(arguments.images, arguments.tests)
    program = run.program(run.rows[0].family)
    network = program.architecture
    assert isinstance(network, Architecture)
    engine = StackedEngine(arguments.device)
    if reason := engine.refuses(program):
        raise SystemExit(f"stacked: {reason}")
    models = tuple(range(arguments.models))
    chunk = arguments.chunk or engine.chunk_models(program, data, len(models))
    predicted = engine.peak_bytes(program, data, chunk)
    print(f"{len(models):,} models in chunks of {chunk:,}, predicted peak {predicted / 2**30:.2f} GiB each")

    peak = peak_flop_per_second(device)
    before = sequential_rate(device, run, program, data, min(2000, arguments.images))
    with tempfile.TemporaryDirectory() as folder:
        runner = UnitRunner(
            run, engine, data, open_store(arguments.store or folder), ATTEMPT, Notice(), chunk_models=chunk
        )
        start = time.perf_counter()
        task = Task(0, models, 0)
        advance = runner.advance(task, arguments.epochs)
        events = list(advance.events)
        while advance.pending:  # parts whose commit had not ended
            advance = runner.advance(task, arguments.epochs)
            events += advance.events
        seconds = time.perf_counter() - start
        runner.close()
    parts = [event for event in events if isinstance(event, PartCommitted)]
    after = sequential_rate(device, run, program, data, min(2000, arguments.images))

    rate, sequential = training_rate(parts), statistics.mean([before, after])
    flop_per_sample = 2 * (network.num_train_macs + network.num_macs * arguments.tests / arguments.images)
    steady = [part.train_seconds + part.commit_seconds for part in parts[2:] or parts[1:]]
    whole = seconds + (ZOO_EPOCHS - arguments.epochs) * statistics.median(steady)
    print(f"time                {seconds:.1f} s for {arguments.epochs} epochs, all of them stored")
    if arguments.epochs != ZOO_EPOCHS:
        print(f"                    {whole / 60:.1f} min reckoned for {ZOO_EPOCHS} epochs")
    print(f"commits             {sum(part.commit_seconds for part in parts):.1f} s of it")
    print(f"training            {rate:,.0f} samples/s, evaluation and copies included")
    print(
        f"sequential          {sequential:,.0f} samples/s on the same device, before {before:,.0f}, after {after:,.0f}"
    )
    print(f"ratio               {rate / sequential:.1f}")
    print(f"share of the peak   {rate * flop_per_sample / peak:.1%} of {peak / 1e12:.2f} TFLOP/s (float32 product)")
    if device.type == "cuda":
        print(f"peak memory         {torch.cuda.max_memory_reserved(device) / 2**30:.2f} GiB reserved")


if __name__ == "__main__":
    main()
