"""Grow one zoo for hours and see that nothing else grows: ``python -m tests.chaos.soak [--minutes 120]``.

32 models train on an S3 server for thousands of epochs, of which only the labels are kept. Every half minute a sample
is taken: memory, open files and threads of driver and workers, committed parts, size of Ray's folder, duration of
`zoo status`. At the end the driver is told to leave and the zoo is published. The slope of a straight line through each
series must be below its limit. The samples are printed as JSON lines and kept in --out.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.stage import Stage, workers
from tests.support.acceptance_specs import MODELS, write
from tests.support.command import done, num_records

SAMPLE_SECONDS = 30.0
WARM_RATIO = 0.2  # this share of the samples comes before the fit
MiB = 2**20
LIMITS_PER_HOUR: dict[str, float] = {
    "driver_bytes": 60 * MiB, "worker_bytes": 30 * MiB, "driver_files": 10.0, "driver_threads": 5.0,
    "ray_bytes": 100 * MiB,
}  # fmt: skip
"""Largest growth of each quantity per hour, by a straight line through its samples."""
SLOWEST_RATIO = 0.5  # parts per minute in the last third relative to the first; a longer ledger takes longer to read
STATUS_SECONDS = 60.0
PUBLISH_SECONDS = 3600.0  # tens of thousands of parts are sealed


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def per_hour(seconds: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the straight line through the samples."""
    return float(np.polyfit(np.asarray(seconds) / 3600, np.asarray(values, np.float64), 1)[0])


def faults(samples: Sequence[dict[str, Any]]) -> list[str]:
    """Messages for everything that grew or slowed down beyond its limit."""
    judged = samples[int(len(samples) * WARM_RATIO) :]
    seconds = [sample["second"] for sample in judged]
    problems = []
    for name, limit in LIMITS_PER_HOUR.items():
        slope = per_hour(seconds, [sample[name] for sample in judged])
        unit, text = (MiB, " MiB") if name.endswith("_bytes") else (1, "")
        if slope > limit:
            problems.append(f"{name} grows by {slope / unit:.1f}{text} an hour, the limit is {limit / unit:.0f}")
    third = len(judged) // 3
    first, last = (
        (part[-1]["parts"] - part[0]["parts"]) / (part[-1]["second"] - part[0]["second"])
        for part in (judged[: third + 1], judged[-third - 1 :])
    )
    if last < SLOWEST_RATIO * first:
        problems.append(f"{last * 60:.0f} parts a minute in the end, {first * 60:.0f} in the beginning")
    slowest = max(sample["status_seconds"] for sample in judged)
    if slowest > STATUS_SECONDS:
        problems.append(f"`zoo status` took {slowest:.0f} s")
    return problems


def sample(stage: Stage, store: str, driver: int, slots: list[int], temporary: Path) -> dict[str, Any]:
    began = time.monotonic()
    done(stage.zoo("status", "small", "--store", store, "--json"))
    status_seconds = time.monotonic() - began
    return {
        "driver_bytes": resident_bytes(driver),
        "worker_bytes": max(map(resident_bytes, slots)),
        "driver_files": len(list(Path(f"/proc/{driver}/fd").iterdir())),
        "driver_threads": len(list(Path(f"/proc/{driver}/task").iterdir())),
        "ray_bytes": folder_bytes(temporary),
        "parts": num_records(store),
        "status_seconds": round(status_seconds, 2),
    }


def soak(folder: Path, seconds: float, say: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Run for ``seconds`` and return the samples. Fails if the run ends early or cannot be stopped and published."""
    stage = Stage(folder)
    temporary = folder / "ray"
    spec = write(folder, num_epochs=1_000_000, save_epochs=[0], train_eval_epochs=[0], sparsify=None)
    store, samples = stage.store("soak"), []
    options = ("--models", MODELS, "--store", store, "--no-metrics")
    try:
        with stage.zoo.start("train", spec, *options, RAY_TMPDIR=str(temporary)) as running:
            running.wait_until(lambda: num_records(store) > 50, "50 parts")
            began, slots = time.monotonic(), workers(running.children())
            while (second := time.monotonic() - began) < seconds:
                samples.append({"second": round(second), **sample(stage, store, running.process.pid, slots, temporary)})
                say(samples[-1])
                running.process.poll()
                assert running.process.returncode is None, f"ended early: {running.err[-1000:]}"
                time.sleep(max(0.0, SAMPLE_SECONDS - (time.monotonic() - began - second)))
            running.terminate()
            assert running.wait().status == 75, running.err[-1000:]
        for command in (("vectorize", "small"), ("store", "verify", "small")):
            done(stage.zoo(*command, "--store", store, deadline_seconds=PUBLISH_SECONDS))
    finally:
        stage.close()
    return samples


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("build/soak.jsonl"), help="the samples")
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="zs-"))  # a short path, because Ray's socket names are long
    with options.out.open("w") as out:

        def say(line: dict[str, Any]) -> None:
            for stream in (out, sys.stdout):
                print(json.dumps(line), file=stream, flush=True)

        samples = soak(folder, options.minutes * 60, say)
    shutil.rmtree(folder)
    problems = faults(samples)
    print("\n".join(problems) or f"nothing grew beyond its limit in {options.minutes:g} minutes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
