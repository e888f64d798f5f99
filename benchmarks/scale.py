"""Measure the plan of a million models, the driver of a thousand workers, and their requests to the store.

    PYTHONPATH=. python benchmarks/scale.py [--quick]

1. A grid of 1,000,000 models is planned, and a zoo of as many whose hyperparameters are drawn: rows, work units, tasks.
2. The driver hands parts to 1,000 workers that answer at once, with its usage account over a store in memory: parts
   per second, and the functions that take most of the time.
3. A part of a unit is committed to a store in memory, and every request is counted. From that follow requests per part
   and per hour at the measured rate, and at the rate at which 1,000 workers commit parts of a minute.

Last result: docs/performance.md.
"""

import argparse
import cProfile
import pstats
import resource
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import numpy as np
from driver_units import IdlePool

from zooforge.storage.runs.commit import PartData, commit_part
from zooforge.storage.runs.run_files import create_run, start_attempt
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ByteRange, Data, Stat
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.events import Advance, PartCommitted
from zooforge.zoo_jobs.planning.units import Task, request, tasks, work_units
from zooforge.zoo_jobs.running.account import Account, Caps
from zooforge.zoo_jobs.running.driver import Driver, Extent, StoreCalls
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.zoo import ZooSpec
from zooforge.zoo_jobs.watching.totals import Meter

WORKERS = 1_000
MiB = 2**20
NONE = np.zeros(0)


class CountingStore(MemoryStore):
    """Counts requests by verb."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        self.requests["GET"] += 1
        return super().get(key, byte_range)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.requests["PUT"] += 1
        return super().put(key, data, if_absent=if_absent, if_match=if_match)

    def stat(self, key: str) -> Stat | None:
        self.requests["HEAD"] += 1
        return super().stat(key)

    def list(self, prefix: str) -> Iterator[Stat]:
        self.requests["LIST"] += 1
        return super().list(prefix)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self.requests["DELETE"] += 1
        super().delete(key, if_match=if_match)


def answer(task: Task, part: int) -> Advance:
    """One committed epoch of a unit, without labels."""
    return Advance((PartCommitted("zoo", "train", task.models, (part,), {}, NONE, NONE, 1, 1.0, 0.1, 1, True),))


DRAWS = {
    "seed": 1,
    "activation": {"choice": ["tanh", "relu"]},
    "dropout_ratio": {"uniform": [0, 0.5]},
    "initializer": "kaiming_uniform",
    "optimizer": {"choice": ["sgd", "adam"]},
    "learning_rate": {"log_uniform": [1e-4, 1e-1]},
    "weight_decay": {"normal": [1e-2, 1e-3]},
}


def grid_of(num_models: int) -> ZooSpec:
    return with_overrides(entries.load("mnist-cnn-s-seed"), [f'seeds="1:{num_models + 1}"'], name="million")


def drawn_of(num_models: int) -> ZooSpec:
    fields = {name: value for name, value in entries.load("mnist-cnn-s-seed").to_json().items() if name != "axes"}
    fields |= {"name": "drawn", "seeds": "random", "seed_salt": 1, "sparsify": None}
    return ZooSpec.from_json(fields | {"draws": {**DRAWS, "num_models": num_models}}, "drawn")


def million(spec: ZooSpec) -> tuple[float, float, int, int]:
    """Plan a zoo. Returns CPU seconds, peak MiB of the process, models and units."""
    start = time.process_time()
    made = rows(spec)
    units = work_units(spec, made)
    planned = tasks(units, request(spec), lambda model: 0, slots=WORKERS, bitwise=True, max_models=None)
    assert sum(len(task.models) for task in planned) == len(made)
    seconds = time.process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(made), len(units)


def dispatch(units: int, parts: int) -> tuple[float, list[str]]:
    """Parts per CPU second through the driver, and the functions with the most own time."""
    plans: deque[Sequence[Task]] = deque([[Task(unit, (unit,), 0) for unit in range(units)]])

    def missing() -> Sequence[Task]:
        return plans.popleft() if plans else []

    store, run, notice = MemoryStore(), Run(entries.load("mnist-cnn-s-seed")), Notice()
    create_run(store, run.id, run.zoo.run_content)
    attempt = start_attempt(store, run.id, {})
    account = Account(store, run, attempt, WORKERS, Caps(), lambda: 1.0, Meter(store.traffic), notice)
    calls = StoreCalls(missing, heartbeat=account.beat)
    profile = cProfile.Profile()

    def grow() -> None:
        Driver(Extent(run.name, "train", parts - 1), IdlePool(WORKERS, answer), calls, notice, [account]).grow()

    start = time.process_time()
    grow()
    seconds = time.process_time() - start
    plans.append([Task(unit, (unit,), 0) for unit in range(units // 10)])
    profile.runcall(grow)
    functions = pstats.Stats(profile).get_stats_profile().func_profiles  # one row per name
    heaviest = sorted(functions.items(), key=lambda item: -item[1].tottime)[:4]
    return units * parts / seconds, [f"{name} {row.tottime:.2f} s" for name, row in heaviest]


def requests_per_part(parts: int, models: int = 256) -> Counter[str]:
    """Requests of ``parts`` commits of one unit, after the first."""
    store = CountingStore()
    after = None
    for part in range(parts + 1):
        if part == 1:
            store.requests.clear()
        data = PartData(
            unit=0,
            members=tuple(range(models)),
            part=part,
            epochs=range(part, part + 1),
            fields={"": {part: np.zeros((models, 8), np.float32)}},
            labels={"model": np.arange(models), "epoch": np.full(models, part), "faulty_epoch": np.full(models, -1),
                    "faulty_reason": np.full(models, -1)},
            state={"weights": np.zeros((models, 8), np.float32), "step": np.full(models, part, np.int64),
                   "faulty_epoch": np.full(models, -1, np.int32), "faulty_reason": np.full(models, -1, np.int8)},
            numerics={"engine": "empty", "version": 1},
        )  # fmt: skip
        after = commit_part(store, "0" * 32, data, "20260101T000000Z-0000", after=after).record
    return store.requests


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="100,000 models, 20,000 parts")
    quick = parser.parse_args().quick
    for make in (grid_of, drawn_of):
        seconds, peak, models, units = million(make(100_000 if quick else 1_000_000))
        rows.cache_clear()
        print(
            f"{make.__name__}: {models:,} models in {units:,} units planned: {seconds:.1f} s of CPU, the process has "
            f"{peak:.0f} MiB at most"
        )
    rate, heaviest = dispatch(2_000 if quick else 20_000, 10)
    print(
        f"{WORKERS:,} workers: {rate:,.0f} parts per CPU second of the driver; the most own time: {'; '.join(heaviest)}"
    )
    num_parts = 50
    requests = requests_per_part(num_parts)
    each = {verb: count / num_parts for verb, count in sorted(requests.items())}
    print("requests per part: " + ", ".join(f"{count:.2f} {verb}" for verb, count in each.items()))
    reads = sum(count for verb, count in each.items() if verb in ("GET", "HEAD"))
    writes = sum(count for verb, count in each.items() if verb not in ("GET", "HEAD"))
    per_second = WORKERS / 60
    print(
        f"at {WORKERS:,} workers with parts of a minute, {per_second:.0f} parts/s: {per_second * reads:,.0f} reads/s, "
        f"{per_second * writes:,.0f} writes, lists and deletes/s, {3600 * per_second * (reads + writes):,.0f} an hour"
    )


if __name__ == "__main__":
    main()
