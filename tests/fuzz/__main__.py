"""Fuzz for a time: ``python -m tests.fuzz [--minutes 30] [--jobs 2] [--seed N] [TARGET ...]``, or ``--replay FILE``.

Each target has a process of its own, so that a crash of a native library is a finding, too. An input that takes more
memory or time than ``GROWTH_BYTES``, ``CPU_SECONDS`` or ``HANG_SECONDS`` is also a finding. The input of a finding is
kept as FOLDER/TARGET-DIGEST.bin, one for each place in the code. With findings the exit status is 1.
"""

import argparse
import hashlib
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.target import Target
from tests.fuzz.targets import targets

ROOT = Path(__file__).parents[2]
HANG_SECONDS = 120.0  # of wall time; other work on the machine also uses it
CPU_SECONDS = 20.0
GROWTH_BYTES = 600 * 2**20  # of memory for one input
ADDRESS_BYTES = 6 * 2**30


class Hangs(BaseException):
    """One input took too long. It is no Exception, so that no parser's ``except Exception`` catches it."""


def fault(target: Target, data: bytes) -> str | None:
    """The error of ``target`` for ``data``, with the place in the code. None if the target behaves."""
    try:
        target.read(data)
    except target.errors as error:
        return f"a message of several lines: {error!r}" if "\n" in str(error) else None
    except (Exception, Hangs) as error:
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if f.filename.startswith(str(ROOT)) and "site-packages" not in f.filename
        ]
        ours = [f for f in frames if "/tests/" not in f.filename] or frames
        place = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else "?"
        return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:150]}"
    return None


def cost(target: Target, data: bytes) -> str | None:
    """Like ``fault``, but ``data`` that takes too much memory or time is a fault, too."""
    memory, seconds = _peak_bytes(), time.process_time()
    message = fault(target, data)
    memory, seconds = _peak_bytes() - memory, time.process_time() - seconds
    if message is None and memory > GROWTH_BYTES:
        return f"memory: {len(data):,} bytes took {memory / 2**20:.0f} MiB"
    if message is None and seconds > CPU_SECONDS:
        return f"time: {len(data):,} bytes took {seconds:.0f} s"
    return message


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hangs(f"took more than {HANG_SECONDS:g} s")


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Fuzz one target in this process. Returns the number of findings; each is printed and kept."""
    target, random = targets()[name], Random(f"{seed} {name}")
    for number, data in enumerate([*target.seeds, *target.hostile]):
        if cost_of := cost(target, data):
            print(f"{name}: seed {number} itself: {cost_of}", flush=True)
            return 1
    signal.signal(signal.SIGALRM, _hangs)
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / f"{name}.last"
    places: set[str] = set()
    tried, until = 0, time.monotonic() + seconds
    with last.open("wb", buffering=0) as kept:
        while time.monotonic() < until:
            data = target.draw(random)
            kept.seek(0)
            kept.write(len(data).to_bytes(8, "little") + data)
            signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
            cost_of = cost(target, data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            tried += 1
            if cost_of is not None and (place := cost_of.partition(": ")[0]) not in places:
                places.add(place)
                path = keep(folder, name, data)
                print(f"{name}: {cost_of}; again with: python -m tests.fuzz --replay {path}", flush=True)
    last.unlink()
    print(f"{name}: {tried:,} inputs, {len(places)} findings", flush=True)
    return len(places)


def keep(folder: Path, name: str, data: bytes) -> Path:
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return path


def in_process(name: str, seconds: float, seed: int, folder: Path) -> bool:
    """Fuzz one target in a process of its own. Returns whether there were no findings."""
    line = [sys.executable, "-m", "tests.fuzz", name, "--here", "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run([*line, "--out", str(folder)], cwd=ROOT, check=False)
    if done.returncode in (0, 1):
        return done.returncode == 0
    last = folder / f"{name}.last"
    data = last.read_bytes() if last.exists() else b""
    path = keep(folder, name, data[8 : 8 + int.from_bytes(data[:8], "little")])
    print(f"{name}: the process ended with {done.returncode}; again with: python -m tests.fuzz --replay {path}")
    return False


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all targets together")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once")
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz", help="where findings are kept")
    parser.add_argument("--replay", type=Path, help="one kept finding")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if options.replay is not None:
        target = targets()[options.replay.name.rpartition("-")[0]]
        try:
            target.read(options.replay.read_bytes())
        except target.errors as error:
            print(f"refused as it should be: {error}")
        return 0
    unknown = set(options.names) - set(targets())
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(targets())}")
    if options.here:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
        return int(any(fuzz(name, options.seconds, options.seed, options.out) for name in options.names))
    seed = options.seed if options.seed is not None else Random().randrange(10**6)
    names = options.names or list(targets())
    seconds = options.minutes * 60 * options.jobs / len(names)
    print(f"{len(names)} targets, {seconds:.0f} s each, --seed {seed}", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        fine = list(pool.map(lambda name: in_process(name, seconds, seed, options.out), names))
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
