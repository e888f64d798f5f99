"""Measures how `lanes` scales with models in memory, with slots, and to a whole zoo.

    python benchmarks/lanes_scaling.py [--quick]

Cost per model for 16 ... 4,096 models; two slots against one, compared with the gain of a pure FMA loop; conversion
between published and lane-interleaved layout as a share of an epoch; 1,000 CNN-s models x 50 epochs on 50,000 images,
computed from a measured part, against the FMA floor.

Last result: docs/performance.md.
"""

import argparse
import threading
import time
from functools import partial

import numpy as np
from lanes_work import (
    BATCH,
    PAIRS,
    Slots,
    cpu_seconds_per_model_step,
    forward_macs,
    images,
    machine,
    median,
    network,
    num_steps,
    peak,
    session,
    train_macs,
)

from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS, extension

OF = network("cnn-s", 1)


def per_model(counts: list[int]) -> None:
    data = images(OF, 60)
    costs: dict[int, list[float]] = {count: [] for count in counts}
    for epoch in range(1, 4):
        for count in counts:
            with session(OF, count, data) as opened:
                costs[count].append(1e6 * cpu_seconds_per_model_step(opened, count, num_steps(data), epoch))
    for count in counts:
        print(f"{count:5} models: {median(costs[count]):6.1f} us a model-step", flush=True)
    middle = [median(costs[count]) for count in counts]
    print(f"spread over the counts: {max(middle) / min(middle) - 1:.1%}")


def wall_of_peak(threads: int) -> float:
    """Multiply-adds per second of ``threads`` pure FMA loops, in wall time."""
    done: list[float] = []  # each loop runs for a tenth of a CPU second
    workers = [threading.Thread(target=lambda: done.append(0.1 * peak())) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - start)


def two_slots() -> None:
    data = images(OF, 1000)
    gains, pure = [], []
    open_one = partial(session, OF, GROUP_MODELS, data)
    with Slots(1, open_one) as one, Slots(2, open_one) as two:
        for pair in range(PAIRS):
            walls = []
            for slots in (one, two):
                start = time.perf_counter()
                slots.train_epoch(1 + pair, np.ones(slots.num_models, np.bool_))
                walls.append((time.perf_counter() - start) / slots.num_models)
            gains.append(walls[0] / walls[1])
            pure.append(wall_of_peak(2) / wall_of_peak(1))
    print(f"two slots against one: {median(gains):.2f} x in wall time; pure FMA loops {median(pure):.2f} x")


def conversion() -> None:
    data = images(OF, 1000)
    shares = []
    with session(OF, 64, data) as opened:
        for pair in range(PAIRS):
            start = time.process_time()
            opened.train_epoch(1 + pair, np.ones(64, np.bool_))
            middle = time.process_time()
            opened.state()
            shares.append((time.process_time() - middle) / (middle - start))
    # an epoch of 50,000 images is 50 of these
    print(f"state in the published layout: {median(shares) / 50:.3%} of an epoch of 50,000 images")


def whole_zoo() -> None:
    """From 16 models x one epoch of 2,000 images; evaluation of 10,000 + 10,000 images an epoch is in it."""
    num_train, num_test = 50_000, 20_000
    data = images(OF, 2_000, 2_000)
    seconds, floors = [], []
    with session(OF, 16, data) as opened:
        for pair in range(PAIRS):
            at_best = peak()
            start = time.process_time()
            opened.train_epoch(1 + pair, np.ones(16, np.bool_))
            middle = time.process_time()
            opened.evaluate("test")
            stop = time.process_time()
            epoch = (middle - start) * num_train / 2_000 + (stop - middle) * num_test / 2_000
            seconds.append(epoch / 16)
            floors.append((train_macs(OF) * num_train + forward_macs(OF) * num_test) / at_best)
    ratio = median([s / f for s, f in zip(seconds, floors, strict=True)])
    hours = median(seconds) * 1000 * 50 / 3600
    print(f"1,000 models x 50 epochs x 50,000 images: {hours:.1f} hours of one thread, {ratio:.2f} x its FMA floor")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="up to 256 models")
    options = parser.parse_args()
    print(f"{machine()}; batch {BATCH}; kernels {extension().name_of('auto')}")
    per_model([16, 64, 256] if options.quick else [16, 64, 256, 1024, 4096])
    two_slots()
    conversion()
    whole_zoo()


if __name__ == "__main__":
    main()
