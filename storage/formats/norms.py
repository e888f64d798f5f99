"""Norms of weight vectors, with the same bits on every machine. Pure numpy."""

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**22


def weight_norms(weights: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Euclidean norm and largest absolute value of each row of ``weights`` [N, D]; both [N], not finite where a row is.

    The squares are float64. Their sum adds the second half of a row to its first half until one value is left; the
    halves are powers of two, and what a row lacks counts as zero. The order of the additions is therefore fixed.
    """
    num_rows, num_values = weights.shape
    norms, largest = np.zeros(num_rows), np.zeros(num_rows)
    step = max(1, BLOCK_VALUES // max(1, num_values))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, num_rows if num_values else 0, step):
            rows = slice(start, start + step)
            values = np.abs(weights[rows].astype(np.float64))
            largest[rows] = values.max(axis=1)
            np.multiply(values, values, out=values)
            width = num_values
            while width > 1:
                half = 1 << (width - 1).bit_length() - 1
                values[:, : width - half] += values[:, half:width]
                width = half
            norms[rows] = np.sqrt(values[:, 0])
    return norms, largest
