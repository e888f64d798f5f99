"""Linear models that predict properties of models from their weights, as the reference benchmarks its zoos.

Shape suffixes: N = states, D = features, K = classes.

Source: Schürholt et al. (2022), arXiv:2209.14764, and its code, def_baseline_models.py: ridge regression in closed form
and softmax regression, from the weights or from 14 statistics per layer.

The softmax regression is written here because its result depends on the reference's own procedure (Adam, 50 epochs, no
scaling, no early stop), which scikit-learn's solvers do not follow.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout
from zooforge.storage.zoo import Zoo as Published

from ..errors import InputError

PENALTIES = tuple(step * 10.0**power for power in range(3, -6, -1) for step in (1.0, 0.3))[:-1]
"""1e3, 3e2, 1e2, ... 3e-5, 1e-5."""
PERCENTILES = (1, 25, 50, 75, 99)
WEIGHT_THRESHOLD = 5.0
"""States with a larger absolute weight are left out, as in the reference's notebook."""
MOST_UNKNOWNS = 8_000
"""Limit of the smaller of the numbers of states and of weights: memory grows with its square, time with its cube."""
NUMBERS = ("test_acc", "ggap", "epoch", "dropout_ratio", "learning_rate", "weight_decay", "sparsity_ratio")
NAMES = ("activation", "initializer", "optimizer")
SPLITS = ("train", "val", "test")

# The settings of the softmax regression.
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, SEED = 50, 10, 1e-4, 1e-6, 42
BETAS, EPSILON = (0.9, 0.999), 1e-8

Features = Literal["weights", "statistics"]
Kind = Literal["regression", "classification"]


@dataclass(frozen=True)
class States:
    """States of one zoo.

    Attributes:
        columns: labels by name, each [N]: float64 for numbers, else objects; ``split`` is one of them.
        num_left_out: states with a weight that is not finite or beyond the threshold.
    """

    zoo: str
    layout: Layout
    weights_ND: NDArray[np.float32]
    columns: Mapping[str, NDArray[Any]]
    num_left_out: int

    def of_split(self, split: str) -> NDArray[np.intp]:
        """Positions of the states whose model is in ``split``."""
        return np.flatnonzero(self.columns["split"] == split)


@dataclass(frozen=True, slots=True)
class Score:
    """The accuracy with which one kind of features predicts one property, fitted on the train split.

    Attributes:
        by_split: R squared of a regression, else the share of right answers; NaN for an empty split.
        penalty: that of the ridge regression, chosen on val; None for a classification.
        elsewhere: (score, Kendall's tau or None) on the test split of each other zoo.
    """

    target: str
    kind: Kind
    features: Features
    by_split: Mapping[str, float]
    penalty: float | None
    elsewhere: Mapping[str, tuple[float, float | None]]


def read_states(published: Published, epochs: Sequence[int]) -> States:
    """Read the states of ``epochs`` whose weights are finite and within the threshold."""
    weights = published.weights(epochs=list(epochs))
    labels = published.labels(epochs=list(epochs))
    at = {
        key: row for row, key in enumerate(zip(labels["model"].to_pylist(), labels["epoch"].to_pylist(), strict=True))
    }
    rows = np.array([at[int(m), int(e)] for m, e in zip(weights.models, weights.epochs, strict=True)], np.intp)
    values_ND = np.asarray(weights.values)
    kept = (np.abs(values_ND) <= WEIGHT_THRESHOLD).all(axis=1)  # NaN is not kept either
    names = [name for name in (*NUMBERS, *NAMES, "split") if name in labels.column_names]
    columns = {}
    for name in names:
        column = np.array(labels[name].to_pylist(), np.float64 if name in NUMBERS else object)
        columns[name] = column[rows][kept]
    return States(published.name, published.layout, values_ND[kept], columns, int((~kept).sum()))


