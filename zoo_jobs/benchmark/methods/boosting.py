"""Gradient boosting on statistics of the tensors."""

from .boosted_trees import fit_trees
from .contract import Predict, Problem
from .linear_statistics import features


def fit(problem: Problem) -> Predict:
    return fit_trees(problem, features)
