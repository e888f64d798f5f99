"""Ridge regression on statistics of the tensors: mean, variance and percentiles 1, 25, 50, 75, 99 of each."""

import numpy as np
from numpy.typing import NDArray

from ..linear_models import statistics
from ..samples import Given
from .contract import Predict, Problem
from .ridge import fit_ridge


def features(given: Given) -> NDArray[np.float64]:
    """[N, 7 for each tensor, and the history]: 70 for the CNNs of the reference."""
    return np.concatenate([statistics(given.states.layout, given.states.values), given.history], axis=1)


def fit(problem: Problem) -> Predict:
    return fit_ridge(problem, features)
