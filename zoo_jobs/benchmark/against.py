"""Compares a report with one that was recorded before."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .scores import METRICS
from .tables import FORMAT, VERSION, Report


def read_recorded(path: Path, protocol: str) -> Mapping[str, Any]:
    """Read a file that ``--out`` wrote. Raises InputError: another kind of file, or another protocol."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--against {path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(f"--against {path}: no JSON") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("version") != VERSION:
        raise InputError(f"--against {path}: not a report of `zoo benchmark` in version {VERSION} of its format")
    if value["protocol"] != protocol:
        raise InputError(f"--against {path}: recorded by protocol {value['protocol']}, this is {protocol}")
    return value


def compared(report: Report, recorded: Mapping[str, Any]) -> tuple[list[list[str]], list[str]]:
    """A table of recorded and new means, and lines about other differences."""
    before = {_key(row): row for row in recorded["rows"]}
    rows = [["property", "from", "tested on", "method", "score", "recorded", "now", "difference", ""]]
    for row in report.value["rows"]:
        other = before.pop(_key(row), None)
        for metric, score in row["scores"].items():
            old = (other or {"scores": {}})["scores"].get(metric)
            rows.append([*_named(row), METRICS.get(metric, metric), *_difference(old, score)])
    notes = [
        f"{name}: recorded {recorded[name]}, now {report.value[name]}"
        for name in ("zoo", "run", "zoo_version", "settings")
        if recorded.get(name) != report.value[name]
    ]
    notes += [f"recorded, and not here: {', '.join(filter(None, _named(row)))}" for row in before.values()]
    return rows, notes


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["target"], row["threshold"], row["on"], row["method"]


def _named(row: Mapping[str, Any]) -> list[str]:
    threshold = "" if row["threshold"] is None else f"{row['threshold']:.0%}"
    return [row["target"], threshold, row["on"], row["method"]]


def _difference(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    mean = new["mean"]
    now = "–" if mean is None else f"{mean:.3f}"
    if old is None:
        return ["", now, "", "new"]
    if old == new:
        return [now, now, "", "equal"]
    if old["mean"] is None or mean is None:
        return ["–" if old["mean"] is None else f"{old['mean']:.3f}", now, "", "differs"]
    apart = mean - old["mean"]
    inside = old["interval"] is not None and abs(apart) <= old["interval"]
    word = "within the recorded interval" if inside else "differs"
    return [f"{old['mean']:.3f}", now, f"{apart:+.3f}", word]
