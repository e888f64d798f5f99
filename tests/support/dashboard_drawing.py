"""Draws the panels of a board as one picture, without Grafana.

`python -m tests.support.dashboard_drawing FOLDER` draws every board over the simulated past.
"""

import math
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure

from tests.support.prometheus import BOARDS, Prometheus, board, expression, panels

UNITS = {"bytes": (1e9, "GB"), "Bps": (1e6, "MB/s"), "percentunit": (0.01, "%"), "s": (1, "s"), "currencyUSD": (1, "$")}


def draw_board(prometheus: Prometheus, path: Path, target: Path, hours: float = 8, step: float = 120) -> int:
    """Draw the board at ``path`` into ``target`` (PNG). Returns the number of panels with data."""
    now = time.time()
    grid = panels(path)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in grid)
    figure = Figure(figsize=(18, rows * 0.42), dpi=70)
    figure.suptitle(board(path)["title"], y=1 - 0.1 / rows)
    drawn = 0
    for panel in grid:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        bottom, height = 1 - (place["y"] + place["h"]) / rows, place["h"] / rows
        axes = figure.add_axes((left + 0.035, bottom + 0.28 * height, width - 0.05, 0.5 * height))
        axes.set_title(panel["title"], fontsize=9)
        drawn += _draw(prometheus, panel, axes, now - hours * 3600, now, step)
    figure.savefig(target)
    return drawn


def _draw(prometheus: Prometheus, panel: Any, axes: Any, start: float, end: float, step: float) -> bool:
    scale, unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1, ""))
    series: list[tuple[str, list[tuple[float, float]]]] = []
    for one in panel["targets"]:
        query = expression(one["expr"])
        if one["instant"]:
            series += [(_legend(one, labels), [(end, value)]) for labels, value in prometheus.query(query)]
        else:
            series += [(_legend(one, labels), points) for labels, points in prometheus.range(query, start, end, step)]
    series = [(name, [(t, v / scale) for t, v in points if math.isfinite(v)]) for name, points in series]
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "timeseries":
        if defaults["custom"]["stacking"]["mode"] == "normal" and series:
            _stack(axes, series, end)
        else:
            for name, points in series:
                width = 2 if name.endswith(" q0.5") else 1
                axes.plot([(t - end) / 3600 for t, _ in points], [v for _, v in points], linewidth=width, label=name)
        if defaults.get("min") == 0:
            axes.set_ylim(bottom=0)
        axes.set_xlim((start - end) / 3600, 0)
        axes.set_ylabel(unit, fontsize=7)
        if series:
            axes.legend(fontsize=6, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    else:
        axes.set_axis_off()
        lines = [f"{name}  {points[-1][1]:,.4g} {unit}" for name, points in series if points]
        axes.text(0.0, 1.0, "\n".join(lines), fontsize=9, va="top", family="monospace")
    axes.tick_params(labelsize=7)
    return any(points for _, points in series)


def _stack(axes: Any, series: list[tuple[str, list[tuple[float, float]]]], end: float) -> None:
    times = sorted({t for _, points in series for t, _ in points})
    layers = [[dict(points).get(t, 0.0) for t in times] for _, points in series]
    axes.stackplot([(t - end) / 3600 for t in times], layers, labels=[name for name, _ in series], alpha=0.7)


def _legend(target: Any, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"])


def main(folder: Path) -> None:
    from tests.support.past_runs import history

    folder.mkdir(parents=True, exist_ok=True)
    past, _ = history(time.time())
    with tempfile.TemporaryDirectory() as scratch, Prometheus(Path(scratch), {}, past) as prometheus:
        for path in BOARDS:
            drawn = draw_board(prometheus, path, folder / f"{path.stem}.png")
            sys.stdout.write(f"{path.stem}: {drawn} panels\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
