"""Projects the weight vectors of many states on their two principal components, deterministically. Pure."""

# Shape suffixes: N = models, K = epochs chosen, D = parameters, S = states that the axes are fitted to.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .population import Floats

MAX_FITTED_STATES = 3000
GROWTH = 4.0  # times the largest initial norm; training makes kaiming weights up to three times as large
FAR = 1.5  # interquartile ranges beyond the third quartile of the norms: a state beyond is left out


@dataclass(frozen=True)
class StateSample:
    """Weights of some models at some epochs, [N, K, D] float32; not finite if the model is faulty."""

    models_N: NDArray[np.int64]
    epochs_K: NDArray[np.int64]
    weights_NKD: NDArray[np.float32]


@dataclass(frozen=True)
class WeightMap:
    """Coordinates of states.

    Attributes:
        points_NK2: NaN for states that are left out, since they are not finite or their norm is far beyond the others.
        explained: share of the variance of the fitted states along each axis.
    """

    models_N: NDArray[np.int64]
    epochs_K: NDArray[np.int64]
    points_NK2: Floats
    explained: tuple[float, float]
    num_left_out: int


def weight_map(sample: StateSample) -> WeightMap | None:
    """Project the states on the two directions of largest variance. Returns None if fewer than three are usable.

    The largest loading of each direction is positive. Coordinates are rounded to five digits of the extent of the map,
    so that the order of summation does not matter.
    """
    num_models, num_epochs, num_parameters = sample.weights_NKD.shape
    states = sample.weights_NKD.reshape(-1, num_parameters)
    norms = np.sqrt(np.einsum("sd,sd->s", states, states, dtype=np.float64))
    finite = np.isfinite(norms)
    first = norms.reshape(num_models, num_epochs)[:, 0] if sample.epochs_K[0] == 0 else np.zeros(0)
    usable = finite & (norms <= _fence(norms[finite], first[np.isfinite(first)]))
    kept = np.flatnonzero(usable)
    if len(kept) < 3:
        return None
    fitted = kept[np.unique(np.linspace(0, len(kept) - 1, min(len(kept), MAX_FITTED_STATES)).round().astype(int))]
    basis_SD = states[fitted].astype(np.float64)
    mean_D = basis_SD.mean(axis=0)
    basis_SD -= mean_D
    directions_2D, explained = _principal(basis_SD)
    points_NK2 = np.full((num_models, num_epochs, 2), np.nan)
    for column in range(num_epochs):  # one epoch at a time in float64, which bounds the memory
        rows = np.flatnonzero(usable.reshape(num_models, num_epochs)[:, column])
        points_NK2[rows, column] = (sample.weights_NKD[rows, column] - mean_D) @ directions_2D.T
    extent = float(np.nanmax(np.abs(points_NK2))) or 1.0
    points_NK2 = np.round(points_NK2 / extent, 5) * extent + 0.0
    return WeightMap(sample.models_N, sample.epochs_K, points_NK2, explained, int((~usable).sum()))


def _fence(norms: Floats, initial: Floats) -> float:
    """The largest norm that is not an outlier, among all norms or compared with the initial states.

    The second rule matters if most models diverge.

    Source: Tukey, Exploratory Data Analysis (1977), inner fence.
    """
    if not len(norms):
        return 0.0
    q25, q50, q75 = np.quantile(norms, (0.25, 0.5, 0.75))
    fence = max(q75 + FAR * (q75 - q25), 1.5 * q50)
    return float(min(fence, GROWTH * initial.max())) if len(initial) and initial.max() > 0 else float(fence)


def _principal(centred_SD: Floats) -> tuple[Floats, tuple[float, float]]:
    """Two unit directions [2, D], from the smaller of the two products of the centred states with themselves."""
    from scipy.linalg import eigh

    wide = centred_SD.shape[0] < centred_SD.shape[1]
    product = centred_SD @ centred_SD.T if wide else centred_SD.T @ centred_SD
    size = len(product)
    total = float(np.trace(product))
    count = min(2, size)
    values, vectors = eigh(product, subset_by_index=[size - count, size - 1])
    directions_2D = np.zeros((2, centred_SD.shape[1]))
    explained = [0.0, 0.0]
    for axis in range(count):
        value, vector = values[count - 1 - axis], vectors[:, count - 1 - axis]
        if value <= 1e-12 * total or total == 0:
            continue
        direction = (centred_SD.T @ vector) / np.sqrt(value) if wide else vector
        direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
        directions_2D[axis], explained[axis] = direction, float(value) / total
    return directions_2D, (explained[0], explained[1])
