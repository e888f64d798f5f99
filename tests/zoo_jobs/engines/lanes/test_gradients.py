"""Gradients: the kernels' own templates in double with one lane against central differences."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.lanes_cases import CATALOGUE, INSTRUCTION_SETS, Case, catalogue_case, uniform
from zooforge.zoo_jobs.engines.lanes.engine import extension, native_data, native_session
from zooforge.zoo_jobs.models.layers import ActivationName

STEP, EPOCH, KL_WEIGHT = 3, 2, 0.01


def trained_values(chosen: Case) -> NDArray[np.float64]:
    """[P, T]: of twins with log sigma^2 on both sides of every clamp."""
    weights = chosen.weights.astype(np.float64)
    if not chosen.program.variational:
        return weights
    state = chosen.state()
    log_sigma2 = -13 + 12 * uniform(11, *state["log_sigma2"].shape)
    return np.concatenate([weights, log_sigma2], axis=1)


def loss_and_gradient(chosen: Case, isa: str, values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Of model 0 and a batch of five rows."""
    session = native_session(chosen.program, chosen.hyperparameters, isa)
    if isa == "double":
        session.put_double(np.ascontiguousarray(values))
    else:
        split = chosen.weights.shape[1]
        session.put(0, np.ascontiguousarray(values[:, :split], np.float32))
        if chosen.program.variational:
            session.put(1, np.ascontiguousarray(values[:, split:], np.float32))
    loss, gradient = np.zeros(len(values)), np.zeros_like(values)
    rows = np.tile(np.arange(5, dtype=np.uint32), (len(values), 1))
    data = native_data(chosen.data, "train")
    session.gradient(data, rows, STEP, EPOCH, KL_WEIGHT, loss, gradient)
    return float(loss[0]), gradient[0]


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
