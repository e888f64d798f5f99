"""Final accuracy and final weights from the first epochs.

Shape suffixes: N = models, D = weights, 4 = the first kept epoch, the last two that are seen, the last of all.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout

from ...errors import InputError
from ..comparison import Question, Result, compare, reproducible
from ..methods.contract import Fit, Predict, Problem
from ..plots import panels
from ..request import Request
from ..samples import NOT_FINITE, Given, Samples, read_samples
from ..tables import Report, report
from .from_state import settings, splits_of

ACCURACY, WEIGHTS = "final test_acc", "final weights"
LAST, LINE, FITTED = "last-value", "linear-extrapolation", "linear-by-tensor"
SHARE = 4  # by default the methods know every fourth epoch

Vectors = NDArray[np.float64]


def run(request: Request) -> Report:
    epochs = _epochs(request)
    samples, weights_4ND = _read(request, epochs)
    question = Question(ACCURACY, "regression", samples, splits_of(samples, request))
    seen = _history_epochs(request, epochs[2])
    methods = {LAST: _last_value, LINE: _line(seen, epochs[3]), **request.methods}
    results, counts = compare([question], methods, request.seeds, request.say)
    folds = [question.splits(seed)[""] for seed in request.seeds]
    with reproducible():
        results += _weights(weights_4ND, epochs, request.zoo.layout, folds)
    asked = settings(request, epochs=f"first {epochs[2]} of {epochs[3]}")
    return report("forecast", request, results, counts, samples.excluded, asked, panels=panels)


def _epochs(request: Request) -> tuple[int, int, int, int]:
    """The first kept epoch, the last two known epochs, and the last epoch of all."""
    kept = request.zoo.epochs
    first = request.first if request.first is not None else max(1, kept[-1] // SHARE)
    seen = [epoch for epoch in kept if epoch <= first]
    if len(seen) < 2 or seen[-1] == kept[-1]:
        raise InputError(
            f"--first {first}: of the kept epochs {kept[0]} to {kept[-1]} of {request.zoo.name}, at least two must be "
            "seen and one must be left to forecast"
        )
    return seen[0], seen[-2], seen[-1], kept[-1]


def _history_epochs(request: Request, last: int) -> list[int]:
    """Epochs up to ``last`` that may have a test accuracy for every model, also without kept weights."""
    return sorted(set(request.zoo.labels(columns=["epoch"])["epoch"].to_pylist()) & set(range(last + 1)))


def _read(request: Request, epochs: Sequence[int]) -> tuple[Samples, Vectors]:
    """Models with finite weights at all ``epochs`` and accuracies at all epochs up to the last known one."""
    zoo = request.zoo
    samples = read_samples(zoo, epochs[2], request.weight_threshold)
    seen = _history_epochs(request, epochs[2])
    table = zoo.labels(columns=["model", "epoch", "test_acc"])
    accuracy = dict(
        zip(
            zip(table["model"].to_pylist(), table["epoch"].to_pylist(), strict=True),
            table["test_acc"].to_pylist(),
            strict=True,
        )
    )
    models = samples.labels["model"].tolist()
    history = np.array([[accuracy.get((model, epoch)) for epoch in seen] for model in models], np.float64)
    history = history.reshape(len(models), len(seen))
    final = np.array([accuracy.get((model, epochs[3])) for model in models], np.float64)
    samples = samples.with_label(ACCURACY, final).with_history(history)
    samples = samples.keep(np.asarray(np.isfinite(history).all(axis=1)), "an accuracy that is to be seen is unknown")
    samples = samples.with_known(ACCURACY)
    vectors = []
    for epoch in epochs:
        states = zoo.weights(epochs=f"{epoch}:{epoch + 1}")
        vectors.append(dict(zip(states.models.tolist(), states.values, strict=True)))
    models = samples.labels["model"].tolist()
    finite = [all(model in v and bool(np.isfinite(v[model]).all()) for v in vectors) for model in models]
    samples = samples.keep(np.array(finite, bool), NOT_FINITE)
    models = samples.labels["model"].tolist()
    weights_4ND = np.array([[v[model] for model in models] for v in vectors], np.float64)
    return samples, weights_4ND


def _last_value(problem: Problem) -> Predict:
    """The accuracy of the last known epoch."""
    return lambda given: given.history[:, -1]


def _line(seen: Sequence[int], final: int) -> Fit:
    """The value at ``final`` of the straight line through the known accuracies, cut to 0 to 1."""
    design = np.stack([np.ones(len(seen)), np.asarray(seen, np.float64)], axis=1)
    along: NDArray[np.float64] = np.array([1.0, final]) @ np.linalg.pinv(design)

    def predict(given: Given) -> NDArray[Any]:
        return np.asarray(np.clip((given.history * along).sum(axis=1), 0.0, 1.0))

    return lambda problem: predict


def _weights(
    weights_4ND: Vectors, epochs: Sequence[int], layout: Layout, folds: Sequence[NDArray[Any]]
) -> list[Result]:
    """R squared over all weights of the test models, relative to the mean of each weight."""
    scores: dict[str, list[float]] = {LAST: [], LINE: [], FITTED: []}
    steps = (epochs[3] - epochs[2]) / (epochs[2] - epochs[1])
    for splits in folds:
        train, test = (weights_4ND[:, splits == split] for split in ("train", "test"))
        _, before, seen, final = test
        for name, predicted in (
            (LAST, seen), (LINE, seen + steps * (seen - before)), (FITTED, _by_tensor(train, test, layout)),
        ):  # fmt: skip
            spread = float(((final - final.mean(axis=0)) ** 2).sum())
            scores[name].append(1 - float(((final - predicted) ** 2).sum()) / spread if spread > 0 else math.nan)
    return [Result(WEIGHTS, None, "", name, {"r2": tuple(values)}) for name, values in scores.items()]


def _by_tensor(train_4ND: Vectors, test_4ND: Vectors, layout: Layout) -> Vectors:
    """The last known weights plus multiples of three directions; least squares on train fits the factors by tensor.

    The directions: the weights themselves, their change since the first kept epoch, and their last change.
    """
    predicted: Vectors = test_4ND[2].copy()
    for entry in layout.entries:
        (own, target), (other, _) = (
            _directions(values[:, :, entry.offset : entry.stop]) for values in (train_4ND, test_4ND)
        )
        parts, *_ = np.linalg.lstsq(own.reshape(-1, 3), target.reshape(-1), rcond=None)
        predicted[:, entry.offset : entry.stop] += other @ parts
    return predicted


def _directions(weights_4ND: Vectors) -> tuple[Vectors, Vectors]:
    """The directions [N, D, 3], and the remaining change [N, D]."""
    first, before, seen, final = weights_4ND
    return np.stack([seen, seen - first, seen - before], axis=-1), final - seen
