"""Training with `lanes` against plain PyTorch processes, and as a share of the FMA peak.

    python benchmarks/lanes_training.py [--quick]

Both use every vCPU: as many PyTorch processes of one thread as vCPUs, and `lanes` with as many slots. Each figure is
the median of five interleaved pairs in CPU seconds per model and step of batch 10, so that neighbours on the machine
disturb little. The share divides executed multiply-adds by a peak measured in the same process just before.

Last result: docs/performance.md.
"""

import argparse
import os
from functools import partial

from lanes_work import (
    BATCH,
    Slots,
    cpu_seconds_per_model_step,
    images,
    in_turns,
    machine,
    network,
    num_steps,
    peak,
    session,
    share_of_peak,
    train_macs,
    vector_sets,
)
from plain_torch import Workers

from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, extension

CASES = [("cnn-s", 1), ("cnn-s", 3), ("cnn-l", 3)]


def against_torch(name: str, channels: int, optimizer: str, workers: Workers, slots: int) -> str:
    of = network(name, channels)
    data = images(of, 500 if name == "cnn-s" else 150)
    ask = {"do": "train", "architecture": name, "channels": channels, "optimizer": optimizer, "twins": False}
    with Slots(slots, partial(session, of, GROUP_MODELS, data, optimizer=optimizer)) as opened:
        turns = in_turns(
            partial(workers.ask, steps=400, **ask),
            partial(cpu_seconds_per_model_step, opened, opened.num_models, num_steps(data)),
        )
    times = f"{turns.plain_us:7.0f} us plain, {turns.lanes_us:6.1f} us lanes"
    return f"{name} ch{channels} {optimizer:5} {times}: {turns.ratio:5.1f} x"


def share(name: str, channels: int, activation: str, isa: str, dropout: float = 0.0) -> str:
    of = network(name, channels, activation, dropout > 0)
    data = images(of, 500 if name == "cnn-s" else 150)
    num_models = extension().lanes_of(isa)
    with session(of, num_models, data, dropout=dropout, isa=isa) as opened:
        step = partial(cpu_seconds_per_model_step, opened, num_models, num_steps(data))
        us, of_peak = share_of_peak(isa, train_macs(of) * BATCH, step)
    noise = f", dropout {dropout}" if dropout else ""
    return f"{name} ch{channels} {activation}{noise} {isa}: {us:6.1f} us a model-step, {of_peak:5.1%} of the peak"


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
    for isa in vector_sets():
        for name, channels in CASES:
            print(share(name, channels, "tanh", isa), flush=True)
        if not options.quick:
            for activation in ("relu", "sigmoid", "gelu"):
                print(share("cnn-s", 1, activation, isa), flush=True)
            print(share("cnn-s", 1, "tanh", isa, dropout=0.5), flush=True)


if __name__ == "__main__":
    main()
