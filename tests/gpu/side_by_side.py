"""ResNets that train side by side on one device, each in a process of its own: the rate of all together.

``python -m tests.gpu.side_by_side`` is one of the processes. It reads one command per line, ``open PLAN``, ``train`` or
``test``, and answers each one by a line of JSON. PLAN is JSON: the fields of ``Plan``.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zooforge.zoo_jobs.engines.contract import Session
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine

from .populations import images, population, resnet

ANSWER = "answer: "
GiB = 2**30
MPS_FOLDER = "/tmp/nvidia-mps"  # where NVIDIA's daemon puts its pipes by default


@dataclass(frozen=True, slots=True)
class Plan:
    """The training of every process: ``steps`` batches per epoch, then an evaluation of ``num_test`` images."""

    precision: str
    memory_format: str
    size: int
    batch: int
    steps: int
    num_test: int

    @property
    def name(self) -> str:
        return f"{self.precision} {self.memory_format}"


def measure(plans: Sequence[Plan], counts: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Samples per second of all processes together, by plan and number of processes; the ratio to one process; memory.

    All processes start at once, because importing torch takes seconds. One that is not needed yet uses no memory of
    the device.
    """
    results: dict[str, Any] = {}
    if device.type == "cuda":
        results["mps"] = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", MPS_FOLDER)).exists()
    for plan in plans:
        with processes(max(counts)) as workers:
            alone, opened = 0.0, 0
            for count in counts:
                for worker in workers[opened:count]:  # one after another: each captures its graph undisturbed
                    ask([worker], f"open {json.dumps(asdict(plan))}")
                opened = count
                trained, evaluated = ask(workers[:count], "train"), ask(workers[:count], "test")
                rate = together(trained, plan.steps * plan.batch)
                alone = alone or rate
                used = [answer["in_memory_bytes"] for answer in evaluated]
                for what, value in {
                    "train_samples_per_second": rate,
                    "ratio_to_one": round(rate / alone, 3),
                    "eval_samples_per_second": together(evaluated, plan.num_test),
                    "GiB_in_memory": round((used[-1] if device.type == "cuda" else sum(used)) / GiB, 3),
                }.items():
                    results[f"{plan.name} x{count} {what}"] = value
    return results


def together(answers: Sequence[dict[str, Any]], samples: int) -> float:
    """Samples per second of all processes, of which each one did ``samples``."""
    seconds = max(answer["ended"] for answer in answers) - min(answer["started"] for answer in answers)
    return round(len(answers) * samples / seconds, 1)


@contextlib.contextmanager
def processes(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """``count`` processes of this module, which end when the block ends."""
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-u", "-m", __name__]
        start = partial(subprocess.Popen, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        yield [stack.enter_context(start()) for _ in range(count)]


def ask(workers: Sequence[subprocess.Popen[str]], command: str) -> list[dict[str, Any]]:
    """Give ``command`` to all workers at once and return their answers. Raises RuntimeError if one has ended."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(command + "\n")
        worker.stdin.flush()
    answers = []
    for worker in workers:
        assert worker.stdout is not None
        line = next((line for line in worker.stdout if line.startswith(ANSWER)), None)
        if line is None:
            raise RuntimeError(f"process {len(answers)} of {len(workers)} ended at {command.split()[0]!r}")
        answers.append(json.loads(line.removeprefix(ANSWER)))
    return answers


def in_memory_bytes(device: torch.device) -> int:
    """Bytes in use on the whole device; on a CPU, the largest size of this process so far."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    device = torch.device(os.environ.get("DEVICE", "cpu"))
    session: Session | None = None
    epoch = 1
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "open":
            plan = Plan(**json.loads(argument))
            of = resnet(plan.batch, 10 * plan.steps, plan.size, precision=plan.precision,
                        memory_format=plan.memory_format)  # fmt: skip
            session = SequentialEngine(str(device)).open(
                of, *population(of, 1), images(3, plan.size, plan.steps * plan.batch, plan.num_test)
            )
        assert session is not None, f"{command} before open"
        started = time.monotonic()  # the same clock in all processes
        if command in ("open", "train"):
            session.train_epoch(epoch, np.ones(1, np.bool_))
            epoch += 1
        if command in ("open", "test"):
            session.evaluate("test")
        if device.type == "cuda":
            torch.cuda.synchronize()
        answer = {"started": started, "ended": time.monotonic(), "in_memory_bytes": in_memory_bytes(device)}
        print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
