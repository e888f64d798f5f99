"""Grow the whole catalogue in a simulated month: ``python -m tests.chaos.month [--zoos N] [--models N]``.

Real are the driver, its account, commits, ledger, claims, the job's attempts and the supervisor's decisions; the store
is in memory. Only the clock and the training are simulated: a part takes time of the fake clock and commits labels of
its models, no weights. A worker is lost every ten minutes, the head every day, and once a week the store does not
answer for an hour. At the end every part must be committed exactly once, and the recorded cost must equal that of the
simulated time.
"""

import argparse
import gc
import heapq
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zooforge.cluster.run_job import Submission
from zooforge.cluster.spec import RunRequest
from zooforge.cluster.supervise import decide
from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.keys import parse_record_key, parts_prefix
from zooforge.storage.runs.commit import PartData, commit_part
from zooforge.storage.runs.ledger import Ledger, read_ledger
from zooforge.storage.runs.run_files import create_run, read_control, read_usage, start_attempt, want_run
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ByteRange, Data, Stat
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.catalogue.in_store import register
from zooforge.zoo_jobs.events import Advance, Event, PartCommitted, UsageWritten
from zooforge.zoo_jobs.planning.units import Task, WorkUnit, request, tasks, unit_models, work_units
from zooforge.zoo_jobs.running.account import Account, Caps
from zooforge.zoo_jobs.running.driver import Done, Driver, Extent, StoreCalls, Timing
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.patience import Patience, StoreAway
from zooforge.zoo_jobs.spec.epochs import part_epochs
from zooforge.zoo_jobs.spec.zoo import ZooSpec
from zooforge.zoo_jobs.unattended.life import num_parts
from zooforge.zoo_jobs.unattended.listing import pending
from zooforge.zoo_jobs.watching.totals import Meter

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BEGIN = 1_800_000_000.0
SLOTS, PRICE = 16, 3.2  # dollars per hour of all slots
STEP_SECONDS = 30.0
LEAST_UNIT = 64  # units of one ResNet-18 would make ten times as many parts without testing anything else
ORIGIN = "simulated/zoos/zooforge"


class Clock:
    """The one clock of the simulation, Unix time in seconds."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Faults:
    """Seconds between two losses. ``away_seconds`` is the duration of each interruption of the store."""

    worker: float = 10 * MINUTE
    head: float = DAY
    away_every: float = 7 * DAY
    away_seconds: float = HOUR

    def is_away(self, now: float) -> bool:
        since = now - BEGIN
        return since > self.away_every / 2 and (since - self.away_every / 2) % self.away_every < self.away_seconds


class SimulatedStore(MemoryStore):
    """A store in memory with the times of ``clock``. It does not answer during the interruptions of ``Faults``."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        super().__init__(clock=clock)
        self._clock, self._faults = clock, faults

    @property
    def clock_ahead_seconds(self) -> float:  # type: ignore[override]
        return self._clock.now - time.time()

    @property
    def num_bytes(self) -> int:
        """The size of all contents and keys, and about 500 bytes of Python objects for each."""
        return sum(len(key) + len(content) + 500 for key, (content, _, _) in self._objects.items())

    def _check(self) -> None:
        if self._faults.is_away(self._clock.now):
            raise StoreUnreachable("memory:// does not answer")

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        self._check()
        return super().get(key, byte_range)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self._check()
        return super().put(key, data, if_absent=if_absent, if_match=if_match)

    def stat(self, key: str) -> Stat | None:
        self._check()
        return super().stat(key)

    def list(self, prefix: str) -> Iterator[Stat]:
        self._check()
        return super().list(prefix)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._check()
        super().delete(key, if_match=if_match)


class HeadLost(BaseException):
    """The driver's process was lost; it writes nothing more."""


@dataclass
class Counts:
    """Counts of events that the store does not record."""

    workers_lost: int = 0
    heads_lost: int = 0
    stores_away: int = 0
    parts: int = 0
    lives: int = 0
    pod_seconds: float = 0.0
    resident_bytes: list[int] = field(default_factory=list)


