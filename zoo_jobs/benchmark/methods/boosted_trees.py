"""Gradient boosted trees of scikit-learn, which end at the number of trees that is best on the validation set."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..samples import Given
from ..scores import classification_scores
from .contract import Predict, Problem

TREES = 150
LEAF = 20  # states, or a tenth of them if they are few

Features = Callable[[Given], NDArray[np.float64]]


def fit_trees(problem: Problem, features: Features) -> Predict:
    """Fit trees on ``features`` of the states."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    truth, is_regression = problem.train.truth, problem.kind == "regression"
    if len(set(truth.tolist())) < 2:
        only = truth[0]
        return lambda given: np.full(len(given), only, truth.dtype)
    model = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    leaf = max(1, min(LEAF, len(truth) // 10))
    trees = model(
        max_iter=TREES, min_samples_leaf=leaf, early_stopping=False, random_state=problem.seed, learning_rate=0.1
    )
    names = sorted(set(truth.tolist())) if not is_regression else []
    target = truth if is_regression else np.array([names.index(value) for value in truth.tolist()])
    trees.fit(features(problem.train.given), target)

    def predictions(values: NDArray[np.float64]) -> Iterator[NDArray[Any]]:
        for staged in trees.staged_predict(values):
            yield staged if is_regression else np.array([names[int(one)] for one in staged], object)

    def wrong(predicted: NDArray[Any]) -> float:
        if is_regression:
            return float(((predicted - problem.val.truth) ** 2).mean())
        return 1 - classification_scores(problem.val.truth, predicted)["accuracy"]

    losses = [wrong(predicted) for predicted in predictions(features(problem.val.given))]
    best = int(np.argmin(losses))

    def predict(given: Given) -> NDArray[Any]:
        return next(p for number, p in enumerate(predictions(features(given))) if number == best)

    return predict
