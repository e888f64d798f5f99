"""Layers that take random numbers in training: dropout masks, and the noise of twins. Pure."""

import math
from dataclasses import dataclass

from ..models.layers import Architecture, Dropout


@dataclass(frozen=True, slots=True)
class RandomLayer:
    """A layer that takes random numbers.

    Attributes:
        ordinal: its number among layers of its kind, which selects its stream of the generator.
        shape: shape of the random values for one sample.
    """

    ordinal: int
    shape: tuple[int, ...]

    @property
    def num_values(self) -> int:
        return math.prod(self.shape)


def random_layers(architecture: Architecture, dropout: bool, variational: bool) -> dict[int, RandomLayer]:
    """The layers that take random numbers, keyed by their index in the layer list.

    With ``variational`` these are the parametric layers, whose outputs get noise. Otherwise these are the dropout
    layers if ``dropout`` is true, else none.
    """
    shapes = architecture.shapes
    if variational:
        return {p.index: RandomLayer(n, shapes[p.index + 1]) for n, p in enumerate(architecture.parametric)}
    indices = [index for index, layer in enumerate(architecture.layers) if isinstance(layer, Dropout) and dropout]
    return {index: RandomLayer(n, shapes[index]) for n, index in enumerate(indices)}
