"""Gradients of the kernels' templates, compiled in double with one lane, equal central differences."""

import numpy as np
import pytest

from tests.support.lanes_cases import CATALOGUE, INSTRUCTION_SETS, catalogue_case, uniform
from tests.support.lanes_gradients import loss_and_gradient, trained_values
from zooforge.zoo_jobs.engines.lanes.engine import extension
from zooforge.zoo_jobs.models.layers import ActivationName

PAIRS = [("cnn-s ch1", a, k) for a in extension().ACTIVATIONS for k in ("plain", "dropout", "twin")]
PAIRS += [(name, "tanh", kind) for name in ("cnn-s ch3", "cnn2 ch1", "cnn-l ch3") for kind in ("plain", "twin")]


@pytest.mark.parametrize(("name", "activation", "kind"), PAIRS)
def test_gradients_of_every_tensor_equal_central_differences(name: str, activation: ActivationName, kind: str) -> None:
    chosen = catalogue_case(name, activation, "sgd", kind, num_models=1)
    values = trained_values(chosen)
    _, gradient = loss_and_gradient(chosen, "double", values)
    num_weights = chosen.weights.shape[1]
    tensors = [(e.name, e.offset, e.stop) for e in chosen.program.architecture.layout.entries]
    if kind == "twin":
        tensors.append(("log_sigma2", num_weights, values.shape[1]))
    for tensor, start, stop in tensors:
        chosen_values = start + np.unique((uniform(13, 6) * (stop - start)).astype(int))
        scale = np.abs(gradient[start:stop]).max() + 1e-9
        for i in chosen_values:
            h = 1e-6
            moved = values.copy()
            moved[0, i] += h
            above, _ = loss_and_gradient(chosen, "double", moved)
            moved[0, i] -= 2 * h
            below, _ = loss_and_gradient(chosen, "double", moved)
            difference = (above - below) / (2 * h)
            assert abs(difference - gradient[i]) < 3e-5 * scale, (tensor, int(i), difference, gradient[i])


@pytest.mark.parametrize("kind", ["plain", "dropout", "twin"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_single_precision_gradients_equal_those_in_double(name: str, kind: str) -> None:
    chosen = catalogue_case(name, "gelu", "sgd", kind, num_models=1)
    values = trained_values(chosen).astype(np.float32).astype(np.float64)
    _, expected = loss_and_gradient(chosen, "double", values)
    for isa in INSTRUCTION_SETS:
        _, found = loss_and_gradient(chosen, isa, values)
        for entry in chosen.program.architecture.layout.entries:
            part = slice(entry.offset, entry.stop)
            scale = np.abs(expected[part]).max() + 1e-12
            assert np.abs(found[part] - expected[part]).max() < 2e-5 * scale, (isa, entry.name)
