"""Twins (variational dropout) with `lanes` against PyTorch twins, interleaved.

    python benchmarks/lanes_twins.py [--threads 1]

As lanes_training.py: as many threads as PyTorch processes of one thread, by default one per vCPU; CPU seconds, medians.

Last result: docs/performance.md.
"""

import argparse
import os

from lanes_work import PAIRS, cpu_seconds_per_model_step, images, machine, median, network, session
from plain_torch import Workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    threads = parser.parse_args().threads
    num_models = 16 * threads
    print(f"{machine()}; {threads} threads")
    with Workers(threads) as workers:
        for name, channels in (("cnn-s", 1), ("cnn-s", 3), ("cnn-l", 3)):
            of = network(name, channels)
            data = images(of, 200 if name == "cnn-s" else 80)
            ratios, plain_us, lanes_us = [], [], []
            with session(of, num_models, data, twins=True, threads=threads) as opened:
                for pair in range(PAIRS + 1):
                    plain = workers.ask(
                        do="train", architecture=name, channels=channels, optimizer="adam", twins=True, steps=150
                    )
                    ours = cpu_seconds_per_model_step(opened, num_models, data, 1 + pair)
                    if pair:  # the first warms up
                        ratios.append(plain / ours)
                        plain_us.append(1e6 * plain)
                        lanes_us.append(1e6 * ours)
            times = f"{median(plain_us):7.0f} us plain, {median(lanes_us):6.1f} us lanes"
            print(f"{name} ch{channels} twins, adam {times} a model-step: {median(ratios):5.1f} x", flush=True)


if __name__ == "__main__":
    main()
