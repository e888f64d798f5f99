"""Simple ways to make networks from training models, to which generated networks are compared. Pure.

Shape suffixes: N = networks, D = weights.
"""

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.views.standardize import Standardizer

NOISE = 0.1  # deviations of the tensor
BANDWIDTHS = np.geomspace(0.01, 2.0, 24)

Vectors = NDArray[np.float32]


def noise(train: Vectors, num: int, scaler: Standardizer, rng: np.random.Generator) -> Vectors:
    """Training models, drawn with replacement, plus normal noise of ``NOISE`` times the deviation of each tensor."""
    return _around(train, num, NOISE, scaler, rng)


def interpolation(aligned: Vectors, num: int, rng: np.random.Generator) -> Vectors:
    """Means of two different training models [N, D] whose units are in one order."""
    first = rng.integers(len(aligned), size=num)
    second = (first + rng.integers(1, len(aligned), size=num)) % len(aligned)
    means: Vectors = ((aligned[first] + aligned[second]) / 2).astype(np.float32)
    return means


def kernel_density(train: Vectors, val: Vectors, num: int, scaler: Standardizer, rng: np.random.Generator) -> Vectors:
    """Samples of a Gaussian kernel density of the training models; ``bandwidth`` gives its width."""
    return _around(train, num, bandwidth(scaler.apply(train), scaler.apply(val)), scaler, rng)


def bandwidth(train: Vectors, val: Vectors) -> float:
    """The one of ``BANDWIDTHS`` under which standardised validation models [M, D] are likeliest."""
    squares = np.stack([((train - one).astype(np.float64) ** 2).sum(axis=1) for one in val])
    size = train.shape[1]

    def likelihood(width: float) -> float:
        powers = -squares / (2 * width**2)
        most = powers.max(axis=1, keepdims=True)
        logs = most[:, 0] + np.log(np.exp(powers - most).mean(axis=1))
        return float(logs.mean() - size * np.log(width))

    return float(max(BANDWIDTHS, key=likelihood))


def _around(train: Vectors, num: int, width: float, scaler: Standardizer, rng: np.random.Generator) -> Vectors:
    chosen = train[rng.integers(len(train), size=num)]
    made = chosen + width * scaler.deviation * rng.standard_normal(chosen.shape)
    return made.astype(np.float32)
