"""Evaluation of 10,000 images with `lanes`: share of the FMA peak, and ratio to PyTorch at its best batch size.

    python benchmarks/lanes_evaluation.py

Last result: docs/performance.md.
"""

import time

from lanes_work import PAIRS, forward_macs, images, machine, median, network, peak, session, vector_sets
from plain_torch import Workers

from zooforge.zoo_jobs.engines.lanes.engine import extension

BATCHES = (100, 250, 500, 1000, 2500)


def main() -> None:
    print(machine())
    with Workers(1) as workers:
        for name, channels in (("cnn-s", 1), ("cnn-s", 3), ("cnn-l", 3)):
            of = network(name, channels)
            data = images(of, 10, 10_000)
            ask = {"do": "evaluate", "architecture": name, "channels": channels}
            best = min(BATCHES, key=lambda batch: workers.ask(batch=batch, **ask))
            for isa in vector_sets():
                num_models = extension().lanes_of(isa)
                shares, ratios, us = [], [], []
                with session(of, num_models, data, isa=isa) as opened:
                    for _ in range(PAIRS):
                        plain = workers.ask(batch=best, **ask)
                        at_best = peak(isa)
                        start = time.process_time()
                        opened.evaluate("test")
                        ours = (time.process_time() - start) / num_models / 10_000
                        shares.append(forward_macs(of) / ours / at_best)
                        ratios.append(plain / ours)
                        us.append(1e6 * ours)
                share = f"{median(us):5.2f} us a model and image, {median(shares):5.1%} of the peak"
                print(
                    f"{name} ch{channels} {isa}: {share}; {median(ratios):4.1f} x torch in batches of {best}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
