"""Small drawings and tables in HTML, for notebooks. Pure."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 240, 80
_COLOUR = "#3b6ea5"


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """An HTML table."""
    first = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [f"<tr>{first}</tr>"] if head else []
    lines += ["<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def histogram(values: NDArray[Any], bins: int = 40) -> str:
    """An SVG histogram of the finite values; from the 0.1th to the 99.9th percentile, as its caption says."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "<p>no finite value</p>"
    low, high = (float(v) for v in np.percentile(finite, [0.1, 99.9]))
    counts, _ = np.histogram(finite, bins, (low, high if high > low else low + 1.0))
    tallest = max(1, int(counts.max()))
    step = WIDTH / bins
    bars = "".join(
        f'<rect x="{place * step:.1f}" y="{HEIGHT * (1 - count / tallest):.1f}" width="{step:.1f}" '
        f'height="{HEIGHT * count / tallest:.1f}" fill="{_COLOUR}"/>'
        for place, count in enumerate(counts.tolist())
        if count
    )
    most = low + (float(counts.argmax()) + 0.5) * ((high - low) / bins)
    return _figure(bars, f"values from {low:.3g} to {high:.3g}", f"most values are near {most:.3g}")


def curves(
    xs: Sequence[float],
    lows: Sequence[float],
    middles: Sequence[float],
    highs: Sequence[float],
    *,
    name: str = "test accuracy",
    largest: float = 1,
) -> str:
    """An SVG of a line of values in 0 to ``largest``, called ``name``, and a band around it, over ascending ``xs``."""
    first, last = xs[0], max(xs[-1], xs[0] + 1)

    def points(values: Sequence[float]) -> list[str]:
        return [
            f"{WIDTH * (x - first) / (last - first):.1f},{HEIGHT * (1 - min(1, max(0, y / largest))):.1f}"
            for x, y in zip(xs, values, strict=True)
        ]

    band = " ".join([*points(highs), *reversed(points(lows))])
    line = " ".join(points(middles))
    shapes = (
        f'<polygon points="{band}" fill="{_COLOUR}" fill-opacity="0.25"/>'
        f'<polyline points="{line}" fill="none" stroke="{_COLOUR}" stroke-width="2"/>'
    )
    ends = f"the median is {middles[0]:.2f} at epoch {xs[0]} and {middles[-1]:.2f} at epoch {xs[-1]}"
    caption = f"{name}, 0 to {largest}, at epochs {xs[0]} to {xs[-1]}: median and middle 80 %"
    return _figure(shapes, caption, ends)


def _figure(shapes: str, caption: str, seen: str) -> str:
    """A drawing with its caption; ``seen`` says to those who do not see it what it shows."""
    return (
        f'<figure style="margin:0"><svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{html.escape(seen)}" style="border:1px solid #ccc">{shapes}</svg>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
