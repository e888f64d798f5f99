"""The sections that are charts, with their numbers in tables below."""

from collections.abc import Callable

import numpy as np

from . import words
from .contents import Contents
from .drawing import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from .map_panels import accuracy_map_panel, category_map_panel
from .markup import Row, bar, details, number, paragraph, table
from .panels import SHOW, bands_panel, heat_panel, histogram_panel, influence_panel, scatter_panel, trade_panel
from .population import Population
from .section import Section
from .statistics import QUANTILES, Bands, bands, influences, quantiles, two_way

KEY = (
    '<ul class="key" aria-label="Key"><li><span class="median"></span>median</li>'
    '<li><span class="half"></span>25–75% of the models</li><li><span class="most"></span>5–95%</li></ul>'
)


def over_epochs(contents: Contents) -> Section | None:
    here, chance = contents.population, contents.facts.chance_ratio
    panels, tables = [], []
    for metric, title, colour, note in _OVER_EPOCHS:
        epochs = here.epochs_E[np.isfinite(here.metrics[metric]).any(axis=0)]
        if len(epochs) > 1 or (len(epochs) == 1 and len(here.epochs_E) == 1):
            loss = metric.endswith("_loss")
            what = title if loss else f"{title} accuracy"
            values = bands(here.epochs_E, here.metrics[metric])
            panels.append(
                bands_panel(
                    title, f"{what} over epochs", values, colour, epochs=_span(here), unit="loss" if loss else "%",
                    chance_ratio=None if loss else chance, note=note,
                )
            )  # fmt: skip
            tables.append(_bands_table(f"{what}, quantiles over models", values, SHOW["loss" if loss else "%"]))
    if not panels:
        return None
    text = "Each band is a share of the models; faulty models have no value from their faulty epoch on."
    return Section(
        "accuracy-over-epochs", "Accuracy and loss over epochs", paragraph(text) + KEY, tuple(panels),
        details("The numbers", "\n".join(tables)),
    )  # fmt: skip


_OVER_EPOCHS = (
    ("test_acc", "Test", BLUE, "in eval mode"),
    ("val_acc", "Validation", ORANGE, "in eval mode"),
    ("running_train_acc", "Training, running", PURPLE, "summed while weights change"),
    ("train_acc", "Training, clean", GREEN, "in eval mode, at chosen epochs"),
    ("test_loss", "Test loss", BLUE, "cross-entropy, in eval mode"),
    ("running_train_loss", "Training loss, running", PURPLE, "cross-entropy, summed while weights change"),
)


def _span(here: Population) -> tuple[int, int]:
    return int(here.epochs_E[0]), int(here.epochs_E[-1])


def final_accuracy(contents: Contents) -> Section:
    here, chance = contents.population, contents.facts.chance_ratio
    last = int(here.epochs_E[-1])
    found = influences(here)
    panels = [histogram_panel("All models", "final test accuracy", here.final("test_acc"), chance)]
    if len(found) >= 2:
        panels.append(heat_panel(two_way(here, found[0].name, found[1].name)))
    panels += [influence_panel(influence, chance) for influence in found]
    if not found:
        text = "All models here have the same hyperparameters; only the seed, and with it the initial weights, differs."
        return Section("final-accuracy", "Final accuracy", paragraph(text), tuple(panels))
    text = (
        f"Test accuracy at epoch {last} by each hyperparameter, the most influential first. A dot is a model; the "
        "thick line spans the middle half, the ring marks the median, the dotted line is chance."
    )
    rows: list[Row] = [
        [
            words.NAMES[influence.name], words.value(value), number(words.count(len(values))),
            *(number(words.percent(q)) for q in quantiles(values)),
        ]
        for influence in found
        for value, values in influence.groups.items()
    ]  # fmt: skip
    shares: list[Row] = [[words.NAMES[i.name], number(words.percent(i.share)), bar(i.share)] for i in found]
    after = details(
        "The numbers",
        table("Final test accuracy by value", ["Hyperparameter", "Value", "Models", *_quantile_heads()], rows)
        + table(
            "Share of the variance that each explains by itself (eta squared)", ["Hyperparameter", "Share", ""], shares
        ),
    )
    return Section("final-accuracy", "Final accuracy by hyperparameter", paragraph(text), tuple(panels), after)


