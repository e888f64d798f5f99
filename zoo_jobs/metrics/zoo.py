"""What is shown of one zoo while it grows: from the store's totals, from events, or from both."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..events import PartCommitted, StageStarted
from ..watching.eta import UNKNOWN as NO_RATE
from ..watching.eta import eta_seconds
from ..watching.totals import NO_QUANTILES, Counts, StoreTotals, quantiles, split_dollars
from .families import ZooFacts

COMMITS_KEPT = 1024  # for the rate that the time left follows from


class ZooMetrics:
    """Facts of one zoo, and what they follow from. Counters only grow. Not safe between threads."""

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

    def start_from(self, totals: StoreTotals, monotonic: float) -> None:
        """Take over what the store says; what was counted beyond it stays."""
        counts = totals.counts
        states_M, faulty_M = counts.states_M.copy(), counts.faulty_M.copy()
        if self._counts is not None:
            known = min(len(states_M), len(self._counts.states_M))
            states_M[:known] = np.maximum(states_M[:known], self._counts.states_M[:known])
            faulty_M[:known] = np.maximum(faulty_M[:known], self._counts.faulty_M[:known])
        fresh = int(states_M.sum()) - (self._counts.model_epochs if self._counts is not None else 0)
        self._commits.append((monotonic, fresh if self._commits else 0))
        self._counts = replace(counts, states_M=states_M, faulty_M=faulty_M)
        self._before = 0
        for reason, count in totals.faulty.items():
            self._faulty[reason] = max(self._faulty.get(reason, 0), count)
        self.take_usage(totals.usage)
        facts = self.facts
        facts.samples = max(facts.samples, totals.samples)
        facts.written_bytes = max(facts.written_bytes, totals.written_bytes)
        facts.last_commit = max(facts.last_commit, totals.last_commit)
        facts.budget_dollars = totals.budget_dollars
        facts.expected_faulty_ratio = totals.expected_faulty_ratio

    def take_usage(self, sums: Mapping[str, float]) -> None:
        """Take over the sums of the usage records; what was counted beyond them stays."""
        facts = self.facts
        facts.read_bytes = max(facts.read_bytes, round(sums.get("read_bytes", 0)))
        facts.preemptions = max(facts.preemptions, round(sums.get("preemptions", 0)))
        facts.store_retries = max(facts.store_retries, round(sums.get("store_retries", 0)))
        facts.lost_epochs = max(facts.lost_epochs, round(sums.get("lost_epochs", 0)))
        self._further["verify"] = max(self._further["verify"], round(sums.get("verified_epochs", 0)))
        committed, wasted = split_dollars(sums)
        facts.committed_dollars = max(facts.committed_dollars, committed)
        facts.wasted_dollars = max(facts.wasted_dollars, wasted)

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
        self.keep_newest(event.models, event.test_accuracy, event.sparsity)

    def seal(self, num_states: int) -> None:
        """Say how many model-epochs the current version holds."""
        self._further["vectorize"] = max(self._further["vectorize"], num_states)

    def keep_newest(
        self, models: tuple[int, ...], accuracy: NDArray[np.float64], sparsity: NDArray[np.float64]
    ) -> None:
        """Values of a task replace those of every earlier task that shares a model with it."""
        for model in models:
            old = self._task_of.get(model)
            if old is not None and old != models:
                self._accuracy.pop(old, None)
                self._sparsity.pop(old, None)
            self._task_of[model] = models
        self._accuracy[models] = accuracy
        self._sparsity[models] = sparsity

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
