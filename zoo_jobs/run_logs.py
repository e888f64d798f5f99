"""Events of a run in its store: written in batches beside the parts, read back as one sequence."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from storage.errors import StorageError
from storage.keys import log_key, logs_prefix
from storage.object_store import ObjectStore

from .logs import event

LEVELS = ("debug", "info", "warning", "error", "critical")


class StoreLogHandler(logging.Handler):
    """Keeps events until ``save`` puts them into the store under one attempt and source, e.g. ``driver``.

    A store that does not answer costs no event and stops no run: they are kept for the next ``save``, the newest
    ``most`` of them.
    """

    def __init__(self, store: ObjectStore, run: str, attempt: str, source: str, *, most: int = 10_000) -> None:
        super().__init__(logging.INFO)
        self._store, self._run, self._attempt, self._source, self._most = store, run, attempt, source, most
        self._lines: list[str] = []
        self._number = 0
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        line = json.dumps({"run": self._run, **event(record)}, default=str)
        with self._guard:
            self._lines.append(line)
            del self._lines[: -self._most]

    def save(self) -> None:
        """Write what came since the last time, if anything did."""
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


def read_logs(
    store: ObjectStore, run: str, *, since: float | None = None, level: str = "debug"
) -> Iterator[dict[str, Any]]:
    """Events of all attempts and sources, by time; what is no event of ours is passed over.

    Args:
        since: Unix time, seconds; earlier events are left out.
        level: the least grave that is wanted, one of ``LEVELS``.
    """
    wanted = LEVELS[LEVELS.index(level) :]
    found = []
    for stat in store.list(logs_prefix(run)):
        if since is not None and stat.modified_seconds < since:
            continue  # written before, so all its events are older
        data, _ = store.get(stat.key)
        for line in data.decode("utf-8", "replace").splitlines():
            value = _event(line)
            if value is None or value["level"] not in wanted:
                continue
            if since is None or seconds_of(value["time"]) >= since:
                found.append(value)
    yield from sorted(found, key=lambda value: value["time"])


def seconds_of(time: str) -> float:
    """Unix time of an event's ``time``."""
    return datetime.fromisoformat(time).timestamp()


def clock_of(seconds: float) -> str:
    """Unix time as events have it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _event(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
        seconds_of(value["time"])
    except (ValueError, KeyError, TypeError):
        return None
    texts = isinstance(value.get("level"), str) and isinstance(value.get("message"), str)
    return value if texts else None