def weights(contents: Contents) -> Section:
    shown = contents.weight_map
    here = contents.population
    if shown is None:
        return Section("weights", "Map of the weights", paragraph("Too few states with finite weights for a map."))
    positions = np.searchsorted(here.models_N, shown.models_N)
    accuracy = here.final("test_acc")[positions]
    panels = [accuracy_map_panel(shown, accuracy)]
    candidates = [i for i in influences(here) if len(i.groups) <= 7]
    # What sets the scale of the initial weights shows most on a map of weights.
    chosen = next((i.name for i in candidates if i.name == "initializer"), candidates[0].name if candidates else None)
    if chosen is not None:
        panels.append(category_map_panel(shown, chosen, here.hyperparameters[chosen][positions]))
    num_models, num_epochs = len(shown.models_N), len(shown.epochs_K)
    share = "every model" if num_models == here.num_models else f"{words.count(num_models)} evenly chosen models"
    text = (
        f"The weight vectors of {share} at {words.count(num_epochs, 'epoch')} from {shown.epochs_K[0]} to "
        f"{shown.epochs_K[-1]}, projected on their two principal components; these "
        f"hold {words.percent(sum(shown.explained), 0)} of the variance. A ring is an initial state, a dot the last "
        "one, the line between them the path of training. Both axes have the same scale."
    )
    if shown.num_left_out:
        left_out = words.count(shown.num_left_out, "state is", "states are")
        text += f" {left_out} not shown: weights that are not finite, or far larger than the others'."
    return Section("weights", "Map of the weights", paragraph(text), tuple(panels), large=True, columns=2)


def gap(contents: Contents) -> Section | None:
    here = contents.population
    if not here.has("ggap"):
        return None
    values = bands(here.epochs_E, here.metrics["ggap"])
    panels = (
        bands_panel(
            "Gap over epochs", "Generalisation gap over epochs", values, VERMILION, epochs=_span(here), unit="pp",
            note="percentage points",
        ),
        scatter_panel(
            "Gap and accuracy", "Generalisation gap against final test accuracy", here.final("test_acc"),
            here.final("ggap"), "final test accuracy", "gap, pp", note="a dot is a model",
        ),
    )  # fmt: skip
    text = (
        "Running training accuracy minus test accuracy, as the reference defines it. It can lie below zero, since "
        "running accuracy is measured under dropout and before the epoch's last steps."
    )
    return Section(
        "generalisation-gap", "Generalisation gap", paragraph(text), panels,
        details("The numbers", _bands_table("Generalisation gap, quantiles over models", values, SHOW["pp"])),
    )  # fmt: skip


def sparsification(contents: Contents) -> Section | None:
    sparse = contents.twins or contents
    twins = sparse.population
    if not twins.has("sparsity_ratio"):
        return None
    accuracy, sparsity = (
        bands(twins.epochs_E, twins.metrics["test_acc"]),
        bands(twins.epochs_E, twins.metrics["sparsity_ratio"]),
    )
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
            "Sparsity", "Sparsity over sparsification epochs", sparsity, VERMILION, epochs=_span(twins),
            note="share of prunable weights with mask 0",
        ),
        bands_panel(
            "Test accuracy", "Test accuracy over sparsification epochs", accuracy, BLUE, epochs=_span(twins),
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
    tables = _bands_table("Sparsity, quantiles over twins", sparsity) + _bands_table(
        "Test accuracy, quantiles over twins", accuracy
    )
    return Section(
        "sparsification", "Sparse twins", paragraph(text) + KEY, panels, details("The numbers", tables), columns=2
    )


def _quantile_heads() -> list[str]:
    return [{0.5: "Median"}.get(q, f"{100 * q:.0f}%") for q in QUANTILES]


def _bands_table(caption: str, values: Bands, show: Callable[[float], str] = words.percent) -> str:
    last = len(values.epochs_E) - 1
    chosen = np.unique(np.linspace(0, last, min(12, last + 1)).round().astype(int))
    rows: list[Row] = [
        [
            number(str(values.epochs_E[e])), number(words.count(int(values.counts_E[e]))),
            *(number(show(float(v))) for v in values.values_QE[:, e]),
        ]
        for e in chosen
    ]  # fmt: skip
    return table(caption, ["Epoch", "Models", *_quantile_heads()], rows)
