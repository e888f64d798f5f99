"""Tests that two engines train a population to the same accuracies: two one-sided tests on paired differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.contract import Engine

MARGIN = 0.01  # of accuracy
SIGNIFICANCE = 0.05

Made = Callable[..., Any]


def accuracies(engine: Engine, made: Any, data: PreparedData, num_epochs: int) -> NDArray[np.float64]:
    """Test accuracy of every model after ``num_epochs``, in chunks of 16 models."""
    accuracies = []
    for start in range(0, len(made.state["step"]), 16):
        h, state = made.take(list(range(len(made.state["step"])))[start : start + 16])
        with engine.open(made.program, h, state, data) as session:
            for epoch in range(1, num_epochs + 1):
                session.train_epoch(epoch, np.ones(len(state["step"]), np.bool_))
            evaluation = session.evaluate("test")
        accuracies.append(evaluation.correct_P / evaluation.num_samples_P)
    return np.concatenate(accuracies)


def assert_equivalent(ours: NDArray[np.float64], oracle: NDArray[np.float64]) -> None:
    """The mean of the paired differences lies within the margin, by two one-sided t-tests."""
    difference = ours - oracle
    if np.ptp(difference) == 0:  # without spread there is nothing to test
        assert abs(difference[0]) < MARGIN
        return
    above = stats.ttest_1samp(difference, -MARGIN, alternative="greater").pvalue
    below = stats.ttest_1samp(difference, MARGIN, alternative="less").pvalue
    words = f"mean difference {difference.mean():+.4f}, spread {difference.std():.4f}, p {max(above, below):.2g}"
    assert max(above, below) < SIGNIFICANCE, words
