"""Training with `lanes` against plain PyTorch processes, and as a share of the FMA peak.

    python benchmarks/lanes_training.py [--quick]

Both use every vCPU: as many PyTorch processes of one thread as vCPUs, and `lanes` with as many slots. Each figure is
the median of five interleaved pairs in CPU seconds per model and step of batch 10, so that neighbours on the machine
disturb little. The share divides executed multiply-adds by a peak measured in the same process just before.

Last result: docs/performance.md.
"""

import argparse
import os

from lanes_work import (
    BATCH,
    PAIRS,
    Slots,
    cpu_seconds_per_model_step,
    images,
    machine,
    median,
    network,
    peak,
    session,
    train_macs,
)
from plain_torch import Workers

from zooforge.zoo_jobs.engines.lanes.engine import extension

CASES = [("cnn-s", 1), ("cnn-s", 3), ("cnn-l", 3)]


def against_torch(name: str, channels: int, optimizer: str, workers: Workers, slots: int) -> str:
    of = network(name, channels)
    data = images(of, 500 if name == "cnn-s" else 150)
    ratios, plain_us, lanes_us = [], [], []
    with Slots(of, slots, data, optimizer=optimizer) as opened:
        cpu_seconds_per_model_step(opened, opened.num_models, data, 1)
        workers.ask(do="train", architecture=name, channels=channels, optimizer=optimizer, twins=False, steps=50)
        for pair in range(PAIRS):
            plain = workers.ask(
                do="train", architecture=name, channels=channels, optimizer=optimizer, twins=False, steps=400
            )
            ours = cpu_seconds_per_model_step(opened, opened.num_models, data, 2 + pair)
            ratios.append(plain / ours)
            plain_us.append(1e6 * plain)
            lanes_us.append(1e6 * ours)
    times = f"{median(plain_us):7.0f} us plain, {median(lanes_us):6.1f} us lanes"
    return f"{name} ch{channels} {optimizer:5} {times}: {median(ratios):5.1f} x"


def share_of_peak(name: str, channels: int, activation: str, isa: str, dropout: float = 0.0) -> str:
    of = network(name, channels, activation, dropout > 0)
    data = images(of, 500 if name == "cnn-s" else 150)
    num_models = extension().lanes_of(isa)
    shares, us = [], []
    with session(of, num_models, data, dropout=dropout, isa=isa) as opened:
        cpu_seconds_per_model_step(opened, num_models, data, 1)
        for pair in range(PAIRS):
            at_best = peak(isa)
            ours = cpu_seconds_per_model_step(opened, num_models, data, 2 + pair)
            shares.append(train_macs(of) * BATCH / ours / at_best)
            us.append(1e6 * ours)
    noise = f", dropout {dropout}" if dropout else ""
    what = f"{name} ch{channels} {activation}{noise} {isa}"
    return f"{what}: {median(us):6.1f} us a model-step, {median(shares):5.1%} of the peak"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="Adam and tanh only")
    options = parser.parse_args()
    slots = os.cpu_count() or 1
    print(f"{machine()}; peak of one thread {peak() / 1e9:.1f} G multiply-adds/s")
    with Workers(slots) as workers:
        for name, channels in CASES:
            for optimizer in ("adam",) if options.quick else ("adam", "sgd"):
                print(against_torch(name, channels, optimizer, workers, slots), flush=True)
    for isa in extension().available():
        if isa in ("scalar", "vec4"):
            continue
        for name, channels in CASES:
            print(share_of_peak(name, channels, "tanh", isa), flush=True)
        if not options.quick:
            for activation in ("relu", "sigmoid", "gelu"):
                print(share_of_peak("cnn-s", 1, activation, isa), flush=True)
            print(share_of_peak("cnn-s", 1, "tanh", isa, dropout=0.5), flush=True)


if __name__ == "__main__":
    main()
