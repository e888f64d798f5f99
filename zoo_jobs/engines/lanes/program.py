"""A layer list as the table of numbers that the extension takes. Pure numpy."""

import numpy as np
from numpy.typing import NDArray

from ...models.layers import Activation, ActivationName, Architecture, Conv2d, Dropout, Flatten, Linear, MaxPool2d
from ...models.optimizers import OptimizerName

# Kernels by name, in the order of the enums in native/plan.h.
OPTIMIZERS: tuple[OptimizerName, ...] = ("sgd", "adam", "rmsprop")
ACTIVATIONS: tuple[ActivationName, ...] = ("leaky_relu", "relu", "tanh", "sigmoid", "silu", "gelu")
MAX_LAYERS = 64


def layer_table(architecture: Architecture) -> NDArray[np.int32]:
    """[layers, 4] int32: kind, then what the kind needs. ``ValueError`` if a layer has no kernel."""
    rows: list[tuple[int, int, int, int]] = []
    for layer in architecture.layers:
        match layer:
            case Conv2d(in_channels=c, out_channels=o, kernel_size=k):
                rows.append((0, c, o, k))
            case MaxPool2d():
                rows.append((1, 0, 0, 0))
            case Activation(name=name):
                rows.append((2, 1 + ACTIVATIONS.index(name), 0, 0))
            case Dropout():
                rows.append((3, 0, 0, 0))
            case Flatten():
                rows.append((4, 0, 0, 0))
            case Linear(in_features=i, out_features=o):
                rows.append((5, i, o, 0))
            case _:
                raise ValueError(f"{architecture.name}: no kernel for {layer!r}")
    if len(rows) > MAX_LAYERS:
        raise ValueError(f"{architecture.name} has {len(rows)} layers, the engine's tables hold {MAX_LAYERS}")
    return np.array(rows, np.int32)
