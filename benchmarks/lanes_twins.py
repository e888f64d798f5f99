"""Twins (variational dropout) with `lanes` against PyTorch twins, interleaved.

    python benchmarks/lanes_twins.py [--slots 1]

As lanes_training.py: as many slots as PyTorch processes of one thread, by default one per vCPU; CPU seconds, medians.

Last result: docs/performance.md.
"""

import argparse
import os

from lanes_work import PAIRS, Slots, cpu_seconds_per_model_step, images, machine, median, network
from plain_torch import Workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    slots = parser.parse_args().slots
    print(f"{machine()}; {slots} slots")
    with Workers(slots) as workers:
        for name, channels in (("cnn-s", 1), ("cnn-s", 3), ("cnn-l", 3)):
            of = network(name, channels)
            data = images(of, 200 if name == "cnn-s" else 80)
            ratios, plain_us, lanes_us = [], [], []
            with Slots(of, slots, data, twins=True) as opened:
                for pair in range(PAIRS + 1):
                    plain = workers.ask(
                        do="train", architecture=name, channels=channels, optimizer="adam", twins=True, steps=150
                    )
                    ours = cpu_seconds_per_model_step(opened, opened.num_models, data, 1 + pair)
                    if pair:  # the first warms up
                        ratios.append(plain / ours)
                        plain_us.append(1e6 * plain)
                        lanes_us.append(1e6 * ours)
            times = f"{median(plain_us):7.0f} us plain, {median(lanes_us):6.1f} us lanes"
            print(f"{name} ch{channels} twins, adam {times} a model-step: {median(ratios):5.1f} x", flush=True)


if __name__ == "__main__":
    main()
