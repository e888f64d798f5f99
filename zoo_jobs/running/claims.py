"""Divides the work of a run among drivers that share it: each claims the pieces that it trains. No Ray.

Pieces are cut from the whole zoo, so that all drivers cut the same pieces, whatever parts of the ledger each has read.
"""

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping

from zooforge.storage.errors import StorageError
from zooforge.storage.keys import task_claim
from zooforge.storage.runs.claims import CLAIM_RENEW_SECONDS, Claims

from ..planning.units import SPLIT_MULTIPLE, Task, WorkUnit

logger = logging.getLogger(__name__)

PIECE_MODELS = 2 * SPLIT_MULTIPLE


def claims_of(units: Iterable[WorkUnit], bitwise: bool) -> dict[int, str]:
    """The claim of each model, by model: at most 32 models of a unit share one, the whole unit if not ``bitwise``."""
    names = {}
    for unit in units:
        size = PIECE_MODELS if bitwise else len(unit.models)
        for start in range(0, len(unit.models), size):
            models = unit.models[start : start + size]
            names.update(dict.fromkeys(models, task_claim(unit.id, models)))
    return names


def cut(tasks: Iterable[Task], names: Mapping[int, str]) -> tuple[Task, ...]:
    """``tasks`` split so that each task has one claim."""
    return tuple(
        Task(task.unit, tuple(models), task.part)
        for task in tasks
        for _, models in itertools.groupby(task.models, key=lambda model: names[model])
    )


class ClaimedPieces:
    """``driver.Leases`` as claims in the store.

    The claim of a driver that died expires after 120 s; then another driver can take it.

    Args:
        names: claim of each model, by model.
        first: index of the claim to begin with; None: a random one, so that drivers that start together begin with
            different claims.
    """

    def __init__(
        self,
        claims: Claims,
        names: Mapping[int, str],
        first: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims, self._names, self._clock = claims, names, clock
        order = sorted(set(names.values()))
        start = random.randrange(len(order)) if first is None else first
        self._order = {name: i for i, name in enumerate([*order[start:], *order[:start]])}
        self._tasks: dict[str, int] = {}  # number of our tasks by claim
        self._renewed = clock()

    def share(self, tasks: Iterable[Task]) -> list[Task]:
        """``tasks`` split so that each has one claim, those with the earliest part first."""
        return sorted(cut(tasks, self._names), key=lambda task: (task.part, self._order[self._names[task.models[0]]]))

    def take(self, task: Task) -> bool:
        name = self._names[task.models[0]]
        if name not in self._tasks and not self._claims.take(name):
            return False
        self._tasks[name] = self._tasks.get(name, 0) + 1
        return True

    def release(self, task: Task) -> None:
        name = self._names[task.models[0]]
        self._tasks[name] -= 1
        if not self._tasks[name]:
            del self._tasks[name]
            self._claims.release(name)

    def beat(self) -> None:
        """Renew the claims when it is time. Call it every few seconds."""
        now = self._clock()
        if now - self._renewed < CLAIM_RENEW_SECONDS:
            return
        self._renewed = now
        for name in self._tasks:
            try:
                kept = self._claims.renew(name)
            except StorageError as error:
                logger.warning("a claim could not be renewed", extra={"claim": name, "error": str(error)})
                continue
            if not kept:  # this process slept too long; the first of the two to commit wins, with equal bytes
                logger.warning("a claim expired and another driver has taken it", extra={"claim": name})

    def close(self) -> None:
        """Release all claims."""
        for name in self._tasks:
            self._claims.release(name)
        self._tasks.clear()
