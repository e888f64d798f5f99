"""The panels of the weight map: where models begin, how they move, where they end."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from .. import words
from ..blocks import Panel
from ..measure import Measure
from ..population import Floats
from ..weight_map import WeightMap
from .drawing import CATEGORIES, COLOUR_MAP, INK, MUTED, PAPER, RASTER_POINTS

SIZE = (420, 370)  # a phone shows it at 85 %, so that labels stay readable
GROWTH = 0.3  # room for each character of the legend, in font sizes: page.css enlarges the texts on a phone
MAX_TRAJECTORIES = 400


def measure_map_panel(shown: WeightMap, values_N: Floats, measure: Measure) -> Panel:
    """Last states, coloured by ``measure``; a line leads to each from its first state, which is a ring."""
    known = np.isfinite(values_N)
    low, high = _range(values_N[known])
    colours, scale = colormaps[COLOUR_MAP], Normalize(low, high)

    def draw(axes: Axes) -> None:
        _trajectories(axes, shown)
        ends = shown.points_NK2[:, -1]
        order = np.argsort(np.where(known, values_N, -np.inf), kind="stable")  # the best are drawn last
        order = order[np.isfinite(ends[order, 0])]
        face = np.where(known[order, None], colours(scale(np.nan_to_num(values_N[order]))), (0.6, 0.6, 0.6, 1.0))
        _dots(axes, ends[order], face)
        _axes(axes, shown)
        key = axes.inset_axes((0.02, 0.945, 0.3, 0.03))
        key.imshow(np.linspace(0, 1, 64)[None], aspect="auto", cmap=COLOUR_MAP, extent=(0, 1, 0, 1))
        key.set_xticks(
            [0, 1],
            [words.percent(end, 0) if measure.unit == "%" else measure.show(end) for end in (low, high)],
            fontsize=10,
        )
        key.set_yticks([])
        key.grid(visible=False)
        key.spines[:].set_visible(False)

    alt = (
        f"Map of {words.count(len(shown.models_N), 'model')}: each dot is the weight vector of a model at epoch "
        f"{shown.epochs_K[-1]}, coloured by {measure.name} from {measure.show(low)} to {measure.show(high)}."
    )
    return Panel(f"Coloured by {measure.name}", alt, draw, f"at epoch {shown.epochs_K[-1]}{_outside(shown)}", SIZE)


def category_map_panel(shown: WeightMap, name: str, values_N: NDArray[Any]) -> Panel:
    """The same map, coloured by the values of one hyperparameter."""
    kinds = sorted(set(values_N.tolist()))
    longest = max(len(words.value(kind)) for kind in kinds)

    def draw(axes: Axes) -> None:
        _trajectories(axes, shown)
        ends = shown.points_NK2[:, -1]
        there = np.flatnonzero(np.isfinite(ends[:, 0]))
        palette = np.array([_rgba(CATEGORIES[kinds.index(v) % len(CATEGORIES)]) for v in values_N.tolist()])
        _dots(axes, ends[there], palette[there])
        for kind in kinds:
            colour = CATEGORIES[kinds.index(kind) % len(CATEGORIES)]
            axes.scatter([], [], s=30, color=colour, edgecolors=MUTED, linewidths=0.8, label=words.value(kind))
        _axes(axes, shown)
        axes.legend(
            frameon=False, ncols=_columns(longest), loc="upper left", labelcolor=INK, handletextpad=0.2,
            columnspacing=1 + GROWTH * longest, fontsize=10, borderpad=0,
        )  # fmt: skip

    label = words.name(name).lower()
    shares = [f"{words.value(kind)} ({words.count(int((values_N == kind).sum()), 'model')})" for kind in kinds]
    alt = f"The same map of {words.count(len(values_N), 'model')}, coloured by {label}: {words.sentence(shares)}."
    return Panel(f"Coloured by {label}", alt, draw, "the same dots", SIZE)


def _trajectories(axes: Axes, shown: WeightMap) -> None:
    rows = np.unique(np.linspace(0, len(shown.models_N) - 1, min(len(shown.models_N), MAX_TRAJECTORIES)).round())
    paths = [path[np.isfinite(path[:, 0])] for path in shown.points_NK2[rows.astype(int)]]
    paths = [path for path in paths if len(path) > 1]
    raster = sum(len(path) for path in paths) > RASTER_POINTS
    axes.add_collection(LineCollection(paths, colors=MUTED, linewidths=0.7, alpha=0.45, rasterized=raster))
    starts = shown.points_NK2[rows.astype(int), 0]
    starts = starts[np.isfinite(starts[:, 0])]
    axes.scatter(
        starts[:, 0], starts[:, 1], s=12, facecolors=PAPER, edgecolors=MUTED, linewidths=0.8,
        rasterized=len(starts) > RASTER_POINTS,
    )  # fmt: skip


def _dots(axes: Axes, points: Floats, colours: NDArray[Any]) -> None:
    many = len(points) > RASTER_POINTS
    axes.scatter(
        points[:, 0], points[:, 1], s=12 if many else 26, c=colours, edgecolors=MUTED, linewidths=0.4 if many else 0.8,
        zorder=3, rasterized=many,
    )  # fmt: skip


def _axes(axes: Axes, shown: WeightMap) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"first direction, {words.percent(shown.explained[0], 0)} of the variance")
    axes.set_ylabel(f"second, {words.percent(shown.explained[1], 0)}")
    axes.tick_params(labelbottom=False, labelleft=False)
    low, high = _frame(shown)
    margin = np.maximum(high - low, 1e-9) * (0.05, 0.12)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0], auto=True)  # the equal aspect may widen one of the axes
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1], auto=True)


def _frame(shown: WeightMap) -> tuple[Floats, Floats]:
    """Lower left and upper right corner: all states, but at most half the extent of the middle 96% beyond it.

    Otherwise one path that leaves and comes back would shrink all others to a point.
    """
    states = shown.points_NK2.reshape(-1, 2)
    states = states[np.isfinite(states[:, 0])]
    low, high = np.quantile(states, (0.02, 0.98), axis=0)
    reach = 0.5 * (high - low)
    return np.maximum(states.min(axis=0), low - reach), np.minimum(states.max(axis=0), high + reach)


def _outside(shown: WeightMap) -> str:
    low, high = _frame(shown)
    ends = shown.points_NK2[:, -1]
    count = int(((ends < low) | (ends > high)).any(axis=1).sum())
    return f"; up to {words.count(count, 'dot lies', 'dots lie')} outside the frame" if count else ""


def _range(values: Floats) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high - low > 0.01 else (low - 0.005, high + 0.005)


def _columns(longest: int) -> int:
    """Columns of the legend that fit into the width of the map, for labels of up to ``longest`` characters."""
    return max(1, int((SIZE[0] - 40) / ((7 + 10 * GROWTH) * longest + 24)))


def _rgba(colour: str) -> tuple[float, ...]:
    return (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)
