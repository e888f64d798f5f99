"""Checks and measures the engines on this machine's CUDA device, step by step, each in a process of its own.

    PYTHONPATH=. python3 -u -m tests.gpu.check --seconds 420
    DEVICE=cpu PYTHONPATH=. python3 -u -m tests.gpu.check          tiny sizes: shows only that every step runs

Needs Python, numpy and torch, and no network. Each step prints one line as soon as it ends, ``STEP n NAME
PASS|FAIL|TIMEOUT seconds numbers``, and is added to a JSON file. The first steps measure the main figure. A step for
which no time is left is TIMEOUT after 0 seconds. The exit status is 0 if every step passed.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL_SECONDS = 300  # below, sizes are small
NUMBERS = "numbers: "  # the start of the line with the results of a step

LIMITS = {
    "facts": 60, "replays": 60, "numbers": 60, "cases": 90, "no_synchronisation": 60, "memory": 60, "prediction": 60,
    "resnet_equal": 60, "resnet_speed": 120, "resnet_side_by_side": 120, "stacked_speed": 120, "rates": 20,
}  # fmt: skip
"""Seconds of each step on a card, in the order in which they run."""
CPU_FACTOR = 20  # a CPU, which may be busy, shows only that every step runs


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a step. ``numbers`` are its results, or the last line of its output."""

    number: int
    name: str
    outcome: str
    seconds: float
    numbers: dict[str, Any]

    def __str__(self) -> str:
        return f"STEP {self.number} {self.name} {self.outcome} {self.seconds:.1f} {json.dumps(self.numbers)}"


def run_step(number: int, name: str, limit_seconds: float, environment: dict[str, str], before: Path) -> Outcome:
    """Run one step in a process group of its own, which is killed when its time is over."""
    if limit_seconds < 1:
        return Outcome(number, name, "TIMEOUT", 0.0, {"why": "no time left"})
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.gpu.steps", name, str(before)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    outcome = ""
    try:
        text, _ = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        outcome = "TIMEOUT"
    lines = text.splitlines()
    said = [line.removeprefix(NUMBERS) for line in lines if line.startswith(NUMBERS)]
    outcome = outcome or ("PASS" if process.returncode == 0 and said else "FAIL")
    numbers = json.loads(said[-1]) if said else {}
    if outcome != "PASS":
        numbers["why"] = (lines or ["nothing was written"])[-1][:300]
    return Outcome(number, name, outcome, round(time.monotonic() - started, 1), numbers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=420, help="of all steps together")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "check-gpu.json", help="where results go")
    parser.add_argument("--only", nargs="*", choices=LIMITS, help="steps to run; default: all")
    arguments = parser.parse_args()
    device = os.environ.get("DEVICE", "cuda")
    size = "tiny" if device == "cpu" else "small" if arguments.seconds < SMALL_SECONDS else "full"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"DEVICE": device, "SIZE": size, "PYTHONPATH": path}
    end = time.monotonic() + arguments.seconds
    factor = CPU_FACTOR if device == "cpu" else 1
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    head = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "device": device, "size": size,
        "seconds": arguments.seconds, "python": platform.python_version(),
    }  # fmt: skip
    for number, (name, limit) in enumerate(LIMITS.items(), start=1):
        if arguments.only and name not in arguments.only:
            continue
        allowed = min(factor * limit, end - time.monotonic())
        outcomes.append(run_step(number, name, allowed, environment, arguments.json))
        print(outcomes[-1], flush=True)
        arguments.json.write_text(json.dumps({**head, "steps": [asdict(one) for one in outcomes]}, indent=1) + "\n")
    print("\n" + "\n".join(str(one) for one in outcomes))
    return 0 if all(one.outcome == "PASS" for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
