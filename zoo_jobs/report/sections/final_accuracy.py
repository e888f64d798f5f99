"""Final accuracy by hyperparameter."""

from .. import words
from ..blocks import Cell, Details, Paragraph, Row, Section, Table, number
from ..charts.panels import heat_panel, histogram_panel, influence_panel
from ..contents import Contents
from ..statistics import influences, quantiles, two_way
from .tables import QUANTILE_HEADS


def section(contents: Contents) -> Section:
    population, chance = contents.population, contents.facts.chance_ratio
    last = int(population.epochs_E[-1])
    influential = influences(population)
    panels = [histogram_panel("All models", "final test accuracy", population.final("test_acc"), chance)]
    if len(influential) >= 2:
        panels.append(heat_panel(two_way(population, influential[0].name, influential[1].name)))
    panels += [influence_panel(influence, chance) for influence in influential]
    if not influential:
        text = "All models here have the same hyperparameters; only the seed, and with it the initial weights, differs."
        return Section("final-accuracy", "Final accuracy", [Paragraph(text)], panels)
    text = (
        f"Test accuracy at epoch {last} by each hyperparameter, the most influential first. A dot is a model; the "
        "thick line spans the middle half, the ring marks the median, the dotted line is chance."
    )
    rows: list[Row] = [
        [
            words.name(influence.name), words.value(value), number(words.count(len(values))),
            *(number(words.percent(q)) for q in quantiles(values)),
        ]
        for influence in influential
        for value, values in influence.groups.items()
    ]  # fmt: skip
    shares: list[Row] = [[words.name(i.name), number(words.percent(i.share)), Cell(bar=i.share)] for i in influential]
    details = [
        Table("Final test accuracy by value", ["Hyperparameter", "Value", "Models", *QUANTILE_HEADS], rows),
        Table(
            "Share of the variance that each explains by itself (eta squared)", ["Hyperparameter", "Share", ""], shares
        ),
    ]
    return Section(
        "final-accuracy", "Final accuracy by hyperparameter", [Paragraph(text)], panels,
        [Details("The numbers", details)],
    )  # fmt: skip
