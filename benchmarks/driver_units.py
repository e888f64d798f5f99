"""The cost of the driver, compared with the run that it drives.

    PYTHONPATH=. python benchmarks/driver_units.py [--quick]

10,000 units of 256 models go through the driver with all its observers (metrics, events in the store, progress), once
with slots that answer at once and do nothing, so that all CPU time is the driver's; then calls with the same answers
go through Ray, for what a call costs the driver's process. Their sum is set against the CPU time of the work itself:
one epoch of a unit of CNN-s models on 4,000 images, the smallest real one of the catalogue, at the rate that
zoo_jobs/planning/rates.yaml has of the fastest engine. A larger data set only makes the share smaller.

Last result: docs/performance.md.
"""

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry

from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.events import Advance, Observer, PartCommitted, StageStarted, tell
from zooforge.zoo_jobs.metrics.driver import RunMetrics
from zooforge.zoo_jobs.planning.machines import machine
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running.driver import Done, Driver, Extent, StoreCalls
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.slots import ray_environment
from zooforge.zoo_jobs.watching.progress import ProgressObserver
from zooforge.zoo_jobs.watching.run_log import RunLog

MODELS, SLOTS = 256, 64
IMAGES, EVALUATED = 4_000, 1_000  # mnist5k
ATTEMPT = "20260101T000000Z-0000"
ACCURACIES = np.random.default_rng(0).random(MODELS)


def answer(task: Task, part: int) -> Advance:
    """The answer of a worker that has committed one epoch of a unit."""
    models = tuple(range(task.unit, task.unit + MODELS))
    return Advance(
        (PartCommitted("zoo", "train", models, (part,), {}, ACCURACIES, ACCURACIES[:0], 1, 1.0, 0.1, 1, True),)
    )


class IdlePool:
    """Slots that answer at once."""

    chunk_models = None

    def __init__(self, slots: int, answer: Callable[[Task, int], Advance]) -> None:
        self.slots, self._answer = slots, answer
        self._calls: deque[tuple[int, Task, int]] = deque()

    def submit(self, slot: int, task: Task, part: int) -> None:
        self._calls.append((slot, task, part))

    def wait(self, timeout_seconds: float) -> list[Done]:
        slot, task, part = self._calls.popleft()
        return [Done(slot, self._answer(task, part))]

    def leave(self, notice: Notice) -> None: ...

    def replace(self, slot: int) -> None: ...

    def halve_chunk(self, num_models: int) -> int:
        return 1


def drive(units: int, parts: int) -> tuple[float, float]:
    """CPU seconds of a part and peak memory of the process, MiB, with ``units`` units of ``parts`` parts."""
    plan = [Task(unit * MODELS, (unit * MODELS,), 0) for unit in range(units)]
    plans = deque([plan])

    def missing() -> Sequence[Task]:
        return plans.popleft() if plans else []

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"file://{folder}")
        with RunLog(store, "0" * 32, ATTEMPT) as log, ProgressObserver(io.StringIO()) as progress:
            observers: list[Observer] = [RunMetrics(CollectorRegistry()), log, progress]
            total = units * MODELS * parts
            tell(observers, StageStarted("zoo", "0" * 32, "train", units * MODELS, parts - 1, 0, total, units, "lanes"))
            start = time.process_time()
            pool = IdlePool(SLOTS, answer)
            Driver(Extent("zoo", "train", parts - 1), pool, StoreCalls(missing), Notice(), observers).grow()
            seconds = time.process_time() - start
    return seconds / (units * parts), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ray_call(calls: int) -> float:
    """CPU seconds of this process for one call through Ray whose actor answers at once."""
    ray_environment.prepare("local")
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        actor = ray.remote(Answerer).remote()
        ray.get(actor.answer.remote(Task(0, (0,), 0), 0))
        costs = []
        for _ in range(5):
            start = time.process_time()
            for part in range(calls // 5):
                ray.wait([call := actor.answer.remote(Task(0, (0,), 0), part)])
                ray.get(call)
            costs.append((time.process_time() - start) / (calls // 5))
        return statistics.median(costs)
    finally:
        ray.shutdown()


class Answerer:
    def answer(self, task: Task, part: int) -> Advance:
        return answer(task, part)


def work_seconds() -> tuple[float, str]:
    """CPU seconds of one epoch of one unit, and by which engine."""
    fastest = machine().rate("cnn-s", 1, False)
    assert fastest is not None
    seconds = MODELS * (IMAGES / fastest.train_samples_per_second + EVALUATED / fastest.eval_samples_per_second)
    return seconds, fastest.engine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="6 parts a unit instead of 51")
    options = parser.parse_args()
    parts = 6 if options.quick else 51
    _, before = drive(10_000, 2)
    cost, after = drive(10_000, parts)
    call = ray_call(1_000)
    work, engine = work_seconds()
    print(f"driver and observers, 10,000 units x {parts} parts: {1e3 * cost:.2f} ms of CPU a part")
    print(f"peak memory of the process after 2 parts {before:.0f} MiB, after {parts} parts {after:.0f} MiB")
    print(f"a call through Ray: {1e3 * call:.2f} ms of CPU in the driver's process")
    print(f"one epoch of a unit, {MODELS} CNN-s models x {IMAGES:,} images, {engine}: {work:.1f} s of CPU")
    print(f"the driver's share of the run's CPU time: {(cost + call) / (cost + call + work):.3%}")


if __name__ == "__main__":
    main()
