"""Panels of the report: one small chart each, drawn by matplotlib, as SVG inside the page and as PNG beside it.

Equal values give equal bytes: no dates, ids from a fixed salt, and fonts that matplotlib brings along.
"""

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

# Okabe and Ito's palette, which colour-blind people can tell apart (Color Universal Design, 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442",
)  # fmt: skip
CATEGORIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
COLOUR_MAP = "viridis"

# These are replaced by the page's variables, so that the charts follow a light or a dark page.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5a6470", "#dfe3e8", "#fefefe"
_VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)", BLUE: "var(--blue)",
    SKY: "var(--sky)", GREEN: "var(--green)", VERMILION: "var(--vermilion)",
}  # fmt: skip

RASTER_POINTS = 1500  # more marks than this become pixels, which keeps a page of any zoo below a few megabytes
SVG_RASTER_DPI = 200
PNG_DPI = 160
CHARACTER, LINE = 7.2, 16.0  # width and height of a label's text, in CSS pixels; no digit or letter in use is wider
GUTTER, TITLE = 24.0, 34.0  # between the panels of a picture, and above each
_UNITS_PER_INCH = 72.0

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.linewidth": 1.0,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "path.simplify": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "zooforge",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Panel:
    """One chart. ``alt`` says in a sentence what a person sees in it; ``size`` is width and height in CSS pixels."""

    title: str
    alt: str
    draw: Callable[[Axes], None]
    note: str = ""
    size: tuple[float, float] = (360, 250)


@contextmanager
def _style() -> Iterator[None]:
    """The report's own style on top of matplotlib's defaults: a person's matplotlibrc does not count."""
    with mpl.rc_context():
        defaults: Any = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")}
        mpl.rcParams.update(defaults)
        mpl.rcParams.update(_STYLE)
        yield


def panel_svg(panel: Panel, name: str) -> str:
    """The panel as an ``<svg>`` element that needs nothing else; its ids begin with ``name``, unique in a page."""
    width, height = panel.size
    with _style():
        figure = _figure(width, height)
        _draw(panel, figure, 0, 0)
        text = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", dpi=SVG_RASTER_DPI, metadata=metadata)
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    inner = body[body.index(">") + 1 : body.rindex("</svg>")]
    inner = re.sub(r"<!--.*?-->\s*", "", inner, flags=re.DOTALL)
    inner = _own_ids(inner, name)
    inner = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1var(--font)", inner)
    for colour, variable in _VARIABLES.items():
        inner = inner.replace(colour, variable)
    inner = re.sub(r"\s*\n\s*", "\n", inner).strip()
    inner = inner.replace("base64,\n", "base64,")
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{name}-alt">'
        f'<title id="{name}-alt">{html.escape(panel.alt)}</title>\n{inner}\n</svg>'
    )


def _own_ids(inner: str, name: str) -> str:
    """Keep the ids that something refers to, under names that no other panel uses."""
    used = set(re.findall(r"url\(#([^)]+)\)", inner)) | set(re.findall(r'href="#([^"]+)"', inner))
    order = {
        found: f"{name}-{number}" for number, found in enumerate(dict.fromkeys(re.findall(r'id="([^"]+)"', inner)))
    }

    def renamed(match: re.Match[str]) -> str:
        return f' id="{order[match[1]]}"' if match[1] in used else ""

    inner = re.sub(r'\s+id="([^"]+)"', renamed, inner)
    inner = re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{order[match[1]]})", inner)
    return re.sub(r'href="#([^"]+)"', lambda match: f'href="#{order[match[1]]}"', inner)


def panels_png(panels: Sequence[Panel], columns: int) -> bytes:
    """The panels side by side with their titles, as one picture on white."""
    rows = -(-len(panels) // columns)
    columns = min(columns, len(panels))
    grid = [panels[row * columns : (row + 1) * columns] for row in range(rows)]
    widths = [max(line[column].size[0] for line in grid if column < len(line)) + GUTTER for column in range(columns)]
    heights = [max(panel.size[1] for panel in line) + TITLE for line in grid]
    with _style():
        figure = _figure(sum(widths) + GUTTER, sum(heights) + GUTTER)
        figure.set_facecolor("white")
        FigureCanvasAgg(figure)
        for row, line in enumerate(grid):
            for column, panel in enumerate(line):
                left, top = sum(widths[:column]) + GUTTER, sum(heights[:row]) + TITLE
                _draw(panel, figure, left, top, panel.title)
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return data.getvalue()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width / _UNITS_PER_INCH, height / _UNITS_PER_INCH))


def _draw(panel: Panel, figure: Figure, left: float, top: float, title: str = "") -> None:
    """Draw into the rectangle of the panel's size at ``left``, ``top`` (CSS pixels), and leave room for the labels.

    Margins follow from the labels' lengths; matplotlib's own layouts measure every text and take twice the time.
    """
    width, height = figure.get_size_inches() * _UNITS_PER_INCH
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    panel.draw(axes)
    shown = axes.yaxis.get_tick_params()["labelleft"]
    labels = axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks().tolist()) if shown else []
    longest = max((len(label) for label in labels), default=0)
    lines = max((label.get_text().count("\n") for label in axes.get_xticklabels()), default=0) + 1
    inner_left = left + CHARACTER * longest + (8 if longest else 2) + (LINE if axes.get_ylabel() else 0)
    inner_right = left + panel.size[0] - 12
    inner_top, bottom = top + 8, LINE * lines + 6 + (LINE if axes.get_xlabel() else 0)
    inner_bottom = top + panel.size[1] - bottom
    axes.set_position(
        (
            inner_left / width, 1 - inner_bottom / height, (inner_right - inner_left) / width,
            (inner_bottom - inner_top) / height,
        )
    )  # fmt: skip
    if title:
        figure.text(left / width, 1 - (top - 6) / height, title, fontsize=13, fontweight="bold")


def percent_axis(axis: Any, digits: int = 0, unit: str = "%") -> None:
    """Ratios as percent, or without a unit as percentage points."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.{digits}f}{unit}".replace("-", "−")))


def ticks(axis: Any, most: int, *, whole: bool = False) -> None:
    axis.set_major_locator(MaxNLocator(most, integer=whole))


def loss_axis(axes: Axes, low: float, high: float) -> None:
    """Logarithmic where losses span more than a factor of 20."""
    if low > 0 and high / low > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}")
        )
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, high * 1.06 or 1.0)


def epoch_axis(axes: Axes, first: float, last: float) -> None:
    """Whole epochs, with room for a zoo that has only one."""
    axes.set_xlabel("epoch")
    ticks(axes.xaxis, 7, whole=True)
    margin = max(0.02 * (last - first), 0.05)
    axes.set_xlim(first - margin, last + margin)
