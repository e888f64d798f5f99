"""Fidelity to the reference: its figures and ours."""

import numpy as np

from .. import words
from ..blocks import Cell, Paragraph, Row, Section, Table, number
from ..contents import Contents
from ..fidelity_page import METRICS

QUANTILES = {0.25: "25%", 0.5: "median", 0.75: "75%"}
HEADS = ("Metric", "Epoch", "Quantile", "Reference", "Here", "95% interval", "Difference", "Verdict")


def section(contents: Contents) -> Section | None:
    tables = []
    for zoo in (contents, contents.twins):
        if zoo is None or not zoo.comparisons:
            continue
        rows: list[Row] = []
        for c in zoo.comparisons:
            show = words.points if c.figure.metric == "ggap" else words.percent
            kind = {"agrees": "good", "differs": "bad"}.get(c.verdict, "muted")
            interval = f"{show(c.low)} to {show(c.high)}" if np.isfinite([c.low, c.high]).all() else words.NONE
            rows.append(
                [
                    METRICS[c.figure.metric], number(str(c.figure.epoch)), QUANTILES[c.figure.quantile],
                    number(f"{show(c.figure.value)} ± {100 * c.figure.error:.1f}"), number(show(c.ours)),
                    number(interval), number(words.points(c.difference)), Cell(c.verdict, kind=kind),
                ]
            )  # fmt: skip
        tables.append(Table(f"{zoo.facts.name} and the reference's figures", HEADS, rows))
    if not tables:
        return None
    text = (
        "Figures read from the pictures that the reference ships, give or take the reading error. They agree if the "
        "reference's value lies within the interval of ours, which follows from the number of models that are here."
    )
    return Section("fidelity", "Fidelity to the reference", [Paragraph(text), *tables])
