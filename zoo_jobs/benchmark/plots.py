"""Plots of results: scores by method, or by threshold where there are several."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from ..report.blocks import Panel
from ..report.charts.drawing import CATEGORIES, percent_axis
from .comparison import Result
from .scores import METRICS, mean_and_interval

SHOWN = ("r2", "tau", "accuracy")
LEAST_SHOWN = -0.5  # a score far below zero would make differences of the others invisible
AXIS = (LEAST_SHOWN - 0.1, 1.05)


def panels(results: Sequence[Result]) -> list[Panel]:
    """A panel for each property, zoo that is tested on, and score."""
    drawn = []
    for target, zoo in dict.fromkeys((result.target, result.tested_on) for result in results):
        rows = [result for result in results if (result.target, result.tested_on) == (target, zoo) and result.scores]
        for metric in SHOWN:
            chosen = [row for row in rows if math.isfinite(mean_and_interval(row.scores.get(metric, ()))[0])]
            if chosen:
                drawn.append(_panel(f"{target}{f' on {zoo}' if zoo else ''}", metric, chosen))
    return drawn


def _panel(what: str, metric: str, rows: Sequence[Result]) -> Panel:
    methods = list(dict.fromkeys(row.method for row in rows))
    by_threshold = len({row.threshold for row in rows}) > 1
    best = max(rows, key=lambda row: mean_and_interval(row.scores[metric])[0])
    alt = f"{METRICS[metric]} of {what}: the best is {best.method}, {mean_and_interval(best.scores[metric])[0]:.3f}."

    def draw(axes: Axes) -> None:
        for place, method in enumerate(methods):
            own = [row for row in rows if row.method == method]
            means, halves = zip(*(mean_and_interval(row.scores[metric]) for row in own), strict=True)
            errors = [half if math.isfinite(half) else 0.0 for half in halves]
            heights = [max(mean, LEAST_SHOWN) for mean in means]
            colour = CATEGORIES[place % len(CATEGORIES)]
            if by_threshold:
                shift = 0.004 * (place - len(methods) / 2)  # so that error bars do not hide each other
                xs = [(row.threshold or 0.0) + shift for row in own]
                axes.errorbar(xs, heights, errors, color=colour, marker="o", markersize=4, label=method, capsize=2)
            else:
                axes.errorbar(
                    heights, [place] * len(own), xerr=errors, color=colour, marker="o", linestyle="none", capsize=2
                )
        if by_threshold:
            axes.set_xlabel("models from this test accuracy on")
            percent_axis(axes.xaxis)
            axes.set_ylim(AXIS)
            axes.legend(fontsize=9, frameon=False)
        else:
            axes.set_yticks(range(len(methods)), methods)
            axes.set_ylim(len(methods) - 0.5, -0.5)
            axes.set_xlim(AXIS)

    return Panel(f"{METRICS[metric]}: {what}", alt, draw, size=(430, 260))