def statistics(layout: Layout, weights_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean, variance and percentiles 1, 25, 50, 75, 99 of each tensor, in layout order.

    Returns:
        [N, 7 * number of tensors].
    """
    parts = []
    for entry in layout.entries:
        tensor = weights_ND[:, entry.offset : entry.stop].astype(np.float64)
        spread = np.percentile(tensor, PERCENTILES, axis=1)
        parts += [tensor.mean(axis=1), tensor.var(axis=1), *spread]
    return np.stack(parts, axis=1)


def benchmark(
    states: States,
    others: Sequence[States] = (),
    say: Callable[[str], None] = lambda _: None,
) -> list[Score]:
    """Predict every property of ``states`` that varies from statistics and, if they are not too many, from weights.

    Args:
        others: states of further zoos with the same layout, to test on.
        say: called with lines about the progress.

    Raises:
        InputError: no state is in the training split, or another zoo has another layout.
    """
    if not len(states.of_split("train")):
        raise InputError(f"{states.zoo}: no finite state in the training split of its models; grow more of them")
    for other in others:
        if other.layout != states.layout:
            raise InputError(f"{other.zoo}: its weights are laid out otherwise than those of {states.zoo}")
    kinds: list[Features] = ["statistics"]
    if min(states.layout.size, len(states.of_split("train"))) <= MOST_UNKNOWNS:
        kinds.append("weights")
    else:
        say(f"{states.zoo}: not from weights, more than {MOST_UNKNOWNS:,} of them and of states; fewer epochs would do")
    scores = []
    for features in kinds:
        here, elsewhere = _features(features, states), [_features(features, other) for other in others]
        say(f"{states.zoo}: {here.shape[0]:,} states, {here.shape[1]:,} features, {features}")
        solved: dict[bytes, Ridge] = {}  # by training states: targets without nulls share them
        for name in _varying(states, NUMBERS):
            scores.append(_regress(name, features, states, here, others, elsewhere, solved))
        scores += [_classify(name, features, states, here, others, elsewhere) for name in _varying(states, NAMES)]
    return scores


def _features(kind: Features, states: States) -> NDArray[np.float64]:
    if kind == "statistics":
        return statistics(states.layout, states.weights_ND)
    return states.weights_ND.astype(np.float64)


def _varying(states: States, names: Sequence[str]) -> list[str]:
    """Properties with at least two values among the training states."""
    train = states.of_split("train")
    return [
        name for name in names if name in states.columns and len({v for v in states.columns[name][train] if v == v}) > 1
    ]


class Ridge:
    """Ridge regression for many targets and penalties; the intercept, a column of ones, is penalised like the rest.

    By hand because one eigendecomposition serves all 17 penalties and all targets: 13 s of CPU time for 6,000 states of
    2,464 weights, where 17 fits of scikit-learn's Ridge take 33 s and give the same coefficients to 1e-14.
    """

    def __init__(self, x_ND: NDArray[np.float64]) -> None:
        self._x_ND = x = _with_ones(x_ND)
        self._is_dual = len(x) < x.shape[1]  # fewer states than features: solved among the states
        values, self._vectors = np.linalg.eigh(x @ x.T if self._is_dual else x.T @ x)
        self._values = np.maximum(values, 0.0)

    def coefficients(self, y_N: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        """Returns [D + 1], the intercept last."""
        along = self._vectors.T @ (y_N if self._is_dual else self._x_ND.T @ y_N)
        solved: NDArray[np.float64] = self._vectors @ (along / (self._values + penalty))
        return self._x_ND.T @ solved if self._is_dual else solved


def _with_ones(x_ND: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([x_ND, np.ones((len(x_ND), 1), x_ND.dtype)], axis=1)


def r_squared(y_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Returns 1 - mean squared error / variance of ``y_N``; NaN if the variance is zero or ``y_N`` is empty."""
    variance = float(y_N.var()) if len(y_N) else 0.0
    return 1 - float(((y_N - predicted_N) ** 2).mean()) / variance if variance > 0 else math.nan


def _regress(
    name: str,
    features: Features,
    states: States,
    x_ND: NDArray[np.float64],
    others: Sequence[States],
    elsewhere: Sequence[NDArray[np.float64]],
    solved: dict[bytes, Ridge],
) -> Score:
    from scipy.stats import kendalltau

    def known(zoo: States, split: str) -> NDArray[np.intp]:
        positions = zoo.of_split(split)
        finite: NDArray[np.bool_] = np.isfinite(zoo.columns[name][positions])
        return positions[finite]

    y_N = states.columns[name]
    rows = {split: known(states, split) for split in SPLITS}
    train = rows["train"]
    key = train.tobytes()
    if key not in solved:
        solved[key] = Ridge(x_ND[train])
    fits = {penalty: solved[key].coefficients(y_N[train], penalty) for penalty in PENALTIES}

    def score(split: str, penalty: float) -> float:
        return r_squared(y_N[rows[split]], _with_ones(x_ND[rows[split]]) @ fits[penalty])

    chosen_on = "val" if math.isfinite(score("val", 1.0)) else "train"
    penalty = max(PENALTIES, key=lambda one: score(chosen_on, one))
    on_others: dict[str, tuple[float, float | None]] = {}
    for other, values in zip(others, elsewhere, strict=True):
        if name not in other.columns:
            continue
        test = known(other, "test")
        predicted, truth = _with_ones(values[test]) @ fits[penalty], other.columns[name][test]
        tau = float(kendalltau(truth, predicted).statistic) if len(test) > 1 else math.nan
        on_others[other.zoo] = (r_squared(truth, predicted), tau)
    return Score(name, "regression", features, {s: score(s, penalty) for s in SPLITS}, penalty, on_others)


def _classify(
    name: str,
    features: Features,
    states: States,
    x_ND: NDArray[np.float64],
    others: Sequence[States],
    elsewhere: Sequence[NDArray[np.float64]],
) -> Score:
    """A value that does not occur in training cannot be predicted and counts as a wrong answer."""
    rows = {split: states.of_split(split) for split in SPLITS}
    train = states.columns[name][rows["train"]]
    classes = sorted(set(train.tolist()))
    number = {one: k for k, one in enumerate(classes)}
    predict = _softmax_regression(x_ND[rows["train"]], np.array([number[one] for one in train]), len(classes))

    def right(x: NDArray[np.float64], truth: NDArray[Any]) -> float:
        if not len(truth):
            return math.nan
        return float(np.mean([classes[k] == one for k, one in zip(predict(x), truth, strict=True)]))

    on_others: dict[str, tuple[float, float | None]] = {}
    for other, values in zip(others, elsewhere, strict=True):
        if name in other.columns:
            test = other.of_split("test")
            on_others[other.zoo] = (right(values[test], other.columns[name][test]), None)
    by_split = {split: right(x_ND[at], states.columns[name][at]) for split, at in rows.items()}
    return Score(name, "classification", features, by_split, None, on_others)


def _softmax_regression(
    x_ND: NDArray[np.float64], y_N: NDArray[np.int64], num_classes: int
) -> Callable[[NDArray[np.float64]], NDArray[np.int64]]:
    """Fit a softmax regression as the reference does: no scaling, no hidden layer, the weights of the last epoch.

    Returns:
        A function from features [N, D] to class numbers [N].
    """
    rng = np.random.default_rng(SEED)
    x = _with_ones(x_ND.astype(np.float32))
    weight_DK = rng.normal(0, math.sqrt(2 / (x.shape[1] - 1)), (x.shape[1], num_classes)).astype(np.float32)
    weight_DK[-1] = 0
    first, second = np.zeros_like(weight_DK), np.zeros_like(weight_DK)
    steps = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            error = _softmax(x[batch] @ weight_DK)
            error[np.arange(len(batch)), y_N[batch]] -= 1
            gradient = x[batch].T @ error / np.float32(len(batch)) + np.float32(WEIGHT_DECAY) * weight_DK
            steps += 1
            first += np.float32(1 - BETAS[0]) * (gradient - first)
            second += np.float32(1 - BETAS[1]) * (gradient * gradient - second)
            size = LEARNING_RATE * math.sqrt(1 - BETAS[1] ** steps) / (1 - BETAS[0] ** steps)
            weight_DK -= np.float32(size) * first / (np.sqrt(second) + np.float32(EPSILON))
    return lambda values: np.argmax(_with_ones(values.astype(np.float32)) @ weight_DK, axis=1)


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return shares
