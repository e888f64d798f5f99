"""ResNet-18 in the engine `sequential`, whose flat rows hold the tensors of the module."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.batches import training_blocks
from zooforge.zoo_jobs.engines.contract import OneCycle
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module

Made = Callable[..., Any]
ACTIVE = np.ones(1, np.bool_)


@pytest.fixture
def made(population: Made) -> Any:
    return population(
        "resnet18", 3, optimizer="sgd", activation="relu", num_models=1, batch_size=16, image_size=16,
        schedule=OneCycle(4), augment="crop-flip", learning_rate=0.05, weight_decay=5e-4,
    )  # fmt: skip


def test_an_epoch_is_that_of_plain_pytorch(made: Any, digits: Made) -> None:
    data = digits(3, 16, 24)
    network = made.program.architecture
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        running = session.train_epoch(1, ACTIVE)
        test = session.evaluate("test")
        state = session.state()
    module = torch_module(network)
    start = {name: values[0] for name, values in made.state.items()}
    module.load_state_dict(state_dict(network, start["weights"], start["buffers"], start["counters"]))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=4)
    (block,) = training_blocks(data, 1, 1, 16, "crop-flip")
    loss_sum = 0.0
    for images, labels in zip(torch.from_numpy(block.images).split(16), torch.from_numpy(block.labels).split(16),
                              strict=True):  # fmt: skip
        optimizer.zero_grad()
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        loss_sum += loss.item() * len(labels)
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()
    np.testing.assert_allclose(state["weights"][0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(running.loss_sum_P[0], loss_sum, rtol=1e-4)
    statistics = network.buffer_layout.unflatten(state["buffers"][0])
    np.testing.assert_allclose(statistics["layer4.1.bn2.running_var"], module.layer4[1].bn2.running_var, rtol=1e-3)
    assert state["counters"].tolist() == [[2] * 20]
    assert state["step"].tolist() == [2]
    loaded = torch_module(network).eval()
    loaded.load_state_dict(
        state_dict(network, state["weights"][0], state["buffers"][0], state["counters"][0]), strict=True
    )
    with torch.no_grad():
        images = torch.from_numpy(data.pixel_values[0][data.test.images])
        correct = (loaded(images).argmax(1).numpy() == data.test.labels).sum()
    assert test.correct_P[0] == correct


def test_an_interruption_changes_no_bit(made: Any, digits: Made) -> None:
    data = digits(3, 16, 24)

    def grow(state: Any, epochs: range) -> Any:
        with SequentialEngine("cpu").open(made.program, made.hyperparameters, state, data) as session:
            for epoch in epochs:
                session.train_epoch(epoch, ACTIVE)
            return session.state()

    whole = grow(made.state, range(1, 3))
    resumed = grow(grow(made.state, range(1, 2)), range(2, 3))
    assert {k: v.tobytes() for k, v in whole.items()} == {k: v.tobytes() for k, v in resumed.items()}
    assert philox.permutation(1, 1, 24).tolist() != philox.permutation(1, 2, 24).tolist()


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_bfloat16_gives_other_numbers_near_those_of_float32(memory_format: str, made: Any, digits: Made) -> None:
    data = digits(3, 16, 24)
    weights = []
    for program in (made.program, replace(made.program, precision="bf16", memory_format=memory_format)):
        with SequentialEngine("cpu").open(program, made.hyperparameters, made.state, data) as session:
            session.train_epoch(1, ACTIVE)
            weights.append(session.state()["weights"])
            assert session.evaluate("test").num_samples_P[0] == len(data.test)
    difference = np.abs(weights[0] - weights[1])
    assert weights[1].dtype == np.float32
    assert 0 < difference.mean() < 0.1 * np.abs(weights[0]).mean()


def test_an_epoch_beyond_the_schedule_is_refused(made: Any, digits: Made) -> None:
    from zooforge.zoo_jobs.errors import InputError

    made.state["step"][0] = 4
    with (
        SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, digits(3, 16, 24)) as session,
        pytest.raises(InputError, match="a zoo with a schedule cannot be extended"),
    ):
        session.train_epoch(3, ACTIVE)
