"""A contact sheet: first-layer weights of models from the best to the worst, as small pictures side by side."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from zooforge.storage.errors import EpochNotPresent
from zooforge.storage.zoo import Zoo

from ..report.blocks import Panel, Paragraph, Section
from ..report.population import Population
from ..report.words import percent

NUM_MODELS = 12
_GAP = 1  # pixels between the kernels of a picture


def section(zoo: Zoo, population: Population) -> Section | None:
    """Pictures of at most 12 models; None if no layer of the network has rows and columns, or no model is finite."""
    layer = next((layer for layer in zoo.layout.entries if len(layer.shape) > 1), None)
    models = _chosen(population)
    if layer is None or not models:
        return None
    accuracy = dict(zip(population.models_N.tolist(), population.final("test_acc").tolist(), strict=True))
    try:
        states = zoo.weights(epochs="last", models=models, layers=[layer.name.partition(".")[0]])
    except EpochNotPresent:
        return None
    vectors = dict(zip(states.models.tolist(), states.values, strict=True))
    panels = []
    for model in models:
        if model in vectors:
            values = vectors[model][: int(np.prod(layer.shape))].reshape(layer.shape)
            panels.append(_panel(model, accuracy[model], mosaic(values)))
    text = (
        f"{layer.name} of {len(panels)} models, the best first, evenly spread over the order of their test accuracy. "
        "Blue is negative, red is positive, white is zero; each picture has its own scale. A square is the kernel of a "
        "unit"
    )
    several = len(layer.shape) == 4 and layer.shape[1] > 1
    before = [Paragraph(text + (", averaged over its inputs." if several else "."))]
    return Section("contact-sheet", "Contact sheet", before, panels, small=True)


def mosaic(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture of one tensor: kernels [out, in, height, width] side by side, NaN between them; else [out, rest]."""
    if values.ndim != 4:
        return values.reshape(len(values), -1)
    kernels = values.mean(axis=1)
    number, height, width = kernels.shape
    columns = int(np.ceil(np.sqrt(number)))
    rows = -(-number // columns)
    picture = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), np.nan, np.float32)
    for index, kernel in enumerate(kernels):
        top, left = (index // columns) * (height + _GAP), (index % columns) * (width + _GAP)
        picture[top : top + height, left : left + width] = kernel
    return picture


def _chosen(population: Population) -> list[int]:
    """Models that have a test accuracy, from the best to the worst, the smaller index first among equals."""
    accuracy = population.final("test_acc")
    finite = np.flatnonzero(np.isfinite(accuracy))
    ordered = finite[np.lexsort((population.models_N[finite], -accuracy[finite]))]
    places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), NUM_MODELS)).round().astype(int))
    return [int(model) for model in population.models_N[ordered[places]]] if len(ordered) else []


def _panel(model: int, accuracy: float, picture: NDArray[np.float32]) -> Panel:
    limit = float(np.nanmax(np.abs(picture))) or 1.0

    def draw(axes: Axes) -> None:
        axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_axis_off()

    alt = f"First-layer weights of model {model}, whose test accuracy is {percent(accuracy)}"
    return Panel(f"Model {model}", alt, draw, f"test accuracy {percent(accuracy)}", size=(180, 180))
