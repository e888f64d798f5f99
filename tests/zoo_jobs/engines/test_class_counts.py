"""Evaluations count right predictions and predictions by class, alike in every engine."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.list_populations import BATCH, MODELS, images, population
from zooforge.zoo_jobs.engines.contract import Evaluation, Program
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.lanes.engine import extension
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.sequential.session import EVALUATED_AT_ONCE
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.models.layers import Activation, Architecture, Flatten, Linear

ENGINES = [SequentialEngine("cpu"), StackedEngine("cpu"), *([] if extension() is None else [LanesEngine()])]
CLASSES = 17
NETWORK = Architecture("list", 1, 8, (Flatten(), Linear(64, 20), Activation("relu"), Linear(20, CLASSES)))
PROGRAM = Program(NETWORK, "sgd", BATCH, False)
DATA = images(NETWORK, EVALUATED_AT_ONCE + 113)  # more than one block of every engine
LABELS = DATA.test.labels


def evaluated(engine: Any, weights_PD: NDArray[np.float32]) -> Evaluation:
    hyperparameters, state = population(PROGRAM)
    with engine.open(PROGRAM, hyperparameters, {**state, "weights": weights_PD}, DATA) as session:
        found: Evaluation = session.evaluate("test")
        assert session.evaluate("test").class_predicted_PC.tolist() == found.class_predicted_PC.tolist()
    return found


def weights() -> NDArray[np.float32]:
    weights_PD: NDArray[np.float32] = population(PROGRAM)[1]["weights"]
    return weights_PD


def check_sums(found: Evaluation) -> None:
    for counts in (found.class_correct_PC, found.class_predicted_PC):
        assert counts.dtype == np.int32 and counts.shape == (MODELS, CLASSES) and counts.flags.c_contiguous
    assert found.class_correct_PC.sum(axis=1).tolist() == found.correct_P.tolist()
    assert found.class_predicted_PC.sum(axis=1).tolist() == found.num_samples_P.tolist()
    assert (found.class_correct_PC <= np.bincount(LABELS, minlength=CLASSES)).all()
    assert (found.class_correct_PC <= found.class_predicted_PC).all()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: str(engine.name))
def test_counts_by_class_are_those_of_numpy(engine: Any) -> None:
    found = evaluated(engine, weights())
    check_sums(found)
    pixels = DATA.pixel_values[0][DATA.test.images].reshape(len(LABELS), -1).astype(np.float64)
    for model, row in enumerate(weights()):
        tensors = NETWORK.layout.unflatten(row)
        hidden = np.maximum(pixels @ tensors["linear1.weight"].T + tensors["linear1.bias"], 0)
        predicted = np.argmax(hidden @ tensors["linear2.weight"].T + tensors["linear2.bias"], axis=1)
        assert found.class_predicted_PC[model].tolist() == np.bincount(predicted, minlength=CLASSES).tolist()
        right = predicted[predicted == LABELS]
        assert found.class_correct_PC[model].tolist() == np.bincount(right, minlength=CLASSES).tolist()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: str(engine.name))
def test_equal_logits_count_for_the_first_class(engine: Any) -> None:
    found = evaluated(engine, np.zeros_like(weights()))
    check_sums(found)
    assert found.class_predicted_PC[:, 0].tolist() == [len(LABELS)] * MODELS
    assert found.class_correct_PC[:, 0].tolist() == [int((LABELS == 0).sum())] * MODELS


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: str(engine.name))
@pytest.mark.parametrize(("first", "by_torch", "by_lanes"), [(0, 0, 0), (5, 5, None)])
def test_a_nan_counts_where_the_contract_says(engine: Any, first: int, by_torch: int, by_lanes: int | None) -> None:
    """The logits from class ``first`` on are NaN. ``lanes`` then predicts one of the classes before it."""
    weights_PD = weights()
    expected = evaluated(engine, weights_PD)
    NETWORK.layout.unflatten(weights_PD[1])["linear2.bias"][first:] = np.nan
    found = evaluated(engine, weights_PD)
    check_sums(found)
    for other in (0, 2):
        assert found.class_predicted_PC[other].tolist() == expected.class_predicted_PC[other].tolist()
    if engine.name == "lanes" and by_lanes is None:
        assert found.class_predicted_PC[1, :first].sum() == len(LABELS)
    else:
        assert found.class_predicted_PC[1, by_torch] == len(LABELS)
