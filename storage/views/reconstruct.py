"""The images that networks of coordinates have learned, computed with torch."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageUsageError

if TYPE_CHECKING:
    from .stack import StackedModules

AT_ONCE = 1 << 24  # values of a layer in memory


def coordinates(side: int) -> NDArray[np.float32]:
    """Row and column of each pixel, [side * side, 2], row by row, as float32((2 i - (side - 1)) / (side - 1)).

    So the first row and column are -1, the last ones 1. An image of one pixel has the coordinates 0.
    """
    last = side - 1
    axis = (2 * np.arange(side, dtype=np.float64) - last) / max(1, last)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([rows.reshape(-1), columns.reshape(-1)], axis=1).astype(np.float32)


def pictures(stack: "StackedModules", side: int) -> NDArray[np.float32]:
    """[N, C, side, side]: the images that the N networks of ``stack`` compute; see ``Zoo.reconstruct``."""
    import torch

    if side < 1:
        raise StorageUsageError(f"side {side}: an image has at least one pixel")
    widest = max(max(tensor.shape[1:]) for tensor in stack.params.values())
    at_once = max(1, AT_ONCE // (side * side * widest))
    with torch.no_grad():
        pixels = stack(torch.from_numpy(coordinates(side)), chunk_size=at_once)  # [N, side * side, C]
    return np.ascontiguousarray(pixels.numpy().transpose(0, 2, 1)).reshape(len(stack), -1, side, side)
