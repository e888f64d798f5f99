"""A model's bytes depend on neither instruction set nor lane, chunk, interruption or what other threads train."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.lanes_cases import CATALOGUE, INSTRUCTION_SETS, Case, catalogue_case, run
from tests.support.lanes_strategies import COMBINATIONS, KINDS, cases
from zooforge.zoo_jobs.data.prepared import Split
from zooforge.zoo_jobs.engines.lanes.engine import extension
from zooforge.zoo_jobs.models.layers import (
    ActivationName,
)
from zooforge.zoo_jobs.models.optimizers import OptimizerName

# Every activation, optimizer, kind and architecture, each pair of optimizer and kind at least once.


@pytest.mark.parametrize(("name", "activation", "optimizer", "kind"), COMBINATIONS)
def test_a_trajectory_is_the_same_for_every_width_chunk_and_interruption(
    name: str, activation: ActivationName, optimizer: OptimizerName, kind: str
) -> None:
    whole = catalogue_case(name, activation, optimizer, kind)
    expected = run(whole, isa=INSTRUCTION_SETS[0])
    for isa in INSTRUCTION_SETS[1:]:
        small = whole.take(range(3)) if isa == "scalar" else whole
        assert run(small, isa=isa).digest() == expected.digest(slice(small.num_models)), isa
    assert run(whole.take([18])).digest() == expected.digest(slice(18, 19))
    assert run(whole.take(range(7, 14))).digest() == expected.digest(slice(7, 14))
    first = run(whole, epochs=[1])
    assert run(whole, epochs=[2], state=first.state).digest() == expected.digest()


def test_sessions_that_train_at_the_same_time_in_threads_give_the_bits_of_each_alone() -> None:
    """The slots of one process train this way, because the extension releases Python's lock."""
    whole = catalogue_case("cnn-s ch1", "tanh", "adam", "dropout", num_models=32)
    halves = [whole.take(range(16)), whole.take(range(16, 32))]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda half: run(half).digest(), halves))
    expected = run(whole)
    assert together == [expected.digest(slice(16)), expected.digest(slice(16, 32))]


def test_sixty_four_models_equal_each_of_them_alone() -> None:
    many = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=64)
    together = run(many)
    for model in (0, 15, 16, 40, 63):
        assert run(many.take([model])).digest() == together.digest(slice(model, model + 1))


@given(cases())
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_layer_list_batch_size_and_number_of_models_gives_the_same_bits_everywhere(chosen: Case) -> None:
    expected = run(chosen, isa=INSTRUCTION_SETS[0])
    for isa in INSTRUCTION_SETS[1:]:
        assert run(chosen, isa=isa).digest() == expected.digest(), isa
    last = chosen.num_models - 1
    assert run(chosen.take([last])).digest() == expected.digest(slice(last, last + 1))
    first = run(chosen, epochs=[1], isa=INSTRUCTION_SETS[-2])
    assert run(chosen, epochs=[2], state=first.state).digest() == expected.digest()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_not_finite_leaves_its_neighbours_bit_identical(poison: float, kind: str) -> None:
    healthy = catalogue_case("cnn-s ch1", "gelu", "adam", kind)
    expected = run(healthy)
    sick = replace(healthy, weights=healthy.weights.copy())
    sick.weights[5, :] = poison
    for isa in INSTRUCTION_SETS[:2]:
        found = run(sick, isa=isa)
        assert not np.isfinite(found.state["weights"][5]).all()
        assert found.digest(slice(0, 5)) == expected.digest(slice(0, 5))
        assert found.digest(slice(6, 19)) == expected.digest(slice(6, 19))
    payloads = found.state["weights"].view(np.uint32)[np.isnan(found.state["weights"])]
    assert set(payloads.tolist()) <= {0x7FC00000}, "one NaN, whatever the compiler's order of operands"


@pytest.mark.parametrize("name", CATALOGUE)
def test_images_that_only_the_table_describes_are_looked_up(name: str) -> None:
    """A table that no mean and deviation can express gives the same training as images with the values themselves."""
    plain = catalogue_case(name, "tanh", "adam", "plain", num_models=16)
    order = np.argsort(np.cos(np.arange(256.0)), kind="stable")
    table = np.ascontiguousarray(plain.data.pixel_values[:, np.argsort(order)])
    assert np.array_equal(table[:, order], plain.data.pixel_values)

    def moved(split: Split) -> Split:
        return Split(order[split.images].astype(np.uint8), split.labels)

    data = replace(
        plain.data,
        pixel_values=table,
        train=moved(plain.data.train),
        val=moved(plain.data.val),
        test=moved(plain.data.test),
    )
    assert extension().has_pixel_rules(plain.data.pixel_values)
    assert not extension().has_pixel_rules(table)
    expected = run(plain)
    for isa in INSTRUCTION_SETS[:2]:
        assert run(replace(plain, data=data), isa=isa).digest() == expected.digest()
