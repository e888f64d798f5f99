"""Lanes with different numbers of training rows: a lane that is done stays as it is while its neighbours go on."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.lanes_cases import INSTRUCTION_SETS, Case, Result, catalogue_case, run
from tests.support.lanes_strategies import KINDS
from zooforge.zoo_jobs.engines.contract import Evaluation
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.subsets import training_rows
from zooforge.zoo_jobs.models.optimizers import OptimizerName

FRACTIONS = (0.5, 1.0, 0.1, 0.25, 0.35)  # of 20 rows, in batches of 7: 10, 20, 2, 5, 7


def alone(chosen: Case, model: int) -> Case:
    """One model without a fraction, and data whose training split is its subset."""
    one = chosen.take([model])
    h = one.hyperparameters
    rows = training_rows(int(h.seed_P[0]), float(h.train_fraction_P[0]), len(chosen.data.train))
    data = replace(chosen.data, train=chosen.data.train.take(rows))
    return replace(one, data=data, hyperparameters=replace(h, train_fraction_P=np.ones(1)))


@pytest.mark.parametrize(("kind", "optimizer"), list(zip(KINDS, ("adam", "rmsprop", "adamw", "sgd"), strict=True)))
def test_a_lane_trains_as_if_its_subset_were_the_split(kind: str, optimizer: OptimizerName) -> None:
    whole = catalogue_case("cnn-s ch1", "tanh", optimizer, kind, fractions=FRACTIONS)
    expected = run(whole)
    assert expected.running.num_samples_P[:5].tolist() == [10, 20, 2, 5, 7]
    assert expected.state["step"][:5].tolist() == [4, 6, 2, 2, 2]
    for model in (0, 1, 2, 8, 14):
        assert run(alone(whole, model)).digest() == expected.digest(slice(model, model + 1)), model


def test_instruction_sets_chunks_and_interruptions_change_no_byte_of_models_with_fractions() -> None:
    whole = catalogue_case("cnn-s ch1", "relu", "adam", "dropout", num_models=37, fractions=FRACTIONS)
    expected = run(whole)
    for isa in INSTRUCTION_SETS:
        small = whole.take(range(3)) if isa == "scalar" else whole
        assert run(small, isa=isa).digest() == expected.digest(slice(small.num_models)), isa
    for models in (range(5, 6), range(7, 24)):
        assert run(whole.take(models)).digest() == expected.digest(slice(models.start, models.stop))
    first = run(whole, epochs=[1])
    assert run(whole, epochs=[2], state=first.state).digest() == expected.digest()


@pytest.mark.parametrize("poison", [np.nan, np.inf, 3e38])
def test_a_lane_that_is_done_keeps_its_bits_beside_one_that_is_not_finite(poison: float) -> None:
    healthy = catalogue_case("cnn-s ch1", "gelu", "adam", "plain", num_models=16, fractions=FRACTIONS)
    expected = run(healthy)
    sick = replace(healthy, weights=healthy.weights.copy())
    sick.weights[[1, 2], :] = poison  # the one with most rows, the one with fewest
    found = run(sick)
    for model in (0, *range(3, 16)):
        assert found.digest(slice(model, model + 1)) == expected.digest(slice(model, model + 1))
    assert run(alone(sick, 2)).digest() == found.digest(slice(2, 3)), "what is not finite is so in the same way"


def clean(chosen: Case, result: Result, engine: LanesEngine | SequentialEngine) -> Evaluation:
    with engine.open(chosen.program, chosen.hyperparameters, result.state, chosen.data) as session:
        return session.evaluate("train")


def test_clean_train_metrics_are_those_of_the_subset() -> None:
    whole = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=18, fractions=FRACTIONS)
    trained = run(whole)
    found = clean(whole, trained, LanesEngine())
    assert found.num_samples_P[:5].tolist() == [10, 20, 2, 5, 7]
    assert found.class_predicted_PC.sum(axis=1).tolist() == found.num_samples_P.tolist()
    oracle = clean(whole, trained, SequentialEngine("cpu"))
    np.testing.assert_allclose(found.loss_sum_P, oracle.loss_sum_P, rtol=1e-4)
    assert found.class_correct_PC.tolist() == oracle.class_correct_PC.tolist()
    for model in (0, 1, 7):
        one = alone(whole, model)
        state = {name: values[[model]] for name, values in trained.state.items()}
        with LanesEngine().open(one.program, one.hyperparameters, state, one.data) as session:
            assert session.evaluate("train").loss_sum_P[0] == found.loss_sum_P[model]


def test_rows_outside_the_data_or_none_at_all_are_refused_by_the_extension() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=2)
    with LanesEngine().open(chosen.program, chosen.hyperparameters, chosen.state(), chosen.data) as session:
        native = session._native
        with pytest.raises(ValueError, match="no training rows"):
            native.put_rows([np.zeros(0, np.uint32)] * 2)
        with pytest.raises(ValueError, match="another number of models"):
            native.put_rows([np.zeros(1, np.uint32)])
        native.put_rows([np.array([0, 20], np.uint32)] * 2)
        with pytest.raises(ValueError, match="outside the data"):
            session.train_epoch(1, np.ones(2, np.bool_))


def test_a_lane_is_told_its_own_labels_whatever_stands_beside_it() -> None:
    whole = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=21, fractions=(1.0, 0.5), noise=0.6)
    expected = run(whole)
    for isa in INSTRUCTION_SETS:
        small = whole.take(range(3)) if isa == "scalar" else whole
        assert run(small, isa=isa).digest() == expected.digest(slice(small.num_models)), isa
    for model in (0, 1, 2, 5):
        one = whole.take([model])
        h = one.hyperparameters
        told = h.training_labels(whole.data, 0)
        assert (told != whole.data.train.labels).any() == (model % 3 > 0)
        data = replace(whole.data, train=replace(whole.data.train, labels=told))
        quiet = replace(one, data=data, hyperparameters=replace(h, label_noise_P=np.zeros(1)))
        assert run(quiet).digest() == expected.digest(slice(model, model + 1))
    true, other = clean(whole, expected, LanesEngine()), clean(whole, expected, SequentialEngine("cpu"))
    assert true.class_correct_PC.tolist() == other.class_correct_PC.tolist()


def test_labels_of_other_data_are_refused_by_the_extension() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=2)
    with LanesEngine().open(chosen.program, chosen.hyperparameters, chosen.state(), chosen.data) as session:
        with pytest.raises(ValueError, match="labels of another number of rows"):
            session._native.put_labels(session._split("train"), np.zeros((2, 19), np.uint8))
        session._native.put_labels(session._split("val"), np.zeros((2, 3), np.uint8))
        with pytest.raises(ValueError, match="labels of other data"):
            session.train_epoch(1, np.ones(2, np.bool_))
