"""Formats log records: sentences for a terminal, JSON lines for machines."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, ClassVar

LOGGER = logging.getLogger("zooforge")  # every module's logger is below it
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def event(record: logging.LogRecord) -> dict[str, Any]:
    """A record as an event: time, level, source, message, and the fields of ``extra``."""
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"}
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "source": record.name,
        "message": record.getMessage(),
        **extra,
    }
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    run: ClassVar[str] = ""  # id of the run that this process works on

    def format(self, record: logging.LogRecord) -> str:
        run = {"run": self.run} if self.run else {}
        return json.dumps({**run, **event(record)}, default=str)


class HumanFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = event(record)
        exception = fields.pop("exception", None)
        rest = {k: v for k, v in fields.items() if k not in ("time", "level", "source", "message")}
        values = " ".join(f"{name}={value}" for name, value in rest.items())
        line = f"{fields['message']}" + (f" ({values})" if values else "")
        return f"{line}\n{exception}" if exception else line


def record(source: str, level: int, message: str, **values: Any) -> logging.LogRecord:
    """A record for handlers, whatever the level of a logger."""
    known = {"name": source, "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    return logging.makeLogRecord({**known, **values})


def as_json_line(made: logging.LogRecord) -> bool:
    """Write a record if logs are JSON lines, as in pods. Returns False, and writes nothing, if they are sentences."""
    handlers = [handler for handler in LOGGER.handlers if isinstance(handler.formatter, JsonFormatter)]
    for handler in handlers:
        handler.handle(made)
    return bool(handlers)


def set_up(verbose: bool) -> None:
    """Send the records of zooforge to stderr. Only command lines call this.

    With ``ZOO_LOG=json``, as in pods, all records are JSON lines; otherwise warnings and errors are sentences, and with
    ``verbose`` all records are.
    """
    as_json = os.environ.get("ZOO_LOG") == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else HumanFormatter())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO if verbose or as_json else logging.WARNING)
    LOGGER.propagate = False
