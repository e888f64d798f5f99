"""The scores of `zoo benchmark` for ties, constant values and few seeds."""

import math

import numpy as np
import pytest

from zooforge.zoo_jobs.benchmark.scores import (
    classification_scores,
    mean_and_interval,
    regression_scores,
    tau_max,
)


def test_ties_in_the_truth_cap_tau_and_a_perfect_order_reaches_the_cap() -> None:
    truth = np.array([0.1, 0.1, 0.5, 0.5, 0.5, 0.9])
    order = np.arange(6.0)
    scores = regression_scores(truth, order)
    assert scores["tau"] == pytest.approx(tau_max(truth)) and scores["tau_ratio"] == pytest.approx(1)
    assert tau_max(truth) == pytest.approx(math.sqrt(1 - (1 + 3) / 15))
    assert tau_max(order) == 1 and math.isnan(tau_max(order[:1]))


def test_tau_of_a_constant_is_undefined_and_its_r_squared_is_not() -> None:
    scores = regression_scores(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0))
    assert math.isnan(scores["tau"]) and math.isnan(scores["tau_ratio"]) and scores["r2"] == 0


def test_a_truth_that_does_not_vary_has_no_r_squared_though_its_mean_is_rounded() -> None:
    truth = np.full(77, 0.9)
    assert truth.mean() != truth[0]
    assert math.isnan(regression_scores(truth, np.full(77, 0.9))["r2"])


def test_accuracy_is_the_share_of_right_answers() -> None:
    one, other = np.array(["a", "b", "b"], object), np.array(["a", "b", "a"], object)
    assert classification_scores(one, other) == {"accuracy": pytest.approx(2 / 3)}


def test_the_interval_is_that_of_student() -> None:
    assert mean_and_interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.302652729911275 / math.sqrt(3)))
    assert mean_and_interval([0.5]) == (0.5, pytest.approx(math.nan, nan_ok=True))
    assert math.isnan(mean_and_interval([0.5, math.nan])[0]) and math.isnan(mean_and_interval([])[0])
