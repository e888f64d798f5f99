"""A model's bytes depend on neither instruction set nor lane, chunk, threads or interruption."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo_jobs.data.prepared import Split
from zoo_jobs.models.layers import (
    ACTIVATIONS,
    Activation,
    ActivationName,
    Architecture,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
)
from zoo_jobs.population.contract import OptimizerName
from zoo_jobs.population.lanes.engine import extension

from .cases import CATALOGUE, INSTRUCTION_SETS, Case, case, catalogue_case, run

KINDS = ("plain", "dropout", "twin", "magnitude")
# Every activation, optimizer, kind and architecture, each pair of optimizer and kind at least once.
COMBINATIONS = [
    ("cnn-s ch1", "tanh", "adam", "plain"),
    ("cnn-s ch1", "relu", "adam", "dropout"),
    ("cnn-s ch1", "gelu", "adam", "twin"),
    ("cnn-s ch1", "leaky_relu", "adam", "magnitude"),
    ("cnn-s ch3", "sigmoid", "sgd", "plain"),
    ("cnn-s ch3", "silu", "sgd", "dropout"),
    ("cnn-s ch3", "tanh", "sgd", "twin"),
    ("cnn-s ch1", "relu", "sgd", "magnitude"),
    ("cnn2 ch1", "leaky_relu", "rmsprop", "plain"),
    ("cnn2 ch1", "gelu", "rmsprop", "dropout"),
    ("cnn2 ch1", "sigmoid", "rmsprop", "twin"),
    ("cnn-s ch3", "silu", "rmsprop", "magnitude"),
    ("cnn-l ch3", "gelu", "adam", "plain"),
    ("cnn-l ch3", "relu", "sgd", "dropout"),
    ("cnn-l ch3", "silu", "adam", "twin"),
]


@pytest.mark.parametrize(("name", "activation", "optimizer", "kind"), COMBINATIONS)
def test_a_trajectory_is_the_same_for_every_width_chunk_thread_and_interruption(
    name: str, activation: ActivationName, optimizer: OptimizerName, kind: str
) -> None:
    whole = catalogue_case(name, activation, optimizer, kind)
    expected = run(whole, isa=INSTRUCTION_SETS[0])
    for isa in INSTRUCTION_SETS[1:]:
        small = whole.take(range(3)) if isa == "scalar" else whole
        assert run(small, isa=isa).digest() == expected.digest(slice(small.num_models)), isa
    assert run(whole, threads=2).digest() == expected.digest()
    assert run(whole.take([18])).digest() == expected.digest(slice(18, 19))
    assert run(whole.take(range(7, 14))).digest() == expected.digest(slice(7, 14))
    first = run(whole, epochs=[1])
    assert run(whole, epochs=[2], state=first.state).digest() == expected.digest()


def test_sixty_four_models_equal_each_of_them_alone() -> None:
    many = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=64)
    together = run(many, threads=2)
    for model in (0, 15, 16, 40, 63):
        assert run(many.take([model])).digest() == together.digest(slice(model, model + 1))


@st.composite
def layer_lists(draw: st.DrawFn) -> Architecture:
    """Any layer list that the engine's contract allows, small."""
    channels, side = draw(st.integers(1, 3)), draw(st.integers(5, 17))
    layers: list[Layer] = []
    c, height = channels, side

    def points() -> None:
        for _ in range(draw(st.integers(0, 2))):
            layers.append(draw(st.sampled_from([Dropout(), *map(Activation, ACTIVATIONS)])))

    points()
    for _ in range(draw(st.integers(0, 3))):
        if height >= 2 and draw(st.integers(0, 3)) == 0:
            layers.append(MaxPool2d())
            height //= 2
        kernel = draw(st.integers(1, min(6, height)))
        out = draw(st.integers(1, 9))
        layers.append(Conv2d(c, out, kernel))
        c, height = out, height - kernel + 1
        if height >= 2 and draw(st.booleans()):
            layers.append(MaxPool2d())
            height //= 2
        points()
    layers.append(Flatten())
    size = c * height * height
    for _ in range(draw(st.integers(0, 2))):
        out = draw(st.integers(1, 23))
        layers.append(Linear(size, out))
        size = out
        points()
    layers.append(Linear(size, draw(st.integers(2, 12))))
    return Architecture("random", channels, side, tuple(layers))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(["plain", "dropout", "twin"]))
    return case(
        draw(layer_lists()),
        draw(st.sampled_from(["sgd", "adam", "rmsprop"])),
        num_models=draw(st.integers(1, 21)),
        batch_size=draw(st.integers(1, 12)),
        train=draw(st.integers(1, 13)),
        dropout=0.25 if kind == "dropout" else 0.0,
        variational=kind == "twin",
    )


@given(cases())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_layer_list_batch_size_and_number_of_models_gives_the_same_bits_everywhere(chosen: Case) -> None:
    expected = run(chosen, isa=INSTRUCTION_SETS[0])
    for isa in INSTRUCTION_SETS[1:]:
        assert run(chosen, isa=isa).digest() == expected.digest(), isa
    last = chosen.num_models - 1
    assert run(chosen.take([last])).digest() == expected.digest(slice(last, last + 1))


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
    """A table that no mean and deviation explain, and the same one shuffled back, give the same training."""
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
