"""Draws panels with matplotlib: as SVG for the page, and as PNG files next to it.

Equal values give equal bytes: no dates, ids from a fixed salt, and the fonts that matplotlib ships.
"""

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..blocks import Panel

# Okabe and Ito's palette, which colour-blind people can tell apart (Color Universal Design, 2008). Its dots have an
# edge, which has the contrast with the paper that some of the colours lack.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442",
)  # fmt: skip
OCHRE, PLUM = "#b87a00", "#b5598e"  # for lines, which need a contrast of 3:1
CATEGORIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
COLOUR_MAP = "viridis"

# In the SVG, these are replaced by the variables of page.css, so that charts follow a light or a dark page.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5a6470", "#dfe3e8", "#fefefe"
_VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)", BLUE: "var(--blue)",
    SKY: "var(--sky)", GREEN: "var(--green)", VERMILION: "var(--vermilion)", OCHRE: "var(--ochre)", PLUM: "var(--plum)",
}  # fmt: skip

RASTER_POINTS = 1500  # more marks than this are drawn as pixels, which keeps the page of any zoo below 4 MB
SVG_RASTER_DPI = 200
PNG_DPI = 160
CHARACTER, LINE = 7.2, 16.0  # width of a character and height of a line of labels, in CSS pixels
GUTTER, TITLE = 24.0, 34.0  # between the panels of a picture, and above each
_UNITS_PER_INCH = 72.0
_TAG = r"<[^<>]*>"  # matplotlib escapes < and > in texts and attributes

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
    "text.parse_math": False,  # a label with a dollar sign is text
    "xtick.color": MUTED,
    "xtick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
}


@contextmanager
def _style() -> Iterator[None]:
    """The report's style on top of matplotlib's defaults, without the user's matplotlibrc."""
    with mpl.rc_context():
        defaults: Any = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")}
        mpl.rcParams.update(defaults)
        mpl.rcParams.update(_STYLE)
        yield


def panel_svg(panel: Panel, name: str) -> str:
    """The panel as an ``<svg>`` element that refers to nothing outside. Its ids begin with ``name``."""
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
    inner = _with_own_attributes(inner, name)
    inner = re.sub(r"\s*\n\s*", "\n", inner).strip()
    inner = inner.replace("base64,\n", "base64,")
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{name}-alt">'
        f'<title id="{name}-alt">{html.escape(panel.alt)}</title>\n{inner}\n</svg>'
    )


def _with_own_attributes(inner: str, name: str) -> str:
    """Change the attributes of the elements, and no text, since labels may look like attributes.

    Keeps the ids that an attribute refers to, under names that no other panel uses; replaces colours and fonts by the
    variables of the page.
    """
    tags = re.findall(_TAG, inner)
    used = {match for tag in tags for match in re.findall(r'(?:url\(#|href="#)([^)"]+)', tag)}
    ids = dict.fromkeys(match for tag in tags for match in re.findall(r'\sid="([^"]+)"', tag))
    new = {old: f"{name}-{number}" for number, old in enumerate(ids)}

    def changed(match: re.Match[str]) -> str:
        tag = re.sub(r'\s+id="([^"]+)"', lambda id_: f' id="{new[id_[1]]}"' if id_[1] in used else "", match[0])
        tag = re.sub(r"url\(#([^)]+)\)", lambda url: f"url(#{new[url[1]]})", tag)
        tag = re.sub(r'href="#([^"]+)"', lambda href: f'href="#{new[href[1]]}"', tag)
        tag = re.sub(r"(font(?:-family)?: [^;\"']*)'[^;\"]*", r"\1var(--font)", tag)
        for colour, variable in _VARIABLES.items():
            tag = tag.replace(colour, variable)
        return tag

    return re.sub(_TAG, changed, inner)


def panels_png(panels: Sequence[Panel], columns: int) -> bytes:
    """The panels in rows of ``columns`` with their titles, as one PNG with a white background."""
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
    """Draw into the rectangle of the panel's size at ``left``, ``top`` (CSS pixels), with room for the labels.

    Margins follow from the lengths of the labels: matplotlib's own layouts measure every text and take twice the time.
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


def text_colour(share: float) -> str:
    """White or black, whichever has a contrast of at least 4.5:1 with ``COLOUR_MAP`` at ``share``."""
    return "#ffffff" if share < 0.44 else "#000000"


def percent_axis(axis: Any, digits: int = 0, unit: str = "%") -> None:
    """Show ratios as percent, or without a unit as percentage points."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.{digits}f}{unit}".replace("-", "−")))


def ticks(axis: Any, most: int, *, whole: bool = False) -> None:
    axis.set_major_locator(MaxNLocator(most, integer=whole))


def loss_axis(axes: Axes, low: float, high: float) -> None:
    """Use a logarithmic axis if losses span more than a factor of 20."""
    if low > 0 and high / low > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 1000 * low else (1,), numticks=6))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}")
        )
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, high * 1.06 or 1.0)


def epoch_axis(axes: Axes, first: float, last: float) -> None:
    """Show whole epochs, with room for a zoo that has only one."""
    axes.set_xlabel("epoch")
    ticks(axes.xaxis, 7, whole=True)
    margin = max(0.02 * (last - first), 0.05)
    axes.set_xlim(first - margin, last + margin)