class SimulatedPool:
    """``driver.Pool`` on the fake clock. A call ends when its simulated time is over, and commits its part."""

    chunk_models = None

    def __init__(self, world: "World", run: str, attempt: str, seconds_per_model_epoch: float) -> None:
        self.slots = SLOTS
        self._world, self._run, self._attempt, self._pace = world, run, attempt, seconds_per_model_epoch
        self._free_at = [world.clock.now] * SLOTS
        self._calls: list[tuple[float, int, int, Task, int]] = []
        self._number = 0

    def submit(self, slot: int, task: Task, part: int) -> None:
        begins = max(self._free_at[slot], self._world.clock.now)
        self._free_at[slot] = begins + self._pace * len(task.models)
        self._number += 1
        heapq.heappush(self._calls, (self._free_at[slot], self._number, slot, task, part))

    def wait(self, timeout_seconds: float) -> list[Done]:
        world = self._world
        ends = self._calls[0][0] if self._calls else world.clock.now + timeout_seconds
        until = min(max(ends, world.clock.now), world.clock.now + STEP_SECONDS, world.next_head, world.next_worker)
        world.clock.now = max(world.clock.now, until)
        world.look()
        if world.clock.now >= world.next_head:
            world.next_head += world.faults.head
            world.counts.heads_lost += 1
            raise HeadLost
        if world.clock.now >= world.next_worker:
            world.next_worker += world.faults.worker
            return self._lose_worker()
        if self._calls and self._calls[0][0] <= world.clock.now:
            _, _, slot, task, part = heapq.heappop(self._calls)
            return [self._commit(slot, task, part)]
        return []

    def _lose_worker(self) -> list[Done]:
        slot = self._world.counts.workers_lost % SLOTS
        self._world.counts.workers_lost += 1
        lost = sorted(call for call in self._calls if call[2] == slot)
        self._calls = [call for call in self._calls if call[2] != slot]
        heapq.heapify(self._calls)
        self._free_at[slot] = self._world.clock.now
        return [Done(slot, None, RuntimeError("the node is gone"), lost=True) for _ in lost]

    def _commit(self, slot: int, task: Task, part: int) -> Done:
        num, epochs = len(task.models), part_epochs(part, 1)
        last = epochs[-1]
        data = PartData(
            unit=task.unit,
            members=task.models,
            part=part,
            epochs=range(epochs[0], last + 1),
            fields={},
            labels={"model": np.repeat(task.models, len(epochs)), "epoch": np.tile(list(epochs), num)}
            | {"faulty_epoch": np.full(num * len(epochs), -1), "faulty_reason": np.full(num * len(epochs), -1)},
            state={
                "weights": np.zeros((num, 1), np.float32),
                "step": np.full(num, last, np.int64),
                "faulty_epoch": np.full(num, -1, np.int32),
                "faulty_reason": np.full(num, -1, np.int8),
            },
            numerics={"engine": "empty", "version": 1},
        )
        try:
            committed = commit_part(self._world.store, self._run, data, self._attempt)
        except StoreUnreachable as error:
            return Done(slot, None, error)
        self._world.counts.parts += committed.won
        none = np.zeros(0)
        seconds = self._pace * num
        event = PartCommitted(
            "zoo", "train", task.models, tuple(epochs), {}, none, none, 1, seconds, 0.0, 1, committed.won
        )
        return Done(slot, Advance((event,)))

    def leave(self, notice: Notice) -> None: ...

    def replace(self, slot: int) -> None: ...

    def halve_chunk(self, num_models: int) -> int:
        return num_models


class World:
    """The clock, the store, and the times of the next faults."""

    def __init__(self, faults: Faults) -> None:
        self.faults, self.clock, self.counts = faults, Clock(), Counts()
        self.store = SimulatedStore(self.clock, faults)
        self.next_worker, self.next_head = BEGIN + faults.worker, BEGIN + faults.head
        self._next_look, self._was_away = BEGIN, False

    def look(self) -> None:
        """Once per simulated day, record the memory of this process without that of the store."""
        is_away = self.faults.is_away(self.clock.now)
        self.counts.stores_away += is_away and not self._was_away
        self._was_away = is_away
        if self.clock.now >= self._next_look:
            self._next_look += DAY
            gc.collect()
            held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            self.counts.resident_bytes.append(held - self.store.num_bytes)

    def patiently(self, call: Callable[[], Any]) -> Any:
        """Repeat ``call`` every minute while the store does not answer, as a scheduler restarts a job."""
        while True:
            try:
                return call()
            except StoreUnreachable:
                self.clock.sleep(MINUTE)
                self.look()


