"""Every engine trains real digits to the accuracies of `sequential`; `make test-zoos` has the larger test."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.paired_engines import MARGIN, accuracies, assert_equivalent
from zooforge.zoo_jobs.engines.choose import make_engine

Made = Callable[..., Any]

NUM_MODELS, NUM_EPOCHS, NUM_TRAIN = 16, 2, 1000


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("name", ["lanes", "stacked"])
def test_16_models_over_2_epochs_are_as_accurate_as_those_of_the_oracle(
    name: str, oracle: dict[str, Any], population: Made, digits: Made
) -> None:
    made = population(num_models=NUM_MODELS, learning_rate=0.003)
    data = digits(num_train=NUM_TRAIN, num_test=500)
    engine = make_engine(name)
    if reason := engine.refuses(made.program):
        pytest.skip(f"{name}: {reason}")
    if "accuracies" not in oracle:
        oracle["accuracies"] = accuracies(make_engine("sequential"), made, data, NUM_EPOCHS)
    assert oracle["accuracies"].mean() > 0.6
    assert np.std(oracle["accuracies"]) > MARGIN  # the models differ more than the engines are allowed to
    assert_equivalent(accuracies(engine, made, data, NUM_EPOCHS), oracle["accuracies"])
