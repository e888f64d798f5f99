"""The linear methods of `zoo benchmark`, compared with scikit-learn and with populations whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest

from zooforge.storage.formats.layout import Layout
from zooforge.zoo_jobs.benchmark.linear_models import PENALTIES, Ridge, States, benchmark, r_squared, statistics
from zooforge.zoo_jobs.errors import InputError

LAYOUT = Layout.of([("conv1.weight", (3, 1, 2, 2)), ("conv1.bias", (3,)), ("linear1.weight", (2, 3))])


def states(zoo: str = "made-up", num: int = 120, seed: int = 0, **columns: Any) -> States:
    """Weights whose first tensor has the accuracy as its mean, and whose bias has the optimizer as its sign."""
    rng = np.random.default_rng(seed)
    accuracy, is_adam = rng.uniform(0.2, 0.9, num), rng.random(num) < 0.5
    weights = rng.normal(0, 0.1, (num, LAYOUT.size))
    weights[:, :12] += accuracy[:, None]
    weights[:, 12:15] += np.where(is_adam, 2.0, -2.0)[:, None]
    split = np.array(["train", "train", "val", "test"] * (num // 4), object)
    found = {"test_acc": accuracy, "optimizer": np.where(is_adam, "adam", "sgd").astype(object), "split": split}
    return States(zoo, LAYOUT, weights.astype(np.float32), {**found, **columns}, 0)


def test_there_are_seven_statistics_of_each_tensor_in_the_order_of_the_layout() -> None:
    weights = np.random.default_rng(1).normal(size=(4, LAYOUT.size)).astype(np.float32)
    found = statistics(LAYOUT, weights)
    assert found.shape == (4, 7 * 3)
    bias = weights[2, 12:15].astype(np.float64)
    assert found[2, 7:14] == pytest.approx([bias.mean(), bias.var(), *np.percentile(bias, (1, 25, 50, 75, 99))])


def test_the_penalties_are_the_seventeen_of_the_reference() -> None:
    assert len(PENALTIES) == 17
    assert (PENALTIES[0], PENALTIES[1], PENALTIES[-1]) == (1e3, 3e2, pytest.approx(1e-5))


def test_ridge_equals_that_of_scikit_learn_with_a_penalised_intercept() -> None:
    from sklearn.linear_model import Ridge as Reference

    rng = np.random.default_rng(2)
    for num_states in (40, 4):  # more and fewer than features
        x, y = rng.normal(size=(num_states, 5)), rng.normal(size=num_states)
        ones = np.concatenate([x, np.ones((num_states, 1))], axis=1)
        for penalty in (1e-5, 0.3, 100.0):
            wanted = Reference(alpha=penalty, fit_intercept=False).fit(ones, y).coef_
            assert Ridge(x).coefficients(y, penalty) == pytest.approx(wanted, rel=1e-5)


def test_r_squared_is_one_of_the_truth_and_zero_of_its_mean() -> None:
    y = np.array([1.0, 2.0, 4.0])
    assert (r_squared(y, y), r_squared(y, np.full(3, y.mean()))) == (1.0, 0.0)
    assert math.isnan(r_squared(np.ones(3), y)) and math.isnan(r_squared(y[:0], y[:0]))


def test_a_property_is_predicted_if_and_only_if_the_weights_contain_it() -> None:
    noise = np.random.default_rng(3).random(960)
    there = states("elsewhere", seed=9)
    scores = {(s.target, s.features): s for s in benchmark(states(num=960, weight_decay=noise), [there])}
    assert set(scores) == {(t, f) for t in ("test_acc", "weight_decay", "optimizer") for f in ("statistics", "weights")}
    for features in ("statistics", "weights"):
        accuracy = scores["test_acc", features]
        assert accuracy.by_split["test"] > 0.9 and accuracy.penalty in PENALTIES
        score, tau = accuracy.elsewhere["elsewhere"]
        assert score > 0.9 and tau is not None and tau > 0.8
        assert scores["optimizer", features].by_split["test"] > 0.9
        assert scores["weight_decay", features].by_split["test"] < 0.3
        assert scores["weight_decay", features].elsewhere == {}


def test_a_property_without_values_in_some_states_is_learned_from_the_others() -> None:
    gap = np.random.default_rng(4).random(120)
    gap[::3] = math.nan
    scores = {s.target: s for s in benchmark(states(ggap=gap))}
    assert math.isfinite(scores["ggap"].by_split["train"])


def test_an_empty_training_set_and_another_layout_are_refused() -> None:
    nobody = states(split=np.array(["test"] * 120, object))
    with pytest.raises(InputError, match="no finite state in the training split"):
        benchmark(nobody)
    other = states("other")
    strange = States("other", Layout.of([("a", (21,))]), other.weights_ND, other.columns, 0)
    with pytest.raises(InputError, match="laid out otherwise"):
        benchmark(states(), [strange])
