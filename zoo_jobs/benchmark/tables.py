"""The report of a protocol: one table, as text, Markdown, JSON and plots.

JSON holds no time, path or machine, so that equal runs give equal bytes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..quantities import markdown_table, table
from ..report.blocks import Panel
from .comparison import Counts, Result
from .leaks import summary
from .request import Request
from .scores import METRICS, mean_and_interval

FORMAT = "zooforge.benchmark"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Report:
    """The result of a protocol.

    Attributes:
        value: for JSON.
        rows: of the table, the head first; ``align`` has ``<`` or ``>`` for each column.
        notes: lines below the table.
    """

    value: Mapping[str, Any]
    rows: Sequence[Sequence[str]]
    align: str
    notes: Sequence[str] = ()
    panels: Sequence[Panel] = ()

    def lines(self) -> list[str]:
        return [*table([list(row) for row in self.rows], self.align), *self.notes]

    def markdown(self, title: str) -> str:
        lines = markdown_table(self.rows, self.align)
        return "\n".join([f"# {title}", "", *lines, "", *(f"- {note}" for note in self.notes), ""])

    def write(self, folder: Path, stem: str, title: str) -> list[Path]:
        """Write JSON, Markdown and, if there are plots, a PNG to ``folder``. Returns their paths."""
        contents = {".json": f"{json.dumps(self.value, indent=1)}\n".encode(), ".md": self.markdown(title).encode()}
        if self.panels:
            from ..report.charts.drawing import panels_png

            contents[".png"] = panels_png(self.panels, 3)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{stem}{suffix}" for suffix in contents]
        for path, data in zip(paths, contents.values(), strict=True):
            path.write_bytes(data)
        return paths


def report(
    protocol: str,
    request: Request,
    results: Sequence[Result],
    counts: Sequence[Counts],
    excluded: Mapping[str, int],
    settings: Mapping[str, Any],
    notes: Sequence[str] = (),
    panels: Callable[[Sequence[Result]], Sequence[Panel]] = lambda _: (),
) -> Report:
    """The report of predictions.

    Args:
        excluded: how many states were left out, by reason.
        settings: what the protocol was asked for, for JSON.
    """
    manifest = request.zoo.manifest
    value = {
        "format": FORMAT,
        "version": VERSION,
        "protocol": protocol,
        "zoo": manifest.zoo,
        "run": manifest.run,
        "zoo_version": request.zoo.version,
        "settings": dict(settings),
        "excluded": dict(excluded),
        "states": [
            {"target": c.target, "threshold": c.threshold, "on": c.tested_on, **c.states, "siblings": dict(c.siblings)}
            for c in counts
        ],
        "rows": [row_value(result) for result in results],
    }
    metrics = [name for name in METRICS if any(name in result.scores for result in results)]
    with_threshold = any(result.threshold is not None for result in results)
    with_others = any(result.tested_on for result in results)
    head = ["property", *["from"] * with_threshold, *["tested on"] * with_others, "method", *map(METRICS.get, metrics)]
    rows = [[str(cell) for cell in head]]
    for result in results:
        row = [result.target]
        row += [f"{result.threshold:.0%}" if result.threshold is not None else ""] * with_threshold
        row += [result.tested_on] * with_others
        row.append(result.method)
        row += [shown(result.scores.get(name, ())) for name in metrics]
        rows.append(row)
    align = "<" + ">" * with_threshold + "<" * with_others + "<" + ">" * len(metrics)
    left_out = [f"{count:,} states left out: {reason}" for reason, count in excluded.items() if count]
    reasons = dict.fromkeys(
        f"{r.method}{f' on {r.tested_on}' if r.tested_on else ''}: {r.note}" for r in results if r.note
    )
    return Report(value, rows, align, [*_counted(counts), *left_out, *reasons, *notes], panels(results))


def row_value(result: Result) -> dict[str, Any]:
    """A row of the table for JSON: means, half widths of intervals and the value of each seed; null where undefined."""
    scores = {}
    for metric, values in result.scores.items():
        mean, half = mean_and_interval(values)
        scores[metric] = {"mean": finite(mean), "interval": finite(half), "seeds": [finite(value) for value in values]}
    row: dict[str, Any] = {
        "target": result.target,
        "threshold": result.threshold,
        "on": result.tested_on,
        "method": result.method,
        "scores": scores,
    }
    return {**row, "note": result.note} if result.note else row


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def shown(values: Sequence[float]) -> str:
    """``0.913 ± 0.004``; a dash where it is undefined."""
    mean, half = mean_and_interval(values)
    if not math.isfinite(mean):
        return "–"
    return f"{mean:.3f} ± {half:.3f}" if math.isfinite(half) else f"{mean:.3f}"


def _counted(counts: Sequence[Counts]) -> list[str]:
    lines = []
    for one in counts:
        what = one.target + ("" if one.threshold is None else f" from {one.threshold:.0%}")
        what += f" on {one.tested_on}" if one.tested_on else ""
        sizes = ", ".join(f"{count:,} {split}" for split, count in one.states.items())
        relatives = f"; {summary(one.siblings, one.states['test'])}" if one.siblings else ""
        lines.append(f"{what}: {sizes}{relatives}")
    return list(dict.fromkeys(lines))
