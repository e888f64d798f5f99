"""Converts a program to the numbers that the extension takes.

The tables of the extension say which number each name has.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.layers import (
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
)


def layer_table(architecture: Architecture, extension: Any, steps_per_epoch: int = 0) -> NDArray[np.int32]:
    """The layer list as rows of numbers.

    Args:
        extension: the compiled module. Its ``LAYERS`` and ``ACTIVATIONS`` list the names for which it has kernels.
        steps_per_epoch: steps of an epoch of image_regression, whose table has the squared error as its last row; 0 for
            classification.

    Returns:
        [layers, columns] int32. Each row has the number of the layer's kind, then the values that this kind needs
            (native/plan.h lists them).

    Raises:
        ValueError: a layer has no kernel, or the list has more layers than the extension's tables can hold.
    """
    rows: list[tuple[str, *tuple[int, ...]]] = []
    for layer, shape in zip(architecture.layers, architecture.shapes, strict=False):
        match layer:
            case Conv2d(in_channels=c, out_channels=o, kernel_size=k, stride=stride, padding=padding):
                rows.append(("conv", c, o, k, stride, padding))
            case MaxPool2d(kernel_size=k, stride=stride):
                rows.append(("max_pool", k, stride))
            case AvgPool2d(kernel_size=k, stride=stride):
                rows.append(("avg_pool", k, stride))
            case GlobalAvgPool2d():  # images are square
                rows.append(("avg_pool", shape[1], 1))
            case Activation(name=name, omega=omega) if name in extension.ACTIVATIONS:
                bits = int(np.float32(omega).view(np.int32))
                rows.append(("activation", extension.ACTIVATIONS.index(name), bits))
            case Dropout():
                rows.append(("dropout",))
            case Flatten():
                rows.append(("flatten",))
            case Linear(in_features=i, out_features=o):
                rows.append(("linear", i, o))
            case Add(source=source):
                rows.append(("add", source))
            case _:
                raise ValueError(f"{architecture.name}: no kernel for {layer!r}")
    if steps_per_epoch:
        rows.append(("squared_error", steps_per_epoch))
    if len(rows) > extension.MAX_LAYERS:
        raise ValueError(f"{architecture.name} has {len(rows)} layers, the engine's tables hold {extension.MAX_LAYERS}")
    table = np.zeros((len(rows), extension.LAYER_COLUMNS), np.int32)
    for row, (kind, *numbers) in zip(table, rows, strict=True):
        row[: 1 + len(numbers)] = extension.LAYERS.index(kind), *numbers
    return table
