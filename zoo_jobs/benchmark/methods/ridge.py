"""Ridge regression on standardised features, for numbers and for names.

Shape suffixes: N = states, D = features.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import linear_models
from ..linear_models import MOST_UNKNOWNS, Ridge
from ..samples import Given
from ..scores import classification_scores
from .contract import Predict, Problem, Unfit

PENALTIES = (1e6, 3e5, 1e5, 3e4, 1e4, 3e3, *linear_models.PENALTIES)
"""Larger ones than the reference has: D standardised features of N states need penalties of the size of N D."""

Features = Callable[[Given], NDArray[np.float64]]


def fit_ridge(problem: Problem, features: Features) -> Predict:
    """Ridge regression with the penalty that is best on the validation set.

    Features are standardised by mean and deviation of the training states, and the target is centred, so that the
    intercept carries no penalty. Names are regressed as one column of 0 and 1 for each; the largest is the answer.

    Raises:
        Unfit: more than ``MOST_UNKNOWNS`` states and features.
    """
    x = features(problem.train.given)
    if min(x.shape) > MOST_UNKNOWNS:
        raise Unfit(f"{x.shape[0]:,} states of {x.shape[1]:,} features; one of them may be {MOST_UNKNOWNS:,} at most")
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation[deviation < 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0

    def scaled(given: Given) -> NDArray[np.float64]:
        x_ND: NDArray[np.float64] = (features(given) - mean) / deviation
        return x_ND

    truth = problem.train.truth
    names = sorted(set(truth.tolist())) if problem.kind == "classification" else []
    columns = [(truth == name).astype(np.float64) for name in names] or [truth]
    centres = [float(column.mean()) for column in columns]
    ridge, val = Ridge(scaled(problem.train.given)), scaled(problem.val.given)

    def answers(penalty: float) -> Callable[[NDArray[np.float64]], NDArray[Any]]:
        # Standardised columns have mean 0, so the coefficient of the column of ones is 0 and is left out.
        fitted = [
            (centre, ridge.coefficients(column - centre, penalty)[:-1])
            for column, centre in zip(columns, centres, strict=True)
        ]

        def answer(x_ND: NDArray[np.float64]) -> NDArray[Any]:
            values = [centre + x_ND @ coefficients for centre, coefficients in fitted]
            return np.array(names, object)[np.argmax(values, axis=0)] if names else values[0]

        return answer

    def quality(penalty: float) -> float:
        answer = answers(penalty)(val)
        if names:
            return classification_scores(problem.val.truth, answer)["accuracy"]
        return -float(((answer - problem.val.truth) ** 2).mean())

    chosen = answers(max(PENALTIES, key=quality))
    return lambda given: chosen(scaled(given))
