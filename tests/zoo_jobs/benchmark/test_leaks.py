"""Each kind of leak is created once and must be noticed."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.benchmark_samples import samples
from zooforge.zoo_jobs.benchmark.comparison import Question, compare, reproducible
from zooforge.zoo_jobs.benchmark.leaks import Leak, siblings, summary
from zooforge.zoo_jobs.benchmark.methods.contract import Fit, Predict, Problem
from zooforge.zoo_jobs.benchmark.methods.registry import METHODS
from zooforge.zoo_jobs.benchmark.samples import Given, Samples
from zooforge.zoo_jobs.benchmark.splits import draw, recorded, split
from zooforge.zoo_jobs.errors import InputError


def asked(here: Samples, kind: Any = "drawn") -> Question:
    return Question("test_acc", "regression", here, lambda seed: {"": split(here, kind, seed)})


def answered(here: Samples, fit: Fit, kind: Any = "drawn") -> Any:
    return compare([asked(here, kind)], {"method": fit}, [0], lambda _: None)


def mean(problem: Problem) -> Predict:
    level = float(problem.train.truth.mean())
    return lambda given: np.full(len(given), level)


def test_a_draw_keeps_groups_together_and_has_the_asked_sizes() -> None:
    groups = np.array([f"zoo/{n // 3}" for n in range(300)], object)
    drawn = draw(groups, 1, "zoo")
    assert Counter(drawn.tolist()) == {"train": 210, "val": 45, "test": 45}
    assert all(len(set(drawn[start : start + 3])) == 1 for start in range(0, 300, 3))
    assert (draw(groups, 1, "zoo") == drawn).all() and (draw(groups, 2, "zoo") != drawn).any()
    shuffled = np.random.default_rng(0).permutation(300)
    assert (draw(groups[shuffled], 1, "zoo") == drawn[shuffled]).all()


def test_too_few_models_and_an_empty_split_are_bad_input() -> None:
    with pytest.raises(InputError, match="9 models that are split apart, at least 10 are needed"):
        draw(np.array([f"zoo/{n}" for n in range(9)], object), 0, "zoo")
    no_val = samples(split=np.array(["train", "test"] * 60, object))
    with pytest.raises(InputError, match="no usable model in its val split"):
        recorded(no_val)


def test_a_root_in_two_splits_is_a_leak() -> None:
    here = samples()
    roots = here.roots.copy()
    roots[4] = roots[0]  # a test model that descends from a train model
    with pytest.raises(Leak, match="descend from made-up/0 are in the splits train and test"):
        answered(replace(here, roots=roots), mean, "recorded")
    grouped = replace(here, roots=roots, groups=roots)
    assert answered(grouped, mean)  # a drawn split keeps relatives together


def test_a_root_of_the_zoo_in_the_test_set_of_another_zoo_is_a_leak() -> None:
    here, twins = samples(), samples(zoo="twins")
    twins = replace(twins, roots=here.roots)
    splits = {"": here.labels["split"], "twins": np.roll(here.labels["split"], 1)}
    question = Question("test_acc", "regression", here, lambda _: splits, tests={"twins": twins})
    with pytest.raises(Leak, match="descend from"):
        compare([question], {"method": mean}, [0], lambda _: None)


def test_a_method_that_standardises_by_what_it_predicts_is_a_leak() -> None:
    def fit(problem: Problem) -> Predict:
        def predict(given: Given) -> NDArray[Any]:
            level = given.states.values.mean(axis=1)
            return np.asarray((level - level.mean()) / level.std(), np.float64)

        return predict

    with pytest.raises(Leak, match="changes with the other states"):
        answered(samples(), fit)


def test_the_input_of_a_method_names_no_model_and_no_zoo() -> None:
    seen: list[Problem] = []

    def fit(problem: Problem) -> Predict:
        seen.append(problem)
        return mean(problem)

    answered(samples(), fit)
    (problem,) = seen
    for part in (problem.train, problem.val):
        assert part.given.states.zoo is None
        assert set(part.given.states.models.tolist()) == set(part.given.states.epochs.tolist()) == {-1}


@pytest.mark.parametrize("name", METHODS)
def test_no_method_is_fitted_on_the_test_set(name: str) -> None:
    """Test states of another size would change scales that were fitted on them."""
    here = samples(60)
    question = asked(here)
    fold = question.fold(0)
    problem = Problem(fold.train, fold.val, "regression", 0)
    with reproducible():
        before = METHODS[name].load()(problem)(fold.train.given)
    tested = here.labels["test_acc"].copy()
    rows = np.flatnonzero(split(here, "drawn", 0) == "test")
    here.given.states.values[rows] *= 1000
    tested[rows] = 0
    again = asked(here.with_label("test_acc", tested)).fold(0)
    with reproducible():
        after = METHODS[name].load()(Problem(again.train, again.val, "regression", 0))(fold.train.given)
    assert before.tobytes() == after.tobytes()


def test_siblings_are_counted() -> None:
    here = samples(20, seed=np.arange(20) // 2)
    here.given.states.values[4] = here.given.states.values[0]
    counts = siblings(here, here.labels["split"])
    assert counts["weights"] == 1 and counts["seed"] == 2  # 4 with 5, 14 with 15; 9 and 19 with test and val
    assert summary(counts, 4).startswith(
        "of 4 test states, 2 share their seed, 4 share their cell, 1 have equal weights"
    )


def test_a_prediction_that_is_not_finite_is_bad_input() -> None:
    def fit(problem: Problem) -> Predict:
        return lambda given: np.full(len(given), np.nan)

    with pytest.raises(InputError, match="method method: 18 of 18 predictions are not finite"):
        answered(samples(), fit)