def grow(world: World, zoo: ZooSpec, models: str | None, epochs: int | None, pace: float) -> None:
    """Train one zoo to the end, restarting its driver after each loss."""
    run, wanted = Run(zoo), request(zoo, models, epochs)
    units = work_units(zoo, run.rows, size=max(LEAST_UNIT, unit_models(zoo)))
    world.patiently(lambda: register(world.store, zoo))
    world.patiently(lambda: create_run(world.store, run.id, zoo.run_content))
    asked = {"models": [wanted.models.start, wanted.models.stop], "epochs": wanted.num_epochs}
    job = RunRequest(zoo.name, run.id, models=models, epochs=epochs)
    for number in itertools.count(1):
        world.patiently(lambda: want_run(world.store, run.id, asked, read_control(world.store, run.id)))
        attempt = world.patiently(partial(_begin, world, zoo, run.id, f"{zoo.name}-{number}", job))
        world.counts.lives += 1
        if _live(world, run, wanted, units, attempt, pace):
            return
        # KubeRay needs two minutes to start a head; by then the claim of the lost driver is void.
        world.clock.sleep(2 * MINUTE + 1)
        while not _is_submitted_again(world, run.id, job, number):
            world.clock.sleep(MINUTE)


def _begin(world: World, zoo: ZooSpec, run: str, name: str, job: RunRequest) -> str:
    """Write the attempts of job and driver, as `unattended` and `drive` do."""
    parts = num_parts(world.store, [zoo])
    start = {"stage": "job", "zoo": zoo.name, "job": name, "origin": ORIGIN, "parts": parts}
    start_attempt(world.store, run, {**start, "request": json.loads(job.to_json())})
    return start_attempt(world.store, run, {"stage": "train", "zoo": zoo.name, "slots": SLOTS})


def _is_submitted_again(world: World, run: str, job: RunRequest, number: int) -> bool:
    """True if the supervisor, which reads the store, would submit the run again now."""
    rows = world.patiently(lambda: pending(world.store, ORIGIN))
    parts = next(row["parts"] for row in rows if row["run"] == run)
    ended = Submission(
        f"{job.zoo}-{number}", number, job, "Failed", "FAILED", False, "", "rc", "the head is gone",
        ended=world.clock.now - 2 * MINUTE, parts=max(0, parts - 1),
    )  # fmt: skip
    (action,) = [one for one in decide(rows, [ended], world.clock.now) if one.request.run == run]
    assert action.what in ("submit", "wait"), action
    return action.what == "submit"


def _live(world: World, run: Run, wanted: Any, units: Sequence[WorkUnit], attempt: str, pace: float) -> bool:
    """Run the driver until it ends or is lost. Returns whether the zoo is complete."""
    clock, store, notice = world.clock, world.store, Notice(world.clock)
    ledger: list[Ledger | None] = [None]
    paid = [clock.now]

    def note(event: Event) -> None:
        if isinstance(event, UsageWritten):
            world.counts.pod_seconds += SLOTS * (clock.now - paid[0])
            paid[0] = clock.now

    def plan() -> Sequence[Task]:
        ledger[0] = read_ledger(store, run.id, ledger[0])
        return tasks(units, wanted, ledger[0].next_part, slots=SLOTS, bitwise=True, max_models=None)

    try:
        account = Account(
            store, run, attempt, SLOTS, Caps(), lambda: PRICE, Meter(store.traffic), notice, [note], clock=clock
        )
        paid[0] = clock.now
        patience = Patience(run.name, "train", notice, [account], clock=clock, sleep=clock.sleep)
        calls = StoreCalls(
            lambda: patience(plan),
            lambda: patience(lambda: _is_stopped(store, run.id)),
            lambda: patience(account.beat),
        )
        pool = SimulatedPool(world, run.id, attempt, pace)
        extent = Extent(run.name, "train", wanted.last_part, 1)
        timing = Timing(clock=clock, sleep=clock.sleep)
        finished = Driver(extent, pool, calls, notice, [account], None, timing).grow()
        world.patiently(lambda: account.close("finished"))
        return finished
    except (HeadLost, StoreAway, StoreUnreachable):
        return False


