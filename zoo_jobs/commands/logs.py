"""`zoo logs`: events of a run, from the store."""

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import click

from ..errors import InputError
from ..watching.run_log import LEVELS, read_logs
from .working import open_existing_store, resolve, zoo_and_store

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@click.command("logs")
@zoo_and_store
@click.option("--since", metavar="WHEN", help="An age such as 90s, 30m, 2h, 1d, or a time such as 2026-03-01T12:00Z.")
@click.option("--level", type=click.Choice(LEVELS), default="info", show_default=True, help="The lowest level to show.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, as they are stored.")
def command(name: str, store: str, since: str | None, level: str, as_json: bool) -> None:
    """Print the events that drivers and workers of NAME's run logged, oldest first, times in UTC."""
    opened = open_existing_store(store)
    zoo = resolve(name, opened)
    earliest = None if since is None else _earliest(since, time.time())
    count = 0
    for event in read_logs(opened, zoo.run_id, since=earliest, level=level):
        count += 1
        click.echo(json.dumps(event, ensure_ascii=False) if as_json else _line(event))
    if not count:
        click.echo(f"{zoo.name}: run {zoo.run_id[:8]} has no such events in {store}", err=True)


def _earliest(text: str, now: float) -> float:
    """Unix time of ``2h`` before ``now``, or of an ISO time, UTC unless it says otherwise."""
    match = _AGO.fullmatch(text.strip())
    if match:
        return now - float(match[1]) * _SECONDS[match[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(
            f"--since {text!r}: expected an age such as 90s, 30m, 2h, 1d, or a time such as 2026-03-01T12:00Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _line(event: dict[str, Any]) -> str:
    shown = ("time", "level", "source", "message", "run", "exception")
    rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in shown)
    text = f"{event['time'][:19].replace('T', ' ')} {event['level']:<8} {event['message']}"
    text += f" ({rest})" if rest else ""
    return f"{text}\n{event['exception']}" if event.get("exception") else text
