"""Sparse twins: accuracy and sparsity over the epochs of sparsification."""

import numpy as np

from .. import words
from ..blocks import Details, Key, Paragraph, Section
from ..charts.drawing import BLUE, VERMILION
from ..charts.panels import bands_panel, scatter_panel, trade_panel
from ..contents import Contents
from ..statistics import bands, quantiles
from .tables import bands_table


def section(contents: Contents) -> Section | None:
    sparse = contents.twins or contents
    twins = sparse.population
    if not twins.has("sparsity_ratio"):
        return None
    accuracy = bands(twins.epochs_E, twins.metrics["test_acc"])
    sparsity = bands(twins.epochs_E, twins.metrics["sparsity_ratio"])
    start = quantiles(twins.metrics["test_acc"][:, 0])[2]
    parents = contents.population
    both = np.isin(parents.models_N, twins.models_N)
    parent_ratio = float("nan") if sparse is contents else float(quantiles(parents.final("test_acc")[both])[2])
    drop = twins.final("test_acc") - twins.metrics["test_acc"][:, 0]
    panels = (
        trade_panel(
            "Accuracy against sparsity", twins.metrics["sparsity_ratio"], twins.metrics["test_acc"], twins.epochs_E,
            parent_ratio,
        ),
        bands_panel(
            "Sparsity", "Sparsity over sparsification epochs", sparsity, VERMILION, epochs=twins.span,
            note="share of prunable weights with mask 0",
        ),
        bands_panel(
            "Test accuracy", "Test accuracy over sparsification epochs", accuracy, BLUE, epochs=twins.span,
            chance_ratio=contents.facts.chance_ratio, note="masked weights",
        ),
        scatter_panel(
            "Cost of the mask", "Change of test accuracy against final sparsity", twins.final("sparsity_ratio"), drop,
            "final sparsity", "change of accuracy, pp", note="since sparsification epoch 0; a dot is a twin",
        ),
    )  # fmt: skip
    text = (
        f"Each of {words.count(twins.num_models, 'twin')} begins with the last weights of its parent and is pruned by "
        f"{sparse.facts.kind}. Median accuracy starts at {words.percent(start)}."
    )
    tables = [
        bands_table("Sparsity, quantiles over twins", sparsity),
        bands_table("Test accuracy, quantiles over twins", accuracy),
    ]
    return Section(
        "sparsification", "Sparse twins", [Paragraph(text), Key()], panels, [Details("The numbers", tables)], columns=2
    )
