"""The panels that show labels: metrics by epoch and by hyperparameter, each with a sentence that says the same."""

# Shape suffixes: N = models, E = epochs, Q = quantiles.

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from .. import words
from ..blocks import Panel
from ..measure import Measure
from ..population import Floats
from ..statistics import Bands, Influence, Table, quantiles
from .drawing import (
    BLUE,
    COLOUR_MAP,
    INK,
    MUTED,
    PAPER,
    RASTER_POINTS,
    VERMILION,
    epoch_axis,
    loss_axis,
    percent_axis,
    text_colour,
    ticks,
)

UNIT = (-0.02, 1.02)  # the axis of a ratio: the whole of it, so that panels compare


def bands_panel(
    title: str,
    what: str,
    shown: Bands,
    colour: str = BLUE,
    *,
    epochs: tuple[int, int],
    unit: str = "%",
    chance_ratio: float | None = None,
    note: str = "",
) -> Panel:
    """Median, middle half and middle nine tenths of the models over ``epochs``.

    Args:
        unit: ``%`` for a ratio, ``pp`` for a difference of ratios, ``loss`` for a loss, ``dB`` for decibels.
    """

    def draw(axes: Axes) -> None:
        q5, q25, q50, q75, q95 = shown.values_QE
        if chance_ratio is not None:
            axes.axhline(chance_ratio, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), zorder=1.5)
            axes.annotate(
                "chance", (1, chance_ratio), (0, -3), ("axes fraction", "data"), "offset points",
                ha="right", va="top", color=MUTED, fontsize=10,
            )  # fmt: skip
        if unit == "pp":
            axes.axhline(0, color=MUTED, linewidth=1, zorder=1.5)
        axes.fill_between(shown.epochs_E, q5, q95, color=colour, alpha=0.16, linewidth=0)
        axes.fill_between(shown.epochs_E, q25, q75, color=colour, alpha=0.3, linewidth=0)
        few = len(shown.epochs_E) <= 16
        axes.plot(shown.epochs_E, q50, color=colour, linewidth=2, marker="o" if few else None, markersize=4)
        if len(shown.epochs_E) == 1:
            axes.vlines(shown.epochs_E, q5, q95, color=colour, linewidth=2, alpha=0.4)
            axes.vlines(shown.epochs_E, q25, q75, color=colour, linewidth=5, alpha=0.4)
        if unit == "loss":
            loss_axis(axes, float(q5.min(initial=1.0)), float(q95.max(initial=1.0)))
        elif unit == "dB":
            axes.set_ylim(_padded(shown.values_QE))
            ticks(axes.yaxis, 6)
        else:
            axes.set_ylim(_padded(shown.values_QE) if unit == "pp" else UNIT)
            percent_axis(axes.yaxis, unit="%" if unit == "%" else "")
        epoch_axis(axes, *epochs)

    return Panel(title, _bands_alt(what, shown, SHOW[unit]), draw, note)


SHOW: dict[str, Callable[[float], str]] = {
    "%": words.percent,
    "pp": words.points,
    "loss": words.number,
    "dB": words.decibels,
}


def _padded(values: Floats) -> tuple[float, float]:
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    margin = max(0.06 * (high - low), 0.005)
    return low - margin, high + margin


def _bands_alt(what: str, shown: Bands, show: Callable[[float], str]) -> str:
    if not len(shown.epochs_E):
        return f"{what}: no values."
    start, end = shown.values_QE[:, 0], shown.values_QE[:, -1]
    text = (
        f"{what}: median {show(end[2])} at epoch {shown.epochs_E[-1]}, the middle half of the models from "
        f"{show(end[1])} to {show(end[3])}"
    )
    if len(shown.epochs_E) > 1:
        text += f"; at epoch {shown.epochs_E[0]} the median was {show(start[2])}"
    return text + "."


def histogram_panel(title: str, what: str, values: Floats, chance_ratio: float | None = None) -> Panel:
    """Number of models by a final ratio; bins are narrow if the values are close together, wide if there are few."""
    finite = values[np.isfinite(values)]
    low, high = (0.0, 1.0) if not len(finite) else (float(finite.min()), float(finite.max()))
    width = 0.02 if high - low > 0.2 else 0.005 if high - low > 0.04 else 0.001
    width *= 2.5 if len(finite) < 100 and width == 0.02 else 1
    edges = np.arange(np.floor(low / width), np.floor(high / width) + 2) * width
    counts, _ = np.histogram(finite, edges)

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], counts, width, align="edge", color=BLUE, edgecolor=PAPER, linewidth=0.8)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("models")
        axes.set_ylim(0, max(1, counts.max(initial=0)) * 1.14)
        ticks(axes.yaxis, 6, whole=True)
        percent_axis(axes.xaxis, 1 if width == 0.001 else 0)
        ticks(axes.xaxis, 6)
        if len(finite):
            median = float(np.median(finite))
            axes.axvline(median, color=INK, linewidth=1.4)
            right = median < (edges[0] + edges[-1]) / 2
            axes.annotate(
                "median", (median, 0.99), (4 if right else -4, 0), ("data", "axes fraction"), "offset points",
                ha="left" if right else "right", va="top", fontsize=10,
            )  # fmt: skip
        if chance_ratio is not None and edges[0] <= chance_ratio <= edges[-1]:
            axes.axvline(chance_ratio, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))

    q = quantiles(finite)
    alt = f"Histogram of {what} of {words.count(len(finite), 'model')}"
    if len(finite):
        alt += f": from {words.percent(low)} to {words.percent(high)}, median {words.percent(q[2])}"
    return Panel(title, alt + ".", draw, f"{words.count(len(finite), 'model')}, bins of {words.value(100 * width)} pp")


