"""Run random schedules of the store protocol: ``python -m tests.storage.simulation [--minutes 20] [--seed N]``.

Schedules run until the time is over; their number is printed. A schedule that breaks a promise is printed in hex with
its requests, and the exit status is 1. ``python -m tests.storage.simulation HEX`` runs that schedule again.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from random import Random

from .scenes import play, scene_of


def run_again(data: bytes) -> int:
    """Run one schedule and print its requests. Returns the exit status."""
    scene = scene_of(data)
    status = 0
    try:
        play(scene)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        status = 1
    print("\n".join(scene.trace))
    return status


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storage.simulation")
    parser.add_argument("schedule", nargs="?", metavar="HEX", help="run this schedule again and print its requests")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    options = parser.parse_args(arguments)
    if options.schedule is not None:
        return run_again(bytes.fromhex(options.schedule))
    logging.getLogger("zooforge").setLevel(logging.ERROR)  # a thousand intended failures would log warnings
    seed = options.seed if options.seed is not None else Random().randrange(10**6)
    random, until, count = Random(seed), time.monotonic() + options.minutes * 60, 0
    while time.monotonic() < until:
        data = random.randbytes(random.randrange(40, 600))
        try:
            play(scene_of(data))
        except Exception as error:
            print(f"schedule {count}, --seed {seed}: {type(error).__name__}: {error}\n{data.hex()}", flush=True)
            return 1
        count += 1
    print(f"{count} schedules of the store protocol kept its promises, --seed {seed}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
