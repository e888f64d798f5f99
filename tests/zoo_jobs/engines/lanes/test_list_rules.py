"""Gradients of layer lists equal central differences, and rules of docs/lanes.md that no digest would show."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.lanes_cases import INSTRUCTION_SETS, Case, case, run
from tests.support.lanes_gradients import loss_and_gradient, trained_values
from tests.support.layer_lists import any_layer_lists
from tests.support.paths import ROOT
from zooforge.zoo_jobs.engines.lanes.engine import VERSION
from zooforge.zoo_jobs.models.layers import (
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
)


def steps(
    layers: tuple[Layer, ...], image: NDArray[np.uint8], weights: NDArray[np.float32], isa: str
) -> NDArray[np.float32]:
    """The decrease of one model's weights in one step of SGD with rate 1, for one image of label 0."""
    chosen = case(
        Architecture("list", len(image), image.shape[1], layers),
        "sgd",
        num_models=1,
        train=1,
        batch_size=1,
        rate=1.0,
        decay=0.0,
    )
    split = replace(chosen.data.train, images=image[None], labels=np.zeros(1, np.uint8))
    table = np.arange(256, dtype=np.float32)[None].repeat(len(image), 0)
    data = replace(chosen.data, train=split, pixel_values=table)
    found = run(replace(chosen, data=data, weights=weights[None]), isa=isa, epochs=[1])
    return weights - found.state["weights"][0]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_a_tap_in_the_padding_is_skipped_and_never_multiplied(isa: str) -> None:
    layers = (Conv2d(1, 1, 3, padding=1), Flatten(), Linear(1, 2))
    weights = np.full(14, np.inf, np.float32)
    weights[[4, 9, 10, 11, 12, 13]] = [0.5, 0, 1, -1, 0, 0]  # the middle tap, the bias, the linear layer
    step = steps(layers, np.full((1, 1, 1), 3, np.uint8), weights, isa)
    assert np.isfinite(step[[4, 9, 10, 11, 12, 13]]).all()
    assert step[9] != 0 and abs(step[4] / step[9] - 3) < 1e-6


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_equal_values_of_a_pool_send_the_gradient_to_the_first_in_row_major_order(isa: str) -> None:
    """The convolution gives equal values everywhere; its weight's gradient is the pixel that the pool chose."""
    image = np.arange(1, 26, dtype=np.uint8).reshape(1, 5, 5)
    weights = np.array([0, 0, 1, -1, 0, 0], np.float32)
    for pool in (MaxPool2d(5, 1), MaxPool2d(4, 4), MaxPool2d(2, 2)):
        layers = (Conv2d(1, 1, 1), Activation("identity"), pool, GlobalAvgPool2d(), Linear(1, 2))
        step = steps(layers, image, weights, isa)
        chosen = image[0, :4:2, :4:2] if pool.kernel_size == 2 else image[0, :1, :1]
        assert step[0] == step[1] * chosen.mean() and step[1] == -1


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_an_average_is_a_row_major_sum_times_the_rounded_reciprocal(isa: str) -> None:
    """The step of a linear layer's weight is the average times that of its bias, a power of two."""
    image = np.array([255, 1, 7, 3, 254, 9, 100, 2, 77], np.uint8).reshape(1, 3, 3)
    for layer in (AvgPool2d(3, 3), GlobalAvgPool2d()):
        layers = (layer, Linear(1, 2)) if isinstance(layer, GlobalAvgPool2d) else (layer, Flatten(), Linear(1, 2))
        step = steps(layers, image, np.zeros(4, np.float32), isa)
        expected = np.float32(image.sum()) * np.float32(1 / 9)
        assert step.tolist() == [-0.5 * expected, 0.5 * expected, -0.5, 0.5]


NETWORKS: dict[str, tuple[Layer, ...]] = {
    "strides": (
        Conv2d(2, 5, 3, 2, 1), Activation("sine", 3.0), Dropout(), Conv2d(5, 6, 4, 3, 2), Activation("tanh"), Flatten(),
        Linear(24, 3),
    ),
    "pools": (
        Conv2d(2, 4, 3, 1, 2), MaxPool2d(3, 2), Dropout(), Activation("silu"), AvgPool2d(3, 1), Conv2d(4, 3, 2),
        GlobalAvgPool2d(), Linear(3, 3),
    ),
    "sums": (
        Conv2d(2, 5, 3, 1, 1), Activation("gelu"), Dropout(), Conv2d(5, 5, 3, 1, 1), Activation("tanh"), Add(2), Add(0),
        MaxPool2d(), Flatten(), Linear(125, 4), Activation("sine"), Linear(4, 4), Add(9), Add(10), Linear(4, 3),
    ),
}  # fmt: skip

KINDS = ("plain", "dropout", "twin")
GOLDEN = ROOT / "tests" / "golden" / "lanes_lists.json"


def trajectories() -> dict[str, str]:
    """SHA-256 over the whole state of three models, and all their sums, after two epochs."""
    return {
        f"{name} {kind}": run(_case(Architecture(name, 2, 10, layers), kind, num_models=3)).digest()
        for name, layers in NETWORKS.items()
        for kind in KINDS
    }


def test_two_epochs_of_a_list_end_in_the_bytes_of_this_numerics_version() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == VERSION, f"write the golden file again: python -m {__name__}"
    assert trajectories() == golden["sha256"], "the numbers changed: raise VERSION in lanes/engine.py, or undo that"


def test_sessions_of_a_list_in_threads_give_the_bits_of_each_alone() -> None:
    whole = _case(Architecture("sums", 2, 10, NETWORKS["sums"]), "dropout", num_models=32)
    halves = [whole.take(range(16)), whole.take(range(16, 32))]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda half: run(half).digest(), halves))
    expected = run(whole)
    assert together == [expected.digest(slice(16)), expected.digest(slice(16, 32))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_list_equal_central_differences(name: str, kind: str) -> None:
    chosen = _case(Architecture(name, 2, 10, NETWORKS[name]), kind)
    values = trained_values(chosen)
    _, gradient = loss_and_gradient(chosen, "double", values)
    scale = np.abs(gradient).max()
    for i in range(0, values.shape[1], max(1, values.shape[1] // 40)):
        moved = np.repeat(values, 2, axis=0)
        moved[:, i] += [1e-6, -1e-6]
        above, below = (loss_and_gradient(chosen, "double", row[None])[0] for row in moved)
        assert abs((above - below) / 2e-6 - gradient[i]) < 3e-5 * scale, i


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(network=any_layer_lists(), kind=st.sampled_from(KINDS))
def test_single_precision_gradients_of_a_random_list_equal_those_in_double(network: Architecture, kind: str) -> None:
    chosen = _case(network, kind)
    values = trained_values(chosen).astype(np.float32).astype(np.float64)
    _, expected = loss_and_gradient(chosen, "double", values)
    scale = max(np.abs(expected).max(), 1e-3)
    for isa in INSTRUCTION_SETS:
        _, found = loss_and_gradient(chosen, isa, values)
        assert np.abs(found - expected).max() < 2e-4 * scale, isa


def _case(network: Architecture, kind: str, num_models: int = 1) -> Case:
    dropout = 0.3 if kind == "dropout" else 0.0
    return case(network, "sgd", num_models=num_models, dropout=dropout, variational=kind == "twin")


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({"version": VERSION, "sha256": trajectories()}, indent=2) + "\n")
    sys.stdout.write(f"{GOLDEN}\n")
