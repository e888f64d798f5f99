"""Map of the weights: principal components of the weight vectors."""

import numpy as np

from .. import words
from ..blocks import Paragraph, Section
from ..charts.maps import category_map_panel, measure_map_panel
from ..contents import Contents
from ..statistics import influences


def section(contents: Contents) -> Section:
    shown, population = contents.weight_map, contents.population
    if shown is None:
        return Section("weights", "Map of the weights", [Paragraph("Too few states with finite weights for a map.")])
    positions = np.searchsorted(population.models_N, shown.models_N)
    measure = contents.facts.measure
    panels = [measure_map_panel(shown, population.final(measure.metric)[positions], measure)]
    influential = [influence.name for influence in influences(population, measure.metric)]
    candidates = [name for name in influential if len(set(population.hyperparameters[name].tolist())) <= 7]
    # The initializer sets the scale of the initial weights, and a map of weights shows mostly this scale.
    chosen = "initializer" if "initializer" in candidates else candidates[0] if candidates else None
    if chosen is not None:
        panels.append(category_map_panel(shown, chosen, population.hyperparameters[chosen][positions]))
    num_models, num_epochs = len(shown.models_N), len(shown.epochs_K)
    share = "every model" if num_models == population.num_models else f"{words.count(num_models)} evenly chosen models"
    text = (
        f"The weight vectors of {share} at {words.count(num_epochs, 'epoch')} from {shown.epochs_K[0]} to "
        f"{shown.epochs_K[-1]}, projected on their two principal components, which hold "
        f"{words.percent(sum(shown.explained), 0)} of the variance. A ring is an initial state, a dot the last one, "
        "the line between them the path of training. Both axes have the same scale."
    )
    if shown.num_left_out:
        left_out = words.count(shown.num_left_out, "state is", "states are")
        text += f" {left_out} not shown, with weights that are not finite or far larger than the others'."
    return Section("weights", "Map of the weights", [Paragraph(text)], panels, large=True, columns=2)
