"""Sparse twins: accuracy, or PSNR, and sparsity over the epochs of sparsification."""

import numpy as np

from .. import words
from ..blocks import Details, Key, Paragraph, Section
from ..charts.drawing import BLUE, VERMILION
from ..charts.panels import bands_panel, scatter_panel, trade_panel
from ..contents import Contents
from ..measure import ACCURACY, PSNR
from ..statistics import bands, quantiles
from .tables import bands_table


def section(contents: Contents) -> Section | None:
    sparse = contents.twins or contents
    twins = sparse.population
    if not twins.has("sparsity_ratio"):
        return None
    measure = contents.facts.measure
    metric = twins.metrics[measure.metric]
    values = bands(twins.epochs_E, metric)
    sparsity = bands(twins.epochs_E, twins.metrics["sparsity_ratio"])
    start = quantiles(metric[:, 0])[2]
    parents = contents.population
    both = np.isin(parents.models_N, twins.models_N)
    dense = float("nan") if sparse is contents else float(quantiles(parents.final(measure.metric)[both])[2])
    change, short = metric[:, -1] - metric[:, 0], measure.name.removeprefix("test ")
    panels = (
        trade_panel(twins.metrics["sparsity_ratio"], metric, twins.epochs_E, dense, measure),
        bands_panel(
            "Sparsity", "Sparsity over sparsification epochs", sparsity, VERMILION, epochs=twins.span,
            note="share of prunable weights with mask 0",
        ),
        bands_panel(
            measure.title, f"{measure.title} over sparsification epochs", values, BLUE, epochs=twins.span,
            unit=measure.unit, chance_ratio=contents.facts.chance_ratio if measure is ACCURACY else None,
            note="masked weights",
        ),
        scatter_panel(
            "Cost of the mask", f"Change of {measure.name} against final sparsity", twins.final("sparsity_ratio"),
            change, "final sparsity", f"change of {short}", unit="dB" if measure is PSNR else "pp",
            note="since sparsification epoch 0; a dot is a twin",
        ),
    )  # fmt: skip
    text = (
        f"Each of {words.count(twins.num_models, 'twin')} begins with the last weights of its parent and is pruned by "
        f"{sparse.facts.kind}. Median {short} starts at {measure.show(start)}."
    )
    tables = [
        bands_table("Sparsity, quantiles over twins", sparsity),
        bands_table(f"{measure.title}, quantiles over twins", values, measure.show),
    ]
    return Section(
        "sparsification", "Sparse twins", [Paragraph(text), Key()], panels, [Details("The numbers", tables)], columns=2
    )
