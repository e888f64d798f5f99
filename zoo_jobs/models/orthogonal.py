"""Orthogonal initial weights without LAPACK, whose results differ between machines."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def orthogonal_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill ``weight`` [out, in, ...]: as a matrix of ``out`` rows, the fewer of its rows and columns are orthonormal.

    The draws are those of ``torch.nn.init.orthogonal_``, made orthonormal by Gram and Schmidt's method in float64, so
    the result is torch's to rounding. Sums run in a fixed order, without BLAS: the bits depend on the draws alone.
    Source: Saxe, McClelland, Ganguli (2013), arXiv:1312.6120.
    """
    rows, columns = weight.shape[0], weight[0].numel()
    drawn = torch.empty(rows, columns, dtype=torch.float32, device="cpu").normal_(generator=generator).double().numpy()
    vectors = np.ascontiguousarray(drawn if rows < columns else drawn.T)
    _orthonormalise(vectors)
    made = vectors if rows < columns else vectors.T
    with torch.no_grad():
        weight.copy_(torch.from_numpy(made.astype(np.float32)).view(weight.shape))
    return weight


def _orthonormalise(vectors: NDArray[np.float64]) -> None:
    """Modified Gram-Schmidt of the rows of ``vectors`` [n, m], n <= m, in place."""
    for i, vector in enumerate(vectors):
        vector /= np.sqrt(_dots(vector[None], vector)[0])
        rest = vectors[i + 1 :]
        rest -= _dots(rest, vector)[:, None] * vector


def _dots(vectors: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products [k] of each row with ``vector``; a running sum adds from left to right on every machine."""
    sums: NDArray[np.float64] = np.cumsum(vectors * vector, axis=1)[:, -1]
    return sums
