"""Twins (variational dropout) with `lanes` against PyTorch twins, interleaved.

    python benchmarks/lanes_twins.py [--slots 1]

As lanes_training.py: as many slots as PyTorch processes of one thread, by default one per vCPU; CPU seconds, medians.

Last result: docs/performance.md.
"""

import argparse
import os
from functools import partial

from lanes_work import Slots, cpu_seconds_per_model_step, images, in_turns, machine, network, num_steps, session
from plain_torch import Workers

from zooforge.zoo_jobs.engines.lanes.engine import GROUP_MODELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    slots = parser.parse_args().slots
    print(f"{machine()}; {slots} slots")
    with Workers(slots) as workers:
        for name, channels in (("cnn-s", 1), ("cnn-s", 3), ("cnn-l", 3)):
            of = network(name, channels)
            data = images(of, 200 if name == "cnn-s" else 80)
            ask = {"do": "train", "architecture": name, "channels": channels, "optimizer": "adam", "twins": True}
            with Slots(slots, partial(session, of, GROUP_MODELS, data, twins=True)) as opened:
                turns = in_turns(
                    partial(workers.ask, steps=150, **ask),
                    partial(cpu_seconds_per_model_step, opened, opened.num_models, num_steps(data)),
                )
            times = f"{turns.plain_us:7.0f} us plain, {turns.lanes_us:6.1f} us lanes"
            print(f"{name} ch{channels} twins, adam {times} a model-step: {turns.ratio:5.1f} x", flush=True)


if __name__ == "__main__":
    main()