def influence_panel(
    influence: Influence, chance_ratio: float | None = None, limits: tuple[float, float] = UNIT
) -> Panel:
    """Final accuracy of every model by the values of one hyperparameter, with the quartiles on top."""
    groups = list(influence.groups.items())

    def draw(axes: Axes) -> None:
        total = sum(len(values) for _, values in groups)
        for row, (_, values) in enumerate(groups):
            if not len(values):
                continue
            # Golden-ratio offsets spread the points evenly without a random number.
            offsets = ((np.arange(len(values)) * 0.618034) % 1 - 0.5) * 0.56
            axes.scatter(
                values, row + offsets, s=_dot(total), color=BLUE, alpha=0.55 if total < 800 else 0.3, linewidths=0,
                rasterized=total > RASTER_POINTS,
            )  # fmt: skip
            q = quantiles(values)
            axes.hlines(row, q[0], q[4], color=INK, linewidth=1.2)
            axes.hlines(row, q[1], q[3], color=INK, linewidth=5)
            axes.plot(q[2], row, "o", color=PAPER, markersize=7, markeredgecolor=INK, markeredgewidth=1.6)
        if chance_ratio is not None:
            axes.axvline(chance_ratio, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        axes.set_yticks(range(len(groups)), [words.value(value) for value, _ in groups])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(limits)
        percent_axis(axes.xaxis)

    medians = [f"{words.value(v)} {words.percent(quantiles(g)[2])}" for v, g in groups]
    name = words.name(influence.name)
    return Panel(
        name,
        f"Final test accuracy by {name.lower()}, medians: {words.sentence(medians)}.",
        draw,
        f"explains {words.percent(influence.share, 0)} of the variance by itself",
        (360, 86 + 40 * len(groups)),
    )


def heat_panel(table: Table) -> Panel:
    """Median final accuracy by two hyperparameters, each cell with its number."""
    colours, scale = colormaps[COLOUR_MAP], Normalize(0, 1)

    def draw(axes: Axes) -> None:
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        for r in range(len(table.rows)):
            for c in range(len(table.columns)):
                median = table.medians[r, c]
                if np.isnan(median):
                    axes.text(c, r, words.NONE, ha="center", va="center", color=MUTED)
                    continue
                axes.fill_between([c - 0.48, c + 0.48], r - 0.47, r + 0.47, color=colours(scale(median)), linewidth=0)
                axes.text(c, r, words.percent(median, 0), ha="center", va="center", color=text_colour(float(median)))
        axes.set_xticks(range(len(table.columns)), [words.value(v).replace(" ", "\n") for v in table.columns])
        axes.set_yticks(range(len(table.rows)), [words.value(v) for v in table.rows])
        axes.tick_params(labelcolor=INK)
        axes.set_xlim(-0.5, len(table.columns) - 0.5)
        axes.set_ylim(len(table.rows) - 0.5, -0.5)

    filled = [
        (table.medians[r, c], f"{words.value(row)} with {words.value(column)}")
        for r, row in enumerate(table.rows)
        for c, column in enumerate(table.columns)
        if not np.isnan(table.medians[r, c])
    ]
    row_name, column_name = words.name(table.row_name), words.name(table.column_name)
    alt = f"Median final test accuracy by {row_name.lower()} and {column_name.lower()}"
    if filled:
        alt += (
            f": highest {words.percent(max(filled)[0])} for {max(filled)[1]}, "
            f"lowest {words.percent(min(filled)[0])} for {min(filled)[1]}"
        )
    return Panel(
        f"{row_name} × {column_name.lower()}", alt + ".", draw, "median final test accuracy of each pair",
        (360, 70 + 40 * len(table.rows)),
    )  # fmt: skip


def scatter_panel(
    title: str, what: str, x_N: Floats, y_N: Floats, x_label: str, y_label: str, *, unit: str = "pp", note: str = ""
) -> Panel:
    """One dot per model: a ratio on the x axis, a difference on the y axis.

    Args:
        unit: of the differences: ``pp`` for ratios, ``dB`` for decibels.
    """
    change = words.points if unit == "pp" else words.more_decibels
    both = np.isfinite(x_N) & np.isfinite(y_N)

    def draw(axes: Axes) -> None:
        many = int(both.sum()) > RASTER_POINTS
        axes.scatter(
            x_N[both],
            y_N[both],
            s=_dot(len(x_N)),
            color=BLUE,
            alpha=0.25 if many else 0.55,
            linewidths=0,
            rasterized=many,
        )
        axes.axhline(0, color=MUTED, linewidth=1, zorder=1.5)
        axes.set_xlabel(x_label)
        axes.set_ylabel(f"{y_label}, {unit}")
        axes.margins(0.06)
        for axis, values, suffix in ((axes.xaxis, x_N[both], "%"), (axes.yaxis, y_N[both], "")):
            if axis is axes.xaxis or unit == "pp":
                percent_axis(axis, 1 if len(values) and np.ptp(values) < 0.06 else 0, suffix)
            ticks(axis, 6)

    alt = f"{what}, {words.count(int(both.sum()), 'model')}"
    if both.any():
        alt += (
            f": {x_label} from {words.percent(x_N[both].min())} to {words.percent(x_N[both].max())}, "
            f"{y_label} from {change(y_N[both].min())} to {change(y_N[both].max())}"
        )
    return Panel(title, f"{alt}.", draw, note)


def _dot(num_models: int) -> float:
    """Area of the dot of a model: large if there are few models."""
    return float(np.clip(4000 / max(num_models, 1), 8, 36))


def trade_panel(
    sparsity_NE: Floats, values_NE: Floats, epochs_E: NDArray[np.int64], parents: float, measure: Measure
) -> Panel:
    """A metric against sparsity: thin lines are twins, the thick line joins the medians of the epochs.

    Args:
        parents: the parents' median, for a line; NaN without one.
    """
    medians = np.array([[quantiles(sparsity_NE[:, e])[2], quantiles(values_NE[:, e])[2]] for e in range(len(epochs_E))])

    def draw(axes: Axes) -> None:
        shown = np.unique(np.linspace(0, len(sparsity_NE) - 1, min(len(sparsity_NE), 200)).round().astype(int))
        many = shown.size * len(epochs_E) > RASTER_POINTS
        for row in shown:
            axes.plot(sparsity_NE[row], values_NE[row], color=VERMILION, alpha=0.18, linewidth=0.8, rasterized=many)
        axes.plot(medians[:, 0], medians[:, 1], color=VERMILION, linewidth=2.2, marker="o", markersize=4)
        named = [0, *[e for e in range(1, len(epochs_E)) if epochs_E[e] in (2, 5, 10)], len(epochs_E) - 1]
        for e in dict.fromkeys(named):
            if np.isfinite(medians[e]).all():
                axes.annotate(
                    f"{epochs_E[e]}", medians[e], (0, 6), textcoords="offset points", ha="center", fontsize=10,
                    fontweight="bold",
                )  # fmt: skip
        if np.isfinite(parents):
            axes.axhline(parents, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
            axes.annotate(
                "dense parents", (1, parents), (0, 3), ("axes fraction", "data"), "offset points",
                ha="right", color=MUTED, fontsize=10,
            )  # fmt: skip
        axes.set_xlim(UNIT)
        axes.set_xlabel("sparsity")
        percent_axis(axes.xaxis)
        if measure.unit == "%":
            axes.set_ylabel(measure.name)
            axes.set_ylim(UNIT)
            percent_axis(axes.yaxis)
        else:
            axes.set_ylabel(f"{measure.name}, {measure.unit}")

    alt = (
        f"Median {measure.name} against median sparsity over the sparsification epochs: from "
        f"{measure.show(medians[0, 1])} at {words.percent(medians[0, 0])} sparsity to "
        f"{measure.show(medians[-1, 1])} at {words.percent(medians[-1, 0])}."
    )
    return Panel(f"{measure.title} against sparsity", alt, draw, "numbers are sparsification epochs")


def faulty_panel(noun: str, epochs: Sequence[int], reasons: Sequence[str], last_epoch: int) -> Panel:
    """Number of models, or twins, that became faulty, by epoch and reason, stacked."""
    kinds = [kind for kind in ("nan", "inf", "parent") if kind in reasons]
    colours = {"nan": VERMILION, "inf": BLUE, "parent": MUTED}
    counts = {
        k: np.bincount([e for e, r in zip(epochs, reasons, strict=True) if r == k], minlength=last_epoch + 1)
        for k in kinds
    }

    def draw(axes: Axes) -> None:
        bottom = np.zeros(last_epoch + 1)
        for kind in kinds:
            axes.bar(range(last_epoch + 1), counts[kind], 0.8, bottom, color=colours[kind], label=kind)
            bottom += counts[kind]
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("models")
        ticks(axes.yaxis, 5, whole=True)
        axes.set_xlabel("epoch")
        ticks(axes.xaxis, 7, whole=True)
        axes.set_xlim(-0.6, last_epoch + 0.6)
        axes.set_ylim(0, max(1.0, bottom.max()) * 1.25)
        axes.legend(frameon=False, ncols=len(kinds), loc="upper right", labelcolor=INK, handlelength=1, fontsize=10)

    alt = f"{words.count(len(epochs), noun)} became faulty between epoch {min(epochs)} and epoch {max(epochs)}."
    return Panel(f"Faulty {noun}s by epoch", alt, draw)
