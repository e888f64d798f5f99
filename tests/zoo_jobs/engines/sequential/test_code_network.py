"""Code as a network in the engine `sequential` trains to the same bits as an equal layer list."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zooforge.zoo_jobs.engines.choose import choose
from zooforge.zoo_jobs.engines.contract import initial_state, not_a_plain_layer_list
from zooforge.zoo_jobs.engines.growth import Growth
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.models.code_facts import examine
from zooforge.zoo_jobs.models.code_network import Code
from zooforge.zoo_jobs.models.initialize import initial_buffers, initial_weights

Made = Callable[..., Any]
ENGINE = SequentialEngine("cpu")
CNN_S = """
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(in_channels, 8, 5), nn.Conv2d(8, 6, 5)
        self.conv3 = nn.Conv2d(6, 4, 2)
        self.linear1, self.linear2 = nn.Linear(36, 20), nn.Linear(20, 10)
        self.drop1, self.drop2, self.drop3 = (nn.Dropout() for _ in range(3))

    def forward(self, images):
        values = self.drop1(nn.functional.max_pool2d(self.conv1(images), 2).tanh())
        values = self.drop2(nn.functional.max_pool2d(self.conv2(values), 2).tanh())
        values = self.conv3(values).tanh()
        values = self.drop3(self.linear1(values.flatten(1)).tanh())
        return self.linear2(values)
"""
NORMED = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(1, 4, 5, stride=3, bias=False), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(),
                         nn.Flatten(), nn.Linear(256, num_classes))
"""


def network_of(text: str) -> Any:
    return examine(Code(text, "Net"), 1, 28, 10, (10,), where="net.py")


@pytest.mark.parametrize("dropout", [False, True])
def test_code_trains_to_the_bits_of_the_layer_list_that_says_the_same(
    dropout: bool, population: Made, digits: Made
) -> None:
    made, data = population(dropout=dropout), digits(num_train=50)
    network = network_of(CNN_S)
    assert [e.shape for e in network.layout] == [e.shape for e in made.program.architecture.layout]
    states = []
    for program in (made.program, replace(made.program, architecture=network)):
        with ENGINE.open(program, made.hyperparameters, made.state, data) as session:
            for epoch in (1, 2):
                running = session.train_epoch(epoch, np.ones(3, np.bool_))
            states.append((session.state()["weights"], running.loss_sum_P, session.evaluate("test").loss_sum_P))
    for ours, theirs in zip(*states, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_chunks_and_interruptions_change_no_bit_of_weights_and_buffers(population: Made, digits: Made) -> None:
    made, data = population(optimizer="sgd", dropout=True), digits(num_train=50)
    network = network_of(NORMED)
    program = replace(made.program, architecture=network)
    weights = np.stack([initial_weights(network, "kaiming_uniform", seed) for seed in (1, 2, 3)])
    state = initial_state(program, weights, initial_buffers(network, 3))
    assert network.buffers

    def grown(chunk: int, *, resumed: bool) -> Any:
        growth = Growth(ENGINE, program, made.hyperparameters, state, data, chunk)
        for epoch in range(3):
            growth.step(epoch, clean_train=False)
            if resumed and epoch == 1:
                between = growth.state()
                growth.close()
                growth = Growth(ENGINE, program, made.hyperparameters, between, data, chunk)
        growth.close()
        return growth.state()

    whole, parts = grown(3, resumed=False), grown(1, resumed=True)
    assert not np.array_equal(whole["buffers"], state["buffers"])
    assert whole["counters"].tolist() == [[10]] * 3
    assert all(whole[name].tobytes() == parts[name].tobytes() for name in whole)


def test_only_sequential_runs_code(population: Made) -> None:
    program = replace(population().program, architecture=network_of(NORMED))
    assert choose("auto", [program]).engine.name == "sequential"
    assert "code-" in str(not_a_plain_layer_list(program))  # lanes and stacked check this
    with pytest.raises(InputError, match=r"engine stacked cannot run this zoo: code-.* is not a layer list"):
        choose("stacked", [program])
