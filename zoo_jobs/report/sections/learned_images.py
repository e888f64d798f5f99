"""Images that models have learned: PSNR over epochs, and a contact sheet of reconstructions at chosen epochs."""

import numpy as np
from matplotlib.axes import Axes

from .. import words
from ..blocks import Details, Key, Panel, Paragraph, Section
from ..charts.drawing import BLUE
from ..charts.panels import SHOW, bands_panel
from ..contents import Contents, Reconstructions
from ..statistics import bands, quantiles, ranked
from .tables import bands_table

METRIC = "psnr"
MARGIN = 2  # pixels between the images of the sheet


def findings(contents: Contents) -> list[str]:
    """The sentences of "In short" for a zoo whose models learn images."""
    population = contents.population
    q = quantiles(population.final(METRIC))
    if not np.isfinite(q[2]):
        return []
    best = ranked(population, METRIC)[0]
    return [
        f"At epoch {population.span[1]} the median model reproduces its image with {words.decibels(q[2])}; the middle "
        f"half lies between {words.decibels(q[1])} and {words.decibels(q[3])}.",
        f"The best is model {population.models_N[best]} with {words.decibels(population.final(METRIC)[best])}.",
    ]


def section(contents: Contents) -> Section | None:
    population = contents.population
    if not population.has(METRIC):
        return None
    values, name = bands(population.epochs_E, population.metrics[METRIC]), "PSNR over epochs"
    note = "of each model's image"
    panels = [bands_panel("PSNR", name, values, BLUE, epochs=population.span, unit="dB", note=note)]
    tables = [bands_table(f"{name}, quantiles over models", values, SHOW["dB"])]
    text = (
        "Each model learns one image. The PSNR is -10 log10 of the mean squared error, with pixels from 0 to 1; a "
        "model without any error has none. Each band contains a share of the models."
    )
    if contents.reconstructions is not None:
        panels.append(_sheet(contents.reconstructions))
    return Section(
        "learned-images", "Learned images", [Paragraph(text), Key()], panels, [Details("The numbers", tables)]
    )


def _sheet(made: Reconstructions) -> Panel:
    """A row for each model, a column for each epoch, and the image itself in the last column where it is known."""
    rows, columns = made.pictures.shape[:2]
    named = [f"epoch {epoch}" for epoch in made.epochs]
    pictures = made.pictures
    if made.originals is not None:
        pictures, named = np.concatenate([pictures, made.originals[:, None]], axis=1), [*named, "image"]
    side = pictures.shape[-1]
    step = side + MARGIN
    canvas = np.ones((rows * step - MARGIN, len(named) * step - MARGIN, 3), np.float32)
    for row in range(rows):
        for column in range(len(named)):
            pixels = np.clip(pictures[row, column], 0, 1).transpose(1, 2, 0)  # [S, S, C]
            canvas[row * step : row * step + side, column * step : column * step + side] = pixels

    def draw(axes: Axes) -> None:
        axes.imshow(canvas, interpolation="nearest")
        axes.grid(visible=False)
        axes.set_xticks([column * step + side / 2 for column in range(len(named))], named)
        labels = [
            f"{model}: {words.decibels(psnr)}" for model, psnr in zip(made.models, made.psnr.tolist(), strict=True)
        ]
        axes.set_yticks([row * step + side / 2 for row in range(rows)], labels)
        axes.tick_params(length=0)

    alt = (
        f"Images that {words.count(rows, 'model')} compute at {words.count(columns, 'epoch')}, the best model first, "
        "with the PSNR at the last epoch."
    )
    return Panel("Contact sheet", alt, draw, "model and its final PSNR", (120 + 74 * len(named), 60 + 70 * rows))
