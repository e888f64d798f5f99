"""The floor: gradient boosting on the hyperparameters, without any weight."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..samples import Given
from .boosted_trees import fit_trees
from .contract import Predict, Problem


def fit(problem: Problem) -> Predict:
    """Hyperparameters as numbers, and one column for each value of those that are names."""
    columns = problem.train.given.hyperparameters
    values = {
        name: sorted({str(value) for value in column.tolist()})
        for name, column in columns.items()
        if column.dtype.kind not in "fiub"
    }

    def features(given: Given) -> NDArray[np.float64]:
        return encoded(given, values)

    return fit_trees(problem, features)


def encoded(given: Given, values: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """[N, D]: numbers as they are, one column for each of the ``values`` of a name, then the history."""
    parts: list[Any] = [np.zeros((len(given), 1))]
    for name, column in given.hyperparameters.items():
        if name in values:
            texts = np.array([str(value) for value in column.tolist()], object)
            parts += [(texts == value).astype(np.float64)[:, None] for value in values[name]]
        else:
            numbers = [math.nan if value is None else float(value) for value in column.tolist()]
            parts.append(np.array(numbers, np.float64)[:, None])
    return np.concatenate([*parts, given.history], axis=1)
