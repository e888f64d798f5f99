"""Engines that run any layer list: gradients against float64, and one engine against another."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.layer_lists import Plain, any_layer_lists
from tests.support.list_populations import BATCH, MODELS, images, population
from zooforge.zoo_jobs.engines.choose import choose
from zooforge.zoo_jobs.engines.contract import Program, StateArrays
from zooforge.zoo_jobs.engines.devices import has_gpu
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.lanes.engine import extension
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.engines.stacked.network import from_patches, patches, summed_by_kernels
from zooforge.zoo_jobs.models.layers import (
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
)
from zooforge.zoo_jobs.models.optimizers import OPTIMIZERS
from zooforge.zoo_jobs.models.registry import architecture


def grown(engine: Any, program: Program) -> tuple[StateArrays, Any, Any]:
    hyperparameters, state = population(program)
    data = images(program.architecture)
    with engine.open(program, hyperparameters, state, data) as session:
        running = session.train_epoch(5, np.ones(MODELS, np.bool_))
        return session.state(), running, session.evaluate("test")


CPU_ENGINES = [SequentialEngine("cpu"), StackedEngine("cpu"), *([] if extension() is None else [LanesEngine()])]


@pytest.mark.parametrize("engine", CPU_ENGINES[1:], ids=lambda engine: str(engine.name))
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(network=any_layer_lists(), kind=st.sampled_from(["plain", "dropout", "twin"]))
def test_a_random_list_trains_as_with_sequential(engine: Any, network: Architecture, kind: str) -> None:
    program = Program(network, "sgd", BATCH, kind == "dropout", kind == "twin")
    expected, running, evaluated = grown(SequentialEngine("cpu"), program)
    found, others, again = grown(engine, program)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=2e-4 * max(1.0, np.abs(values).max()))
    np.testing.assert_allclose(others.loss_sum_P, running.loss_sum_P, rtol=1e-3)
    np.testing.assert_allclose(again.loss_sum_P, evaluated.loss_sum_P, rtol=1e-3)


@pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda engine: str(engine.name))
@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(network=any_layer_lists())
def test_a_step_of_a_random_list_follows_the_gradient_in_float64(engine: Any, network: Architecture) -> None:
    """One step of SGD with rate 1 without momentum moves the weights by the gradient."""
    program = Program(network, "sgd", 14, False)
    h, state = population(program, learning_rate=1.0, weight_decay=0.0, momentum=0.0)
    data = images(network)
    with engine.open(program, h, state, data) as session:
        session.train_epoch(1, np.ones(MODELS, np.bool_))
        moved = session.state()["weights"].astype(np.float64) - state["weights"]
    pixels = np.stack([table[data.train.images[:, c]] for c, table in enumerate(data.pixel_values)], axis=1)
    labels = torch.from_numpy(data.train.labels.astype(np.int64))
    for model in range(MODELS):
        module = Plain(network).double()
        with torch.no_grad():
            for parameter, values in zip(
                module.parameters(), network.layout.unflatten(state["weights"][model]).values(), strict=True
            ):
                parameter.copy_(torch.from_numpy(values))
        torch.nn.functional.cross_entropy(module(torch.from_numpy(pixels).double()), labels).backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in module.parameters() if p.grad is not None]).numpy()
        scale = max(np.abs(gradient).max(), np.abs(state["weights"][model]).max())
        assert np.abs(moved[model] + gradient).max() < 2e-5 * max(scale, 1e-3)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 2, 1, 8), (4, 3, 2, 11), (2, 3, 0, 7), (1, 2, 0, 5)]
)
def test_strided_and_padded_patches_and_their_transposed_map_agree(
    kernel: int, stride: int, padding: int, side: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 4, side, side, generator=generator, dtype=torch.float64)
    unfolded = patches(x, kernel, stride, padding)
    grads = torch.randn(unfolded.shape, generator=generator, dtype=torch.float64)
    back = from_patches(grads, x.shape, kernel, stride, padding)
    torch.testing.assert_close((unfolded * grads).sum(), (x * back).sum())
    places = (side + 2 * padding - kernel) // stride + 1
    windows = grads.view(2, 3, kernel, kernel, 4, places, places)
    padded = (*x.shape[:3], side + 2 * padding, side + 2 * padding)
    whole = summed_by_kernels(windows, padded, kernel, stride)
    torch.testing.assert_close(whole[..., padding : padding + side, padding : padding + side], back)


LISTS: dict[str, tuple[Layer, ...]] = {
    "stride 2": (Conv2d(1, 2, 3, stride=2), Flatten(), Linear(18, 2)),
    "padding 1": (Conv2d(1, 2, 3, padding=1), Flatten(), Linear(128, 2)),
    "pool 3": (Conv2d(1, 2, 3), MaxPool2d(3, 3), Flatten(), Linear(8, 2)),
    "average": (AvgPool2d(2, 2), Flatten(), Linear(16, 2)),
    "global": (Conv2d(1, 2, 3), GlobalAvgPool2d(), Linear(2, 2)),
    "omega": (Flatten(), Linear(64, 2), Activation("sine", 30.0), Linear(2, 2)),
    "sum": (
        Conv2d(1, 2, 3, padding=1),
        Activation("relu"),
        Conv2d(2, 2, 3, padding=1),
        Add(1),
        Flatten(),
        Linear(128, 2),
    ),
    "sum of the input": (Flatten(), Activation("tanh"), Add(0), Linear(64, 2)),
    "no linear layer": (Conv2d(1, 3, 3, stride=2), Activation("tanh"), Conv2d(3, 2, 3), Flatten()),
}


@pytest.mark.skipif(extension() is None, reason="the lanes extension is not built")
@pytest.mark.parametrize("name", LISTS)
def test_lanes_runs_a_list_as_sequential_does_and_auto_takes_it(name: str) -> None:
    network = Architecture("list", 1, 8, LISTS[name])
    program = Program(network, "sgd", BATCH, False)
    assert LanesEngine().refuses(program) is None
    if not has_gpu():
        assert choose("auto", [program]).engine.name == "lanes"
    expected, _, _ = grown(SequentialEngine("cpu"), program)
    found, _, _ = grown(LanesEngine(), program)
    np.testing.assert_allclose(found["weights"], expected["weights"], rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(extension() is None, reason="the lanes extension is not built")
def test_an_optimizer_without_a_kernel_is_refused_by_name_and_auto_takes_another_engine() -> None:
    network = Architecture("list", 1, 8, (Flatten(), Linear(64, 2)))
    for optimizer in OPTIMIZERS:
        program = Program(network, optimizer, BATCH, False)
        reason = LanesEngine().refuses(program)
        chosen = choose("auto", [program]).engine.name
        if optimizer in extension().OPTIMIZERS:
            assert reason is None
        else:
            assert reason == f"it has no kernel for the optimizer {optimizer}"
            assert chosen in ("sequential", "stacked")


@pytest.mark.parametrize(("name", "size"), [("cnn-s", 28), ("cnn2", 28), ("cnn-l", 32)])
def test_named_networks_train_alike_in_every_engine_with_a_hundred_classes(name: str, size: int) -> None:
    network = architecture(name, 1, "tanh", False, num_classes=100, image_size=size)
    program = Program(network, "sgd", BATCH, False)
    expected, _, _ = grown(SequentialEngine("cpu"), program)
    engines = [StackedEngine("cpu"), *([] if extension() is None else [LanesEngine()])]
    for engine in engines:
        found, _, _ = grown(engine, program)
        np.testing.assert_allclose(found["weights"], expected["weights"], rtol=1e-3, atol=1e-6)
