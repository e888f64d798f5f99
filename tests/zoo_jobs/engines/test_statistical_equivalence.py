"""64 models x 6 epochs on all of mnist5k: engines compared with `sequential`. `make test-zoos` runs it (minutes)."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.paired_engines import accuracies, assert_equivalent
from zooforge.zoo_jobs.engines.choose import make_engine

Made = Callable[..., Any]

NUM_MODELS, NUM_EPOCHS = 64, 6


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lanes", "stacked"])
def test_64_models_over_6_epochs_are_as_accurate_as_those_of_the_oracle(
    name: str, oracle: dict[str, Any], population: Made, digits: Made
) -> None:
    made = population(num_models=NUM_MODELS, learning_rate=0.001)
    data = digits(num_train=4000, num_test=500)
    engine = make_engine(name)
    if reason := engine.refuses(made.program):
        pytest.skip(f"{name}: {reason}")
    if "accuracies" not in oracle:
        oracle["accuracies"] = accuracies(make_engine("sequential"), made, data, NUM_EPOCHS)
    assert_equivalent(accuracies(engine, made, data, NUM_EPOCHS), oracle["accuracies"])
