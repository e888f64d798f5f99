"""Magnitude pruning: which weights are pruned, and that they stay zero."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zooforge.storage.formats.layout import Layout
from zooforge.zoo_jobs.engines.contract import initial_state
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.sparsify.magnitude import num_pruned, pruned_by_magnitude

Made = Callable[..., Any]
LAYOUT = Layout.of(
    [("conv1.weight", (2, 1, 2, 2)), ("conv1.bias", (2,)), ("linear1.weight", (3, 2)), ("linear1.bias", (3,))]
)


@given(st.floats(0, 0.99), st.integers(0, 1000))
def test_the_smallest_weights_of_all_layers_go_and_no_bias(ratio: float, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(3, LAYOUT.size)).astype(np.float32)
    mask = LAYOUT.unflatten(pruned_by_magnitude(LAYOUT, weights, ratio))
    values = LAYOUT.unflatten(np.abs(weights))
    assert not mask["conv1.bias"].any()
    assert not mask["linear1.bias"].any()
    for model in range(3):
        both = [(mask[n][model].reshape(-1), values[n][model].reshape(-1)) for n in ("conv1.weight", "linear1.weight")]
        gone = np.concatenate([v[m] for m, v in both])
        kept = np.concatenate([v[~m] for m, v in both])
        assert len(gone) == num_pruned(LAYOUT, ratio) == round(14 * ratio)
        assert not len(gone) or not len(kept) or gone.max() <= kept.min()


def test_ties_go_by_position_and_nan_counts_as_largest() -> None:
    weights = np.ones((1, LAYOUT.size), np.float32)
    weights[0, 0] = np.nan
    mask = pruned_by_magnitude(LAYOUT, weights, 0.5)
    assert np.flatnonzero(mask).tolist() == list(range(1, 8))


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_pruned_weights_stay_zero_while_the_others_train(optimizer: str, population: Made, digits: Made) -> None:
    made = population(optimizer=optimizer, num_models=2, learning_rate=0.001)
    program = replace(made.program, pruned=True)
    layout = program.architecture.layout
    mask = pruned_by_magnitude(layout, made.state["weights"], 0.6)
    state = initial_state(program, made.state["weights"], {"mask": mask})
    assert (state["weights"][mask] == 0).all()
    with SequentialEngine("cpu").open(program, made.hyperparameters, state, digits()) as session:
        sparsity = session.sparsity()
        for epoch in (1, 2):
            session.train_epoch(epoch, np.ones(2, np.bool_))
        actual = session.state()
    assert (actual["weights"][mask] == 0).all()
    changed = actual["weights"] != state["weights"]
    assert changed[~mask].mean() > 0.9
    assert np.array_equal(actual["mask"], mask)
    assert sparsity.num_prunable == 2416
    assert sparsity.num_pruned_P.tolist() == [round(2416 * 0.6)] * 2
    assert sparsity.mask_PV.sum(axis=1).tolist() == sparsity.num_pruned_P.tolist()


def test_twins_by_magnitude_need_their_mask(population: Made) -> None:
    made = population(num_models=1)
    with pytest.raises(ValueError, match="need their mask"):
        initial_state(replace(made.program, pruned=True), made.state["weights"])
