"""Accuracy and loss over epochs: a band chart per metric."""

import numpy as np

from ..blocks import Details, Key, Paragraph, Section
from ..charts.drawing import BLUE, GREEN, OCHRE, PLUM
from ..charts.panels import SHOW, bands_panel
from ..contents import Contents
from ..statistics import bands
from .tables import bands_table

METRICS = (
    ("test_acc", "Test", "Test accuracy", BLUE, "in eval mode"),
    ("val_acc", "Validation", "Validation accuracy", OCHRE, "in eval mode"),
    ("running_train_acc", "Training, running", "Running training accuracy", PLUM, "summed while weights change"),
    ("train_acc", "Training, clean", "Training accuracy", GREEN, "in eval mode, at chosen epochs"),
    ("test_loss", "Test loss", "Test loss", BLUE, "cross-entropy, in eval mode"),
    (
        "running_train_loss",
        "Training loss, running",
        "Running training loss",
        PLUM,
        "cross-entropy, summed while weights change",
    ),
)


def section(contents: Contents) -> Section | None:
    population, chance = contents.population, contents.facts.chance_ratio
    panels, tables = [], []
    for metric, title, name, colour, note in METRICS:
        epochs = population.epochs_E[np.isfinite(population.metrics[metric]).any(axis=0)]
        if len(epochs) > 1 or (len(epochs) == 1 and len(population.epochs_E) == 1):
            is_loss = metric.endswith("_loss")
            unit = "loss" if is_loss else "%"
            values = bands(population.epochs_E, population.metrics[metric])
            panels.append(
                bands_panel(
                    title, f"{name} over epochs", values, colour, epochs=population.span, unit=unit,
                    chance_ratio=None if is_loss else chance, note=note,
                )
            )  # fmt: skip
            tables.append(bands_table(f"{name}, quantiles over models", values, SHOW[unit]))
    if not panels:
        return None
    text = "Each band contains a share of the models; faulty models have no value from their faulty epoch on."
    return Section(
        "accuracy-over-epochs", "Accuracy and loss over epochs", [Paragraph(text), Key()], panels,
        [Details("The numbers", tables)],
    )  # fmt: skip
