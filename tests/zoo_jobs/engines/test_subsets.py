"""A model with a train fraction trains as if the split were its subset; subsets of one seed are nested."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rounding import same_to_rounding
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.contract import Engine, Evaluation, Running, StateArrays
from zooforge.zoo_jobs.engines.growth import Growth
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.engines.subsets import num_training_rows, packed, training_labels, training_rows

Made = Callable[..., Any]
FRACTIONS = (1.0, 0.1, 0.25, 0.5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.lists(st.floats(1e-6, 1), min_size=2, max_size=4))
def test_subsets_of_one_seed_are_nested_and_have_their_size(seed: int, num_rows: int, fractions: list[float]) -> None:
    subsets = [training_rows(seed, fraction, num_rows).tolist() for fraction in sorted(fractions)]
    for fraction, rows in zip(sorted(fractions), subsets, strict=True):
        assert rows == sorted(set(rows)) and 1 <= len(rows) == num_training_rows(fraction, num_rows)
    for smaller, larger in itertools.pairwise(subsets):
        assert set(smaller) <= set(larger)
    assert training_rows(seed, 1.0, num_rows).tolist() == list(range(num_rows))


@pytest.mark.parametrize(
    ("fraction", "num_rows", "count"), [(0.07, 100, 7), (0.1, 50_000, 5_000), (0.101, 10, 2), (1e-9, 5, 1), (1.0, 7, 7)]
)
def test_a_fraction_is_rounded_up_without_the_error_of_floats(fraction: float, num_rows: int, count: int) -> None:
    assert num_training_rows(fraction, num_rows) == count


def test_models_are_packed_by_their_rows_the_first_of_equals_first() -> None:
    assert packed(np.array([5, 50, 5, 20, 50], np.int32)).tolist() == [1, 4, 3, 0, 2]


def trained(engine: Engine, made: Any, data: PreparedData) -> tuple[StateArrays, Running, Evaluation]:
    num_models = len(made.hyperparameters.seed_P)
    with engine.open(made.program, made.hyperparameters, made.state, data) as session:
        for epoch in (1, 2):
            running = session.train_epoch(epoch, np.ones(num_models, np.bool_))
        return session.state(), running, session.evaluate("train")


def alone(made: Any, model: int, data: PreparedData) -> tuple[Any, PreparedData]:
    """Model ``model`` without a fraction, and data whose training split is its subset."""
    h, state = made.take([model])
    rows = training_rows(int(h.seed_P[0]), float(h.train_fraction_P[0]), len(data.train))
    one = SimpleNamespace(program=made.program, state=state, hyperparameters=replace(h, train_fraction_P=np.ones(1)))
    return one, replace(data, train=data.train.take(rows))


@pytest.mark.parametrize("case", [{}, {"dropout": True, "optimizer": "sgd"}, {"variational": True}])
def test_the_oracle_trains_on_a_subset_as_if_it_were_the_split(
    case: dict[str, Any], population: Made, digits: Made
) -> None:
    made = population(**case, num_models=4, train_fraction=FRACTIONS)
    data = digits(1, 28, 57)
    state, running, clean = trained(SequentialEngine("cpu"), made, data)
    assert running.num_samples_P.tolist() == clean.num_samples_P.tolist() == [57, 6, 15, 29]
    assert state["step"].tolist() == [12, 2, 4, 6]
    for model in range(4):
        one_state, one_running, one_clean = trained(SequentialEngine("cpu"), *alone(made, model, data))
        for name, values in one_state.items():
            assert values.tobytes() == state[name][model : model + 1].tobytes(), name
        assert running.loss_sum_P[model] == one_running.loss_sum_P[0]
        assert clean.loss_sum_P[model] == one_clean.loss_sum_P[0]
        assert clean.class_predicted_PC[model].tolist() == one_clean.class_predicted_PC[0].tolist()


@pytest.mark.parametrize(
    "case",
    [{"optimizer": name, "learning_rate": 5e-4} for name in ("adam", "sgd", "rmsprop", "adamw")]
    + [{"dropout": True}, {"variational": True}],
    ids=lambda case: "-".join(f"{v}" for v in case.values()),
)
def test_stacked_trains_on_subsets_as_the_oracle_does(case: dict[str, Any], population: Made, digits: Made) -> None:
    made = population(**case, num_models=4, train_fraction=FRACTIONS)
    data = digits(1, 28, 57)
    expected, running, clean = trained(SequentialEngine("cpu"), made, data)
    actual, other_running, other_clean = trained(StackedEngine("cpu"), made, data)
    same_to_rounding(expected, actual)
    assert actual["step"].tolist() == expected["step"].tolist()
    for ours, theirs in ((other_running, running), (other_clean, clean)):
        np.testing.assert_allclose(ours.loss_sum_P, theirs.loss_sum_P, rtol=2e-4)
        assert ours.num_samples_P.tolist() == theirs.num_samples_P.tolist()
        assert np.abs(ours.correct_P - theirs.correct_P).max() <= 1
    assert other_clean.class_predicted_PC.sum(axis=1).tolist() == clean.num_samples_P.tolist()


def test_a_session_of_stacked_takes_other_models_with_subsets(population: Made, digits: Made) -> None:
    data = digits(1, 28, 57)
    made = population(num_models=3, train_fraction=(0.5, 0.1, 1.0))
    other = population(num_models=3, train_fraction=(0.2, 0.7, 0.4), seed=[7, 8, 9])
    active = np.ones(3, np.bool_)
    with StackedEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        session.train_epoch(1, active)
        assert session.load(other.hyperparameters, other.state)
        running = session.train_epoch(1, active)
        loaded = session.state()
    assert running.num_samples_P.tolist() == [12, 40, 23]
    with StackedEngine("cpu").open(other.program, other.hyperparameters, other.state, data) as session:
        session.train_epoch(1, active)
        assert session.state()["weights"].tobytes() == loaded["weights"].tobytes()
        assert not session.load(population(num_models=3).hyperparameters, other.state), "other steps, other session"


def test_growth_counts_samples_and_classes_by_model(population: Made, digits: Made) -> None:
    made, data = population(num_models=4, train_fraction=FRACTIONS), digits(1, 28, 57)
    growth = Growth(SequentialEngine("cpu"), made.program, made.hyperparameters, made.state, data)
    growth.step(0, clean_train=False)
    result = growth.step(1, clean_train=True)
    growth.close()
    assert result.samples == 57 + 6 + 15 + 29
    assert result.labels["train_count"].tolist() == result.labels["running_train_count"].tolist() == [57, 6, 15, 29]
    counts = result.labels["train_class_count"]
    assert counts.mask[0].all() and not counts.mask[1:].any(), "null where the subset is the whole split"
    assert counts[1:].sum(axis=1).tolist() == [6, 15, 29]
    assert (result.labels["train_class_correct"][1:] <= counts[1:]).all()


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.999), st.integers(2, 12))
def test_wrong_labels_are_other_classes_and_those_of_less_noise_are_among_them(
    seed: int, noise: float, num_classes: int
) -> None:
    labels = (np.arange(200) % num_classes).astype(np.uint8)
    told, less = (training_labels(seed, p, labels, num_classes) for p in (noise, noise / 2))
    assert told.dtype == np.uint8 and told.max() < num_classes
    assert (told[less != labels] == less[less != labels]).all()


def test_noise_is_uniform_over_the_other_classes_at_its_rate() -> None:
    labels = np.full(20_000, 3, np.uint8)
    counts = np.bincount(training_labels(5, 0.3, labels, 4), minlength=4)
    assert counts[3] == pytest.approx(14_000, abs=300)
    assert counts[:3] == pytest.approx(2_000, abs=200)


@pytest.mark.parametrize("engine", [SequentialEngine("cpu"), StackedEngine("cpu")], ids=lambda engine: engine.name)
def test_training_is_told_wrong_labels_and_evaluations_compare_with_true_ones(
    engine: Engine, population: Made, digits: Made
) -> None:
    made = population(num_models=3, label_noise=(0.0, 0.4, 0.4), train_fraction=(1.0, 1.0, 0.5), learning_rate=5e-4)
    data = digits(1, 28, 57)
    state, running, clean = trained(engine, made, data)
    for model in range(3):
        told = made.hyperparameters.training_labels(data, model)
        assert (told != data.train.labels).any() == (model > 0)
        h, first = made.take([model])
        one = SimpleNamespace(program=made.program, state=first, hyperparameters=replace(h, label_noise_P=np.zeros(1)))
        other = replace(data, train=replace(data.train, labels=told))
        one_state, one_running, _ = trained(SequentialEngine("cpu"), one, other)
        same_to_rounding(one_state, {name: values[[model]] for name, values in state.items()})
        np.testing.assert_allclose(running.loss_sum_P[model], one_running.loss_sum_P[0], rtol=2e-4)
        with engine.open(made.program, one.hyperparameters, one_state, data) as session:
            true = session.evaluate("train")
        np.testing.assert_allclose(clean.loss_sum_P[model], true.loss_sum_P[0], rtol=2e-4)
