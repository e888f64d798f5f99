"""The values of one zoo's metrics, from the store's totals, from events, or from both."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from zooforge.storage.formats.labels import FAULT_REASONS

from ..events import PartCommitted, Spent, StageStarted
from ..watching.eta import UNKNOWN as NO_RATE
from ..watching.eta import eta_seconds
from ..watching.totals import NO_QUANTILES, UNKNOWN, Counts, StoreTotals, quantiles, split_dollars

COMMITS_KEPT = 1024  # the estimate of the remaining time uses the rate of this period
EPOCH_SECONDS = (0.05, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
COMMIT_SECONDS = (0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class ZooMetrics:
    """The state of one zoo that `registry.METRICS` reads. Counters only grow. Not safe between threads.

    Attributes:
        stage: the stage that makes the models: train, or sparsify for twins.
        usage: sums of the usage records by name, plus what happened since they were written.
        sealed_states: model states in the published version.
        last_commit: Unix time.
        budget_dollars: None without a cap.
        expected_faulty_ratio: from the spec; NaN before that is known, which triggers no alert.
    """

    def __init__(
        self,
        zoo: str,
        stage: str = "train",
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.zoo, self.stage, self.state = zoo, stage, "waiting"
        self.counts = Counts.none()
        self.samples = self.written_bytes = self.sealed_states = 0
        self.faulty: dict[str, int] = {}
        self.usage: defaultdict[str, float] = defaultdict(float)
        self.committed_dollars = self.wasted_dollars = self.last_commit = 0.0
        self.budget_dollars: float | None = None
        self.expected_faulty_ratio = UNKNOWN
        self.epoch_seconds = Histogram("epoch_seconds", "", buckets=EPOCH_SECONDS, registry=None)
        self.commit_seconds = Histogram("commit_seconds", "", buckets=COMMIT_SECONDS, registry=None)
        self._clock, self._monotonic = clock, monotonic
        self._task_of: dict[int, tuple[int, ...]] = {}
        self._accuracy: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._sparsity: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._commits: deque[tuple[float, int]] = deque(maxlen=COMMITS_KEPT)

    @property
    def faulty_reasons(self) -> tuple[str, ...]:
        """Reasons that a model of this stage may have. Only twins can have a faulty parent."""
        return tuple(reason for reason in FAULT_REASONS if self.stage == "sparsify" or reason != "parent")

    @property
    def accuracy(self) -> tuple[float, ...]:
        """`QUANTILES` of the newest test accuracy of each finite model."""
        return _quantiles(self._accuracy)

    @property
    def sparsity(self) -> tuple[float, ...]:
        """`QUANTILES` of the newest share of pruned weights of each finite twin."""
        return _quantiles(self._sparsity)

    @property
    def eta_seconds(self) -> tuple[float, float]:
        """Seconds until the request is done, (low, high)."""
        if self.state == "live":
            return eta_seconds(self._commits, self.counts.remaining, self._monotonic())
        return (0.0, 0.0) if self.state == "finished" else NO_RATE

    def start_from(self, totals: StoreTotals) -> None:
        """Take over the totals of the store; what was counted beyond them stays."""
        counts, known = totals.counts, self.counts
        states_M, faulty_M = counts.states_M.copy(), counts.faulty_M.copy()
        both = min(len(states_M), len(known.states_M))
        states_M[:both] = np.maximum(states_M[:both], known.states_M[:both])
        faulty_M[:both] = np.maximum(faulty_M[:both], known.faulty_M[:both])
        self.counts = replace(counts, states_M=states_M, faulty_M=faulty_M)
        new = self.counts.model_epochs - known.model_epochs
        self._commits.append((self._monotonic(), new if self._commits else 0))
        for reason, count in totals.faulty.items():
            self.faulty[reason] = max(self.faulty.get(reason, 0), count)
        self.take_usage(totals.usage)
        self.samples = max(self.samples, totals.samples)
        self.written_bytes = max(self.written_bytes, totals.written_bytes)
        self.last_commit = max(self.last_commit, totals.last_commit)
        self.budget_dollars = totals.budget_dollars
        self.expected_faulty_ratio = totals.expected_faulty_ratio

    def take_usage(self, sums: Mapping[str, float]) -> None:
        """Take over the sums of the usage records; what was counted beyond them stays."""
        for name, amount in sums.items():
            self.usage[name] = max(self.usage[name], amount)
        committed, wasted = split_dollars(sums)
        self.committed_dollars = max(self.committed_dollars, committed)
        self.wasted_dollars = max(self.wasted_dollars, wasted)

    def spend(self, event: Spent) -> None:
        self.usage["lost_epochs"] += event.lost_epochs
        self.usage["store_retries"] += event.store_retries
        self.usage["read_bytes"] += event.read_bytes

    def start(self, event: StageStarted) -> None:
        self.stage, self.state = event.stage, "live"
        self.last_commit = self.last_commit or self._clock()
        self._commits.clear()
        self._commits.append((self._monotonic(), 0))

    def commit(self, event: PartCommitted) -> None:
        num_epochs = len(event.epochs)
        size = len(event.models) * num_epochs
        new = self.counts.add(event.models, event.epochs[-1] + 1)
        if new and any(event.num_faulty.values()):
            self.counts.add_faulty(event.models, sum(event.num_faulty.values()))
            for reason, count in event.num_faulty.items():
                self.faulty[reason] = self.faulty.get(reason, 0) + count
        self.samples += event.samples * new // size
        self.written_bytes += event.bytes_written * new // size
        for _ in event.epochs:
            self.epoch_seconds.observe(event.train_seconds / num_epochs)
        self.commit_seconds.observe(event.commit_seconds)
        self.last_commit = self._clock()
        self._commits.append((self._monotonic(), new))
        self.keep_newest(event.models, event.test_accuracy, event.sparsity)

    def seal(self, num_states: int) -> None:
        """Note how many model states the current version holds."""
        self.sealed_states = max(self.sealed_states, num_states)

    def keep_newest(
        self, models: tuple[int, ...], accuracy: NDArray[np.float64], sparsity: NDArray[np.float64]
    ) -> None:
        """Replace the values of every earlier task that shares a model with this one."""
        for model in models:
            old = self._task_of.get(model)
            if old is not None and old != models:
                self._accuracy.pop(old, None)
                self._sparsity.pop(old, None)
            self._task_of[model] = models
        self._accuracy[models] = accuracy
        self._sparsity[models] = sparsity


def _quantiles(by_task: dict[tuple[int, ...], NDArray[np.float64]]) -> tuple[float, ...]:
    return quantiles(np.concatenate(list(by_task.values()))) if by_task else NO_QUANTILES
