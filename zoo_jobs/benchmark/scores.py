"""Scores of predictions, and their means over seeds. Pure.

Shape suffixes: N = states, S = seeds.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .linear_models import r_squared

METRICS = {
    "r2": "R2", "tau": "tau", "tau_max": "tau max", "tau_ratio": "tau/max", "accuracy": "accuracy",
    "accuracy_best": "best accuracy", "novelty": "novelty", "diversity": "diversity",
}  # fmt: skip


def regression_scores(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> dict[str, float]:
    """R squared, Kendall's tau-b, the largest tau-b that ties in the truth allow, and their ratio; NaN if undefined.

    All but the largest tau-b are undefined where the truth does not vary.
    """
    from scipy.stats import kendalltau

    most = tau_max(truth_N)
    varies = len(truth_N) > 1 and len(np.unique(predicted_N)) > 1 and most > 0
    tau = float(kendalltau(truth_N, predicted_N).statistic) if varies else math.nan
    return {
        "r2": r_squared(truth_N, predicted_N) if most > 0 else math.nan,  # rounding may give a constant a variance
        "tau": tau,
        "tau_max": most,
        "tau_ratio": tau / most if varies else math.nan,
    }


def tau_max(truth_N: NDArray[np.float64]) -> float:
    """Kendall's tau-b of a prediction that orders all unequal values rightly and has no ties itself.

    With n0 pairs, of which n1 are tied in the truth: (n0 - n1) / sqrt((n0 - n1) n0) = sqrt(1 - n1 / n0). NaN for less
    than two states.
    """
    num = len(truth_N)
    if num < 2:
        return math.nan
    counts = np.unique(truth_N, return_counts=True)[1].astype(np.float64)
    return math.sqrt(1 - float((counts * (counts - 1)).sum()) / (num * (num - 1)))


def classification_scores(truth_N: NDArray[Any], predicted_N: NDArray[Any]) -> dict[str, float]:
    """The share of right answers; NaN without states."""
    right = [one == other for one, other in zip(truth_N.tolist(), predicted_N.tolist(), strict=True)]
    return {"accuracy": float(np.mean(right)) if right else math.nan}


def mean_and_interval(values_S: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and the half width of its 95 % interval by Student's t; NaN where a value or two are missing.

    The splits of several seeds share models, so the interval only shows how much a score depends on the split.
    """
    values = np.asarray(values_S, np.float64)
    if not len(values) or not np.isfinite(values).all():
        return math.nan, math.nan
    if len(values) < 2:
        return float(values[0]), math.nan
    from scipy.stats import t

    return float(values.mean()), float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
