"""Small data and populations for the engines: real digits, and colourised ones for three channels."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from zooforge.zoo_jobs.data.prepare import prepare
from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.data.rules import Preprocessing, SplitRule
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, StateArrays, initial_state
from zooforge.zoo_jobs.models.initialize import initial_buffers, initial_weights
from zooforge.zoo_jobs.models.registry import architecture


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def colourised(split: Split) -> Split:
    """Synthetic colour: the digit, its negative and its mirror as channels."""
    grey = split.images[:, 0]
    return Split(np.stack([grey, 255 - grey, grey[:, :, ::-1]], axis=1), split.labels)


@pytest.fixture(scope="session")
def digits() -> Callable[..., PreparedData]:
    """``digits(channels, image_size, num_train, num_test)``: mnist5k cut to a size at which an epoch takes
    milliseconds."""
    made: dict[tuple[int, ...], PreparedData] = {}

    def make(channels: int = 1, image_size: int = 28, num_train: int = 57, num_test: int = 30) -> PreparedData:
        key = channels, image_size, num_train, num_test
        if key not in made:
            resize = None if image_size == 28 else image_size
            preprocessing = Preprocessing(resize=resize, mean=(0.1307,), std=(0.3081,))
            data = prepare("mnist5k", preprocessing, SplitRule(train=num_train, val=20, test=num_test, seed=42))
            if channels == 3:
                table = np.repeat(data.pixel_values, 3, axis=0)
                splits = (colourised(s) for s in (data.train, data.val, data.test))
                data = PreparedData("synthetic", 10, table, *splits)
            made[key] = data
        return made[key]

    return make


class Population:
    """Models of one program with different seeds and hyperparameters, and what an engine needs to run them."""

    def __init__(self, program: Program, num_models: int = 3, **hyperparameters: Any) -> None:
        initializer = hyperparameters.pop("initializer", "kaiming_uniform")
        self.program = program
        n = num_models
        values = {
            "seed": np.arange(1, n + 1),
            "learning_rate": 0.01 / np.arange(1, n + 1),
            "weight_decay": 0.001 * np.arange(1, n + 1),
            "momentum": 0.9,
            "nesterov": False,
            "dropout_ratio": 0.3 if program.dropout else 0.0,
            "train_fraction": 1.0,
            "label_noise": 0.0,
            **hyperparameters,
        }
        types = {"seed": np.uint32, "nesterov": np.bool_}
        self.hyperparameters = Hyperparameters(
            **{f"{k}_P": np.broadcast_to(np.asarray(v), n).astype(types.get(k, np.float64)) for k, v in values.items()}
        )
        network = program.architecture
        weights = np.stack([initial_weights(network, initializer, int(s)) for s in self.hyperparameters.seed_P])
        self.state = initial_state(program, weights, initial_buffers(network, n))

    def take(self, models: list[int]) -> tuple[Hyperparameters, StateArrays]:
        rows = np.array(models)
        return self.hyperparameters.take(rows), {name: values[rows] for name, values in self.state.items()}


@pytest.fixture
def population() -> Callable[..., Population]:
    """``population(name, channels, activation=.., optimizer=.., dropout=.., variational=.., num_models=.., ...)``."""

    def make(
        name: str = "cnn-s",
        channels: int = 1,
        *,
        activation: Any = "tanh",
        optimizer: Any = "adam",
        dropout: bool = False,
        variational: bool = False,
        batch_size: int = 10,
        **more: Any,
    ) -> Population:
        network = architecture(name, channels, activation, dropout, image_size=more.pop("image_size", None))
        program_fields = {k: more.pop(k) for k in ("schedule", "augment") if k in more}
        program = Program(network, optimizer, batch_size, dropout, variational, **program_fields)
        return Population(program, **more)

    return make
