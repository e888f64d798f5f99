"""The comparison with the reference's figures as a table, as a Markdown page and as a picture."""

import math
from collections.abc import Sequence
from typing import Any

from ..quantities import markdown_table
from . import words
from .blocks import Panel
from .contents import Contents, extent
from .fidelity import QUANTILE_NAMES, Comparison, Reference
from .statistics import bands

METRICS = {"test_acc": "Test accuracy", "sparsity_ratio": "Sparsity", "ggap": "Generalisation gap"}
HEAD = ("metric", "epoch", "quantile", "reference", "here", "95 % interval", "difference", "verdict")
ALIGN = "<><>>>><"
_QUANTILES = {quantile: name for name, quantile in QUANTILE_NAMES.items()}


def rows(contents: Contents) -> list[list[str]]:
    """``HEAD``, then a row for each figure of the reference."""
    return [list(HEAD), *(_row(comparison) for comparison in contents.comparisons)]


def _row(c: Comparison) -> list[str]:
    def shown(value: float, sign: str = "") -> str:
        return words.signed_minus(f"{value:{sign}.3f}") if math.isfinite(value) else words.NONE

    bounded = math.isfinite(c.low) and math.isfinite(c.high)
    return [
        c.figure.metric,
        str(c.figure.epoch),
        _QUANTILES[c.figure.quantile],
        f"{shown(c.figure.value)} ± {c.figure.error:.3f}",
        shown(c.ours),
        f"{shown(c.low)} to {shown(c.high)}" if bounded else words.NONE,
        shown(c.difference, "+"),
        c.verdict,
    ]


def verdicts(contents: Contents) -> str:
    """How many figures got each verdict: ``13 agrees``."""
    found = [c.verdict for c in contents.comparisons]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in dict.fromkeys(found))


def markdown(contents: Contents, reference: Reference, picture: str) -> str:
    """A page with the picture, whose file is named ``picture``, and the table. It has no time, path or machine."""
    facts = contents.facts
    return "\n".join(
        [
            f"# {facts.name} and the reference",
            "",
            f"Version {facts.version} of run {facts.run}: {extent(contents)}. Reference: {reference.source}, "
            f"{words.count(reference.num_models, 'model')}. Verdicts: {verdicts(contents)}.",
            "",
            f"![{facts.name} and the reference's figures by epoch]({picture})",
            "",
            *markdown_table(rows(contents), ALIGN),
            "",
            "The reference's figures were read from its pictures; ± is the error of reading. A figure agrees if, give "
            "or take this error, it lies in the 95 % interval of the quantile here, which follows from the number of "
            "models here.",
            "",
        ]
    )


def picture(contents: Contents) -> bytes:
    """A PNG with a panel for each metric that the reference has figures of."""
    from .charts.drawing import panels_png

    metrics = dict.fromkeys(c.figure.metric for c in contents.comparisons)
    return panels_png([_panel(contents, metric) for metric in metrics], 3)


def _panel(contents: Contents, metric: str) -> Panel:
    from .charts.drawing import VERMILION
    from .charts.panels import bands_panel

    here = contents.population
    shown: Sequence[Comparison] = [c for c in contents.comparisons if c.figure.metric == metric]
    unit = "pp" if metric == "ggap" else "%"
    last = max(here.span[1], *(c.figure.epoch for c in shown))
    panel = bands_panel(
        METRICS[metric], METRICS[metric], bands(here.epochs_E, here.metrics[metric]), epochs=(here.span[0], last),
        unit=unit,
    )  # fmt: skip

    def draw(axes: Any) -> None:
        panel.draw(axes)
        axes.errorbar(
            [c.figure.epoch for c in shown], [c.figure.value for c in shown], [c.figure.error for c in shown],
            color=VERMILION, marker="o", markersize=5, linestyle="none", capsize=3,
        )  # fmt: skip

    return Panel(f"{panel.title}. Blue: here; dots: the reference's quartiles", panel.alt, draw, size=(560, 360))
