"""What this driver works on while others work on the rest of a run, so that none trains what another has. No Ray.

Work is claimed in pieces, cut from the whole zoo, so that all who share a run cut alike, whatever each has seen of it.
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
    """Of every model the claim that covers it: at most 32 models of a unit, the whole unit if not ``bitwise``."""
    names = {}
    for unit in units:
        size = PIECE_MODELS if bitwise else len(unit.models)
        for start in range(0, len(unit.models), size):
            models = unit.models[start : start + size]
            names.update(dict.fromkeys(models, task_claim(unit.id, models)))
    return names


def cut(tasks: Iterable[Task], names: Mapping[int, str]) -> tuple[Task, ...]:
    """``tasks`` cut where another claim begins."""
    return tuple(
        Task(task.unit, tuple(models), task.part)
        for task in tasks
        for _, models in itertools.groupby(task.models, key=lambda model: names[model])
    )


class ClaimedPieces:
    """``driver.Leases`` over the claims of a store.

    A claim whose driver died is void after 120 s, and its piece goes to whoever asks next.

    Args:
        names: of the claims, by model.
        first: where among the claims to begin; None for anywhere, so that drivers that start together do not all want
            the same.
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
        self._tasks: dict[str, int] = {}  # under a claim that is ours
        self._renewed = clock()

    def share(self, tasks: Iterable[Task]) -> list[Task]:
        """``tasks`` cut where another claim begins, those that are furthest behind first."""
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
        """Keep the claims alive; to be called every few seconds."""
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
            if not kept:  # this process was asleep for too long; of the two the first to commit wins, bytes are equal
                logger.warning("a claim was void for a while and is somebody else's now", extra={"claim": name})

    def close(self) -> None:
        """Give back what is still held."""
        for name in self._tasks:
            self._claims.release(name)
        self._tasks.clear()
