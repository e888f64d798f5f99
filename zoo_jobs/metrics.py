"""The metrics of one driver: what the store held when it started, and what it saw since.

`registry = CollectorRegistry(); metrics = RunMetrics(registry); server = serve(registry)`; then pass ``metrics`` to the
driver as an observer, and call ``start_from`` with the store's totals at the start and whenever fresh ones are at hand.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from storage.object_store import Traffic

from .eta import UNKNOWN as NO_RATE
from .eta import eta_seconds
from .metric_families import NO_QUANTILES, ZooFacts, build_info, families
from .metrics_server import MetricsServer, serve
from .observers import Event, PartCommitted, Problem, StageEnded, StageStarted
from .store_totals import Counts, StoreTotals, quantiles

__all__ = ["MetricsServer", "RunMetrics", "StoreTotals", "serve"]

COMMITS_KEPT = 1024  # for the rate that the time left follows from


class RunMetrics(Collector):
    """An observer that answers scrapes.

    Counters only grow, and count a (model, epoch) once: it does not matter whether the store's totals or the event of
    a commit comes first. ``traffic`` is that of the driver's own store; workers' reads are not in it.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        traffic: Traffic | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._zoos: dict[str, _Zoo] = {}
        self._traffic = traffic
        self._seen_read = self._seen_retries = 0
        self._current: str | None = None
        self._clock, self._monotonic = clock, monotonic
        registry.register(self)

    def declare(self, zoo: str, stage: str = "train") -> None:
        """Show ``zoo`` with zeros, before anything is known of it."""
        with self._lock:
            self._zoo(zoo, stage)

    def start_from(self, totals: StoreTotals) -> None:
        """Take over what the store says; what this driver counted beyond it stays."""
        with self._lock:
            self._zoo(totals.zoo, totals.stage).start_from(totals)

    def __call__(self, event: Event) -> None:
        with self._lock:
            zoo = self._zoo(event.zoo, event.stage)
            self._current = event.zoo
            match event:
                case StageStarted():
                    zoo.start(event, self._clock(), self._monotonic())
                case PartCommitted():
                    zoo.commit(event, self._clock(), self._monotonic())
                case Problem():
                    zoo.facts.preemptions += event.kind == "preempted"
                    zoo.facts.store_retries += event.kind == "store"
                case StageEnded():
                    zoo.facts.state = event.state

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            self._add_traffic()
            found = list(families([zoo.now(self._monotonic()) for zoo in self._zoos.values()]))
        yield build_info()
        yield from found

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would otherwise scrape at registration."""
        return iter(())

    def _zoo(self, name: str, stage: str) -> "_Zoo":
        if name not in self._zoos:
            self._zoos[name] = _Zoo(ZooFacts(name, "sparsify" if stage == "sparsify" else "train"))
        zoo = self._zoos[name]
        if stage in ("train", "sparsify"):
            zoo.facts.stage = stage
        return zoo

    def _add_traffic(self) -> None:
        if self._traffic is None or self._current is None:
            return
        read, retries = self._traffic.read_bytes, self._traffic.num_retries
        facts = self._zoos[self._current].facts
        facts.read_bytes += read - self._seen_read
        facts.store_retries += retries - self._seen_retries
        self._seen_read, self._seen_retries = read, retries


class _Zoo:
    """One zoo of a driver: its facts, and what they follow from."""

    def __init__(self, facts: ZooFacts) -> None:
        self.facts = facts
        self._counts: Counts | None = None
        self._before = 0  # model-epochs that were there at the start, where no totals say of which models
        self._further = {"vectorize": 0, "verify": 0}
        self._faulty: dict[str, int] = {}
        self._task_of: dict[int, tuple[int, ...]] = {}
        self._accuracy: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._sparsity: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._commits: deque[tuple[float, int]] = deque(maxlen=COMMITS_KEPT)

    def start_from(self, totals: StoreTotals) -> None:
        counts = totals.counts
        states_M, faulty_M = counts.states_M.copy(), counts.faulty_M.copy()
        if self._counts is not None:
            known = min(len(states_M), len(self._counts.states_M))
            states_M[:known] = np.maximum(states_M[:known], self._counts.states_M[:known])
            faulty_M[:known] = np.maximum(faulty_M[:known], self._counts.faulty_M[:known])
        self._counts = replace(counts, states_M=states_M, faulty_M=faulty_M)
        self._before = 0
        for reason, count in totals.faulty.items():
            self._faulty[reason] = max(self._faulty.get(reason, 0), count)
        facts, usage = self.facts, totals.usage
        committed, wasted = totals.dollars
        facts.samples = max(facts.samples, totals.samples)
        facts.written_bytes = max(facts.written_bytes, totals.written_bytes)
        facts.read_bytes = max(facts.read_bytes, round(usage.get("read_bytes", 0)))
        facts.preemptions = max(facts.preemptions, round(usage.get("preemptions", 0)))
        facts.store_retries = max(facts.store_retries, round(usage.get("store_retries", 0)))
        facts.lost_epochs = max(facts.lost_epochs, round(usage.get("lost_epochs", 0)))
        facts.committed_dollars = max(facts.committed_dollars, committed)
        facts.wasted_dollars = max(facts.wasted_dollars, wasted)
        facts.last_commit = max(facts.last_commit, totals.last_commit)
        facts.budget_dollars = totals.budget_dollars

    def start(self, event: StageStarted, now: float, monotonic: float) -> None:
        self.facts.state = "live"
        self.facts.last_commit = self.facts.last_commit or now
        self._commits.clear()
        self._commits.append((monotonic, 0))
        if event.stage == self.facts.stage and self._counts is None:
            self._before = event.done
            self._counts = Counts.of_first(event.models, event.epochs)

    def commit(self, event: PartCommitted, now: float, monotonic: float) -> None:
        facts, num_epochs = self.facts, len(event.epochs)
        new = size = len(event.models) * num_epochs
        if event.stage != facts.stage:
            self._further[event.stage] += new
        elif self._counts is not None:
            new = self._counts.add(event.models, event.epochs[-1] + 1)
        if new and self._counts is not None and any(event.num_faulty.values()):
            self._counts.add_faulty(event.models, sum(event.num_faulty.values()))
            for reason, count in event.num_faulty.items():
                self._faulty[reason] = self._faulty.get(reason, 0) + count
        facts.samples += event.samples * new // size
        facts.written_bytes += event.bytes_written * new // size
        facts.epoch_seconds.observe(event.train_seconds / num_epochs, num_epochs)
        facts.commit_seconds.observe(event.commit_seconds)
        facts.last_commit = now
        self._commits.append((monotonic, new))
        self._keep_newest(event)

    def _keep_newest(self, event: PartCommitted) -> None:
        """Values of a task replace those of every earlier task that shares a model with it."""
        for model in event.models:
            old = self._task_of.get(model)
            if old is not None and old != event.models:
                self._accuracy.pop(old, None)
                self._sparsity.pop(old, None)
            self._task_of[model] = event.models
        self._accuracy[event.models] = event.test_accuracy
        self._sparsity[event.models] = event.sparsity

    def now(self, monotonic: float) -> ZooFacts:
        facts, counts = self.facts, self._counts
        facts.faulty = self._faulty
        facts.accuracy = {"test": _quantiles(self._accuracy)}
        facts.sparsity = _quantiles(self._sparsity)
        facts.model_epochs = dict(self._further)
        if counts is not None:
            facts.models, facts.units, facts.wanted = counts.models, counts.num_units, counts.wanted
            facts.model_epochs[facts.stage] = self._before + counts.model_epochs
            if facts.state == "live":
                remaining = max(counts.remaining - self._before, 0)
                facts.eta_seconds = eta_seconds(self._commits, remaining, monotonic)
            else:
                facts.eta_seconds = (0.0, 0.0) if facts.state == "finished" else NO_RATE
        return facts


def _quantiles(by_task: dict[tuple[int, ...], NDArray[np.float64]]) -> tuple[float, ...]:
    return quantiles(np.concatenate(list(by_task.values()))) if by_task else NO_QUANTILES
