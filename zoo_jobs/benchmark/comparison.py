"""Fits every method on every question with every seed, and scores the predictions on the test set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .leaks import check_one_by_one, check_roots, siblings
from .methods.contract import Fit, Kind, Part, Predict, Problem, Unfit
from .samples import Samples
from .scores import classification_scores, regression_scores

Say = Callable[[str], None]


Splits = Mapping[str, NDArray[Any]]
"""By zoo that is tested on, and under the empty name for the zoo itself, the split of each of its states [N]."""


@dataclass(frozen=True, eq=False)
class Question:
    """A property that is predicted from states.

    Attributes:
        splits: by seed.
        threshold: the test accuracy below which models were left out before the split; None: there is none.
        tests: zoos to test on, by name; none: the test split of ``samples``.
    """

    target: str
    kind: Kind
    samples: Samples
    splits: Callable[[int], Splits]
    threshold: float | None = None
    tests: Mapping[str, Samples] = field(default_factory=dict)

    def fold(self, seed: int) -> "Fold":
        """The training, validation and test sets of ``seed``. Raises Leak: a root is in two of them."""
        splits = self.splits(seed)
        own = splits[""]
        used = np.isin(own, ("train", "val")) if self.tests else np.ones(len(own), bool)
        tested = {name: np.flatnonzero(splits[name] == "test") for name in self.tests}
        roots = [self.samples.roots[used], *(self.tests[name].roots[rows] for name, rows in tested.items())]
        places = [own[used], *(np.full(len(rows), "test", object) for rows in tested.values())]
        check_roots(np.concatenate(roots), np.concatenate(places), self.samples.zoo)
        parts = {split: self._part(self.samples, np.flatnonzero(own == split)) for split in ("train", "val", "test")}
        tests = {name: self._part(self.tests[name], rows) for name, rows in tested.items()} or {"": parts["test"]}
        for name, test in tests.items():
            if not len(test.given):
                raise InputError(f"{name or self.samples.zoo}: no model to test on; grow more models")
        relatives = {} if self.tests else siblings(self.samples, own)
        return Fold(parts["train"], parts["val"], tests, relatives)

    def _part(self, samples: Samples, rows: NDArray[Any]) -> Part:
        chosen = samples[rows]
        values = chosen.labels[self.target]
        return Part(chosen.given, values.astype(np.float64 if self.kind == "regression" else object))


@dataclass(frozen=True, eq=False)
class Fold:
    """The sets of one seed; ``tests`` by zoo, the empty name for the zoo itself."""

    train: Part
    val: Part
    tests: Mapping[str, Part]
    siblings: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Result:
    """The scores of one method on one question.

    Attributes:
        tested_on: the name of another zoo; empty for the test split of the zoo itself.
        scores: by metric of ``scores.METRICS``, a value per seed.
        note: why there are no scores.
    """

    target: str
    threshold: float | None
    tested_on: str
    method: str
    scores: Mapping[str, tuple[float, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """States of each split, and siblings among the test states, at the first seed."""

    target: str
    threshold: float | None
    tested_on: str
    states: Mapping[str, int]
    siblings: Mapping[str, int]


def compare(
    questions: Iterable[Question],
    methods: Mapping[str, Fit],
    seeds: Sequence[int],
    say: Say,
    unfit: Mapping[tuple[str, str], str] | None = None,
) -> tuple[list[Result], list[Counts]]:
    """Answer ``questions`` by ``methods``.

    Args:
        unfit: by (method, zoo that is tested on), why the method cannot predict it.

    Raises:
        Leak: something of the test set would reach a method.
        InputError: a method fails, or predicts a value that is not finite.
    """
    results: list[Result] = []
    counts: list[Counts] = []
    with reproducible():
        for question in questions:
            at = "" if question.threshold is None else f" from {question.threshold:.0%}"
            say(f"{question.samples.zoo}: {question.target}{at}, {len(question.samples):,} states")
            folds = {seed: question.fold(seed) for seed in seeds}
            counts += _counts(question, folds[seeds[0]])
            for name, fit in methods.items():
                results += _answer(question, name, fit, folds, unfit or {})
    return results, counts


@contextmanager
def reproducible() -> Iterator[None]:
    """Use one thread for everything, because the order of sums depends on the number of threads."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _answer(
    question: Question, name: str, fit: Fit, folds: Mapping[int, Fold], unfit: Mapping[tuple[str, str], str]
) -> list[Result]:
    targets = list(question.tests) or [""]
    scores: dict[str, dict[str, list[float]]] = {target: {} for target in targets}
    notes = {target: unfit.get((name, target), "") for target in targets}
    for seed, fold in folds.items():
        open_targets = [target for target in targets if not notes[target]]
        if not open_targets:
            break
        try:
            predict = fit(Problem(fold.train, fold.val, question.kind, seed))
        except Unfit as error:
            notes |= dict.fromkeys(open_targets, str(error))
            break
        for target in open_targets:
            for metric, value in _scores(predict, fold.tests[target], question.kind, name).items():
                scores[target].setdefault(metric, []).append(value)
    return [
        Result(
            question.target,
            question.threshold,
            target,
            name,
            {} if notes[target] else {metric: tuple(values) for metric, values in scores[target].items()},
            notes[target],
        )
        for target in targets
    ]


def _scores(predict: Predict, test: Part, kind: Kind, name: str) -> dict[str, float]:
    predicted = predict(test.given)
    if predicted.dtype.kind == "f" and not np.isfinite(predicted).all():
        bad = int((~np.isfinite(predicted)).sum())
        raise InputError(f"method {name}: {bad:,} of {len(predicted):,} predictions are not finite")
    check_one_by_one(predict, test.given, predicted, name)
    score = regression_scores if kind == "regression" else classification_scores
    return score(test.truth, predicted)


def _counts(question: Question, fold: Fold) -> list[Counts]:
    sizes = {"train": len(fold.train.given), "val": len(fold.val.given)}
    return [
        Counts(question.target, question.threshold, name, {**sizes, "test": len(test.given)}, fold.siblings)
        for name, test in fold.tests.items()
    ]
