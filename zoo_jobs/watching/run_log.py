"""The log of a run in its store: written in batches, read back as one sequence ordered by time."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import numpy as np

from zooforge.storage.errors import StorageError
from zooforge.storage.keys import log_key, logs_prefix
from zooforge.storage.runs.ledger import NUM_READERS
from zooforge.storage.stores.protocol import ObjectStore

from ..events import Event, PartCommitted, Problem, Repriced, StageEnded, StageStarted
from ..logs import LOGGER, JsonFormatter, as_json_line, record
from ..logs import event as as_event

LEVELS = ("debug", "info", "warning", "error", "critical")
SAVE_SECONDS = 30.0  # at most this much of a log is lost with its driver


class StoreLogHandler(logging.Handler):
    """Keeps events until ``save`` writes them to the store under one attempt and source, e.g. ``driver``.

    If the store does not answer, no error is raised: the newest ``most`` events are kept for the next ``save``.
    """

    def __init__(self, store: ObjectStore, run: str, attempt: str, source: str, *, most: int = 10_000) -> None:
        super().__init__(logging.INFO)
        self._store, self._run, self._attempt, self._source, self._most = store, run, attempt, source, most
        self._lines: list[str] = []
        self._number = 0
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        line = json.dumps({"run": self._run, **as_event(record)}, default=str)
        with self._guard:
            self._lines.append(line)
            del self._lines[: -self._most]

    def save(self) -> None:
        """Write the events since the last call, if there are any."""
        with self._guard:
            lines, self._lines = self._lines, []
        if not lines:
            return
        key = log_key(self._run, self._attempt, self._source, self._number)
        try:
            self._store.put(key, ("\n".join(lines) + "\n").encode())
        except (StorageError, OSError):
            with self._guard:
                self._lines = (lines + self._lines)[-self._most :]
            return
        self._number += 1

    def close(self) -> None:
        self.save()
        super().close()


class RunLog:
    """An observer that writes the events of a run, and the log records of all rooms, to the run's store.

    They are saved with the first commit after ``save_seconds``, at once after a problem, and at the end. Where logs are
    JSON lines, as in pods, the events are printed too, and every line names the run.
    """

    def __init__(
        self,
        store: ObjectStore,
        run: str,
        attempt: str,
        source: str = "driver",
        *,
        save_seconds: float = SAVE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = StoreLogHandler(store, run, attempt, source)
        self._run = run
        self._save_seconds, self._clock = save_seconds, clock
        self._saved = clock()
        self._levels: list[tuple[logging.Logger | logging.Handler, int]] = []

    def __enter__(self) -> Self:
        JsonFormatter.run = self._run
        # The level of what a terminal shows does not change; the store gets INFO as well.
        self._levels = [(LOGGER, LOGGER.level), *((handler, handler.level) for handler in LOGGER.handlers)]
        for handler in LOGGER.handlers:
            handler.setLevel(max(handler.level, LOGGER.level))
        LOGGER.setLevel(logging.INFO if LOGGER.level == logging.NOTSET else min(LOGGER.level, logging.INFO))
        LOGGER.addHandler(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is not None:
            self._log(logging.ERROR, "the driver ended with an error", kind="failed", error=str(value))
        LOGGER.removeHandler(self._handler)
        for changed, level in self._levels:
            changed.setLevel(level)
        self._levels.clear()
        JsonFormatter.run = ""
        self._handler.close()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._log(
                    logging.INFO,
                    "stage started",
                    zoo=event.zoo,
                    stage=event.stage,
                    models=event.models,
                    epochs=event.epochs,
                    done=event.done,
                    total=event.total,
                    engine=event.engine,
                )
            case PartCommitted():
                accuracy = event.test_accuracy
                self._log(
                    logging.INFO,
                    "part committed",
                    zoo=event.zoo,
                    stage=event.stage,
                    first_model=event.models[0],
                    models=len(event.models),
                    epoch=event.epochs[-1],
                    faulty=sum(event.num_faulty.values()),
                    test_accuracy=round(float(np.median(accuracy)), 4) if len(accuracy) else None,
                    seconds=round(event.train_seconds + event.commit_seconds, 3),
                )
            case Problem():
                level = logging.ERROR if event.kind == "failed" else logging.WARNING
                self._log(level, event.message, zoo=event.zoo, stage=event.stage, kind=event.kind)
            case Repriced():
                self._log(
                    logging.INFO,
                    "the first minute compared with the plan",
                    zoo=event.zoo,
                    stage=event.stage,
                    ratio=round(event.ratio, 3),
                    seconds=event.seconds,
                    dollars=event.dollars,
                )
            case StageEnded():
                self._log(logging.INFO, "stage ended", zoo=event.zoo, stage=event.stage, state=event.state)
        due = self._clock() - self._saved >= self._save_seconds
        if due or isinstance(event, Problem | StageEnded):
            self._saved = self._clock()
            self._handler.save()

    def _log(self, level: int, message: str, **values: Any) -> None:
        made = record(__name__, level, message, **values)
        self._handler.handle(made)
        as_json_line(made)


def read_logs(
    store: ObjectStore, run: str, *, since: float | None = None, level: str = "debug"
) -> Iterator[dict[str, Any]]:
    """Read the events of all attempts and sources, ordered by time. Lines that are not such events are skipped.

    Args:
        since: Unix time, seconds; earlier events are left out.
        level: the lowest level to return, one of ``LEVELS``.
    """
    wanted = LEVELS[LEVELS.index(level) :]
    events = []
    # An object that was written before ``since`` holds older events only.
    keys = [stat.key for stat in store.list(logs_prefix(run)) if since is None or stat.modified_seconds >= since]
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for data, _ in pool.map(store.get, keys):
            for line in data.decode("utf-8", "replace").splitlines():
                value = _event(line)
                if value is None or value["level"] not in wanted:
                    continue
                if since is None or seconds_of(value["time"]) >= since:
                    events.append(value)
    yield from sorted(events, key=lambda value: value["time"])


def seconds_of(time: str) -> float:
    """Unix time of an event's ``time``."""
    return datetime.fromisoformat(time).timestamp()


def _event(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
        seconds_of(value["time"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    texts = isinstance(value.get("level"), str) and isinstance(value.get("message"), str)
    return value if texts else None
