"""A program as the numbers that the extension takes. The extension's own tables give each name its number."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.layers import Activation, Architecture, Conv2d, Dropout, Flatten, Linear, MaxPool2d


def layer_table(architecture: Architecture, extension: Any) -> NDArray[np.int32]:
    """The layer list as rows of four numbers.

    Args:
        extension: the compiled module, whose ``LAYERS`` and ``ACTIVATIONS`` list the names that it has kernels for.

    Returns:
        [layers, 4] int32: number of the layer's kind, then what the kind needs (native/plan.h).

    Raises:
        ValueError: no kernel for a layer, or more layers than the extension's tables hold.
    """
    rows: list[tuple[str, int, int, int]] = []
    for layer in architecture.layers:
        match layer:
            case Conv2d(in_channels=c, out_channels=o, kernel_size=k, stride=1, padding=0):
                rows.append(("conv", c, o, k))
            case MaxPool2d(kernel_size=2, stride=2):
                rows.append(("pool", 0, 0, 0))
            case Activation(name=name, omega=1.0) if name in extension.ACTIVATIONS:
                rows.append(("activation", extension.ACTIVATIONS.index(name), 0, 0))
            case Dropout():
                rows.append(("dropout", 0, 0, 0))
            case Flatten():
                rows.append(("flatten", 0, 0, 0))
            case Linear(in_features=i, out_features=o):
                rows.append(("linear", i, o, 0))
            case _:
                raise ValueError(f"{architecture.name}: no kernel for {layer!r}")
    if len(rows) > extension.MAX_LAYERS:
        raise ValueError(f"{architecture.name} has {len(rows)} layers, the engine's tables hold {extension.MAX_LAYERS}")
    return np.array([(extension.LAYERS.index(kind), *numbers) for kind, *numbers in rows], np.int32)
