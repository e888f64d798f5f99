"""Ridge regression on the standardised weights, in the order of the weight vector."""

import numpy as np
from numpy.typing import NDArray

from ..samples import Given
from .contract import Predict, Problem
from .ridge import fit_ridge


def features(given: Given) -> NDArray[np.float64]:
    return np.concatenate([given.states.values.astype(np.float64), given.history], axis=1)


def fit(problem: Problem) -> Predict:
    return fit_ridge(problem, features)