def _is_stopped(store: MemoryStore, run: str) -> bool:
    control = read_control(store, run)
    return control is not None and control.wanted == "stopped"


def faults_of(world: World, zoos: Sequence[tuple[ZooSpec, str | None, int | None]]) -> list[str]:
    """One sentence for each promise that was broken."""
    problems = []
    used: dict[str, float] = {}
    for zoo, models, epochs in zoos:
        wanted = request(zoo, models, epochs)
        seen: dict[tuple[int, int], int] = {}
        members = {f.name: f.members for f in read_ledger(world.store, zoo.run_id).folders.values()}
        for stat in world.store.list(parts_prefix(zoo.run_id)):
            key = parse_record_key(stat.key)
            assert key is not None
            for model in members[key.folder]:
                seen[model, key.part] = seen.get((model, key.part), 0) + 1
        missing = sum((m, p) not in seen for m in wanted.models for p in range(wanted.last_part + 1))
        twice = sum(count > 1 for count in seen.values())
        problems += [f"{zoo.name}: {missing:,} model-parts are missing"] if missing else []
        problems += [f"{zoo.name}: {twice:,} model-parts were committed twice"] if twice else []
        for name, amount in read_usage(world.store, zoo.run_id).items():
            used[name] = used.get(name, 0.0) + amount
    for name, expected in (
        ("pod_seconds", world.counts.pod_seconds),
        ("dollars", world.counts.pod_seconds / SLOTS / 3600 * PRICE),
        ("pod_seconds", used["committed_seconds"] + used["wasted_seconds"]),
    ):
        if abs(used[name] - expected) > 1e-6 * expected:
            problems.append(f"the account says {used[name]:.3f} {name}, the clock {expected:.3f}")
    return problems


def simulate(
    zoos: Sequence[tuple[ZooSpec, str | None, int | None]], days: float, faults: Faults = Faults()
) -> tuple[World, list[str]]:
    """Train ``zoos`` (spec, models, epochs) one after the other within about ``days``. Returns the faults, too."""
    work = sum(len(wanted.models) * (wanted.num_epochs + 1) for wanted in (request(*zoo) for zoo in zoos))
    pace = days * DAY * SLOTS / work * 0.6  # seconds per model-epoch; the remaining time is for losses and idle slots
    world = World(faults)
    logging.getLogger("zooforge").setLevel(logging.ERROR)
    for zoo, models, epochs in zoos:
        grow(world, zoo, models, epochs, pace)
    return world, faults_of(world, zoos)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--zoos", type=int, default=27, help="of the reference, in the catalogue's order")
    parser.add_argument("--models", help="of each, as `zoo run` takes them; default: all")
    parser.add_argument("--days", type=float, default=30.0, help="simulated")
    options = parser.parse_args(arguments)
    specs = [zoo for zoo in map(entries.load, entries.names()) if zoo.origin == "reference"][: options.zoos]
    world, wrong = simulate([(spec, options.models, None) for spec in specs], options.days)
    counts, memory = world.counts, world.counts.resident_bytes
    print(
        f"{sum(len(request(spec, options.models).models) for spec in specs):,} models of {len(specs)} zoos in "
        f"{(world.clock.now - BEGIN) / DAY:.1f} simulated days: {counts.parts:,} parts, {counts.lives} lives, "
        f"{counts.workers_lost:,} workers lost, {counts.heads_lost} heads lost, "
        f"{counts.stores_away} interruptions of the store"
    )
    third = max(1, len(memory) // 3)
    grown = (max(memory[-third:]) - max(memory[third : 2 * third] or memory)) / 2**20
    print(f"memory without the store: {max(memory) / 2**20:.0f} MiB at most, {grown:+.0f} MiB in the last third")
    if grown > 64:
        wrong.append(f"memory grew by {grown:.0f} MiB in the last third")
    for fault in wrong:
        print(f"WRONG: {fault}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
