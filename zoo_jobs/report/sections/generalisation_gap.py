"""Generalisation gap: running training accuracy minus test accuracy."""

from ..blocks import Details, Paragraph, Section
from ..charts.drawing import VERMILION
from ..charts.panels import SHOW, bands_panel, scatter_panel
from ..contents import Contents
from ..statistics import bands
from .tables import bands_table


def section(contents: Contents) -> Section | None:
    population = contents.population
    if not population.has("ggap"):
        return None
    values = bands(population.epochs_E, population.metrics["ggap"])
    panels = (
        bands_panel(
            "Gap over epochs", "Generalisation gap over epochs", values, VERMILION, epochs=population.span, unit="pp",
            note="percentage points",
        ),
        scatter_panel(
            "Gap and accuracy", "Generalisation gap against final test accuracy", population.final("test_acc"),
            population.final("ggap"), "final test accuracy", "gap", note="a dot is a model",
        ),
    )  # fmt: skip
    text = (
        "Running training accuracy minus test accuracy, as the reference defines it. It can be below zero, since "
        "running accuracy is measured under dropout and before the last steps of the epoch."
    )
    table = bands_table("Generalisation gap, quantiles over models", values, SHOW["pp"])
    return Section(
        "generalisation-gap", "Generalisation gap", [Paragraph(text)], panels, [Details("The numbers", [table])]
    )
