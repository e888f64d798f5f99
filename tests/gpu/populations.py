"""Random images and populations for the steps, made with numpy and torch alone."""

from typing import Any

import numpy as np

from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Hyperparameters, OneCycle, Program, StateArrays, initial_state
from zooforge.zoo_jobs.models.initialize import initial_buffers, initial_weights
from zooforge.zoo_jobs.models.registry import architecture


def images(channels: int, size: int, num_train: int, num_test: int = 100) -> PreparedData:
    """Random bytes as images, because neither speed nor equality depends on their content."""
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        made = random.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
        return Split(made, random.integers(0, 10, count).astype(np.uint8))

    table = np.tile(np.linspace(-1, 1, 256, dtype=np.float32), (channels, 1))
    return PreparedData("random", 10, table, split(num_train), split(0), split(num_test))


def program(name: str = "cnn-s", channels: int = 1, *, activation: str = "tanh", optimizer: str = "adam",
            dropout: bool = False, variational: bool = False, batch_size: int = 10, image_size: int | None = None,
            **fields: Any) -> Program:  # fmt: skip
    network = architecture(name, channels, activation, dropout, image_size=image_size)
    return Program(network, optimizer, batch_size, dropout, variational, **fields)


def resnet(batch_size: int, steps: int, size: int = 32, **fields: Any) -> Program:
    """The program of the reference's ResNets: one-cycle schedule and augmentation."""
    return program(
        "resnet18", 3, activation="relu", optimizer="sgd", batch_size=batch_size, image_size=size,
        schedule=OneCycle(steps), augment="crop-flip", **fields,
    )  # fmt: skip


def population(of: Program, num_models: int, **values: Any) -> tuple[Hyperparameters, StateArrays]:
    """Models with the seeds 1, 2, ... and different learning rates and weight decays."""
    number = np.arange(1, num_models + 1)
    rate = 0.05 if of.schedule is not None else 0.002 / number
    chosen: dict[str, Any] = {"learning_rate": rate, "weight_decay": 1e-4 * (number % 3), "momentum": 0.9,
                              "dropout_ratio": 0.3 if of.dropout else 0.0, "train_fraction": 1,
                              "label_noise": 0} | values  # fmt: skip
    columns: dict[str, Any] = {
        f"{name}_P": np.broadcast_to(value, num_models).astype(np.float64) for name, value in chosen.items()
    }
    h = Hyperparameters(seed_P=number.astype(np.uint32), nesterov_P=np.zeros(num_models, np.bool_), **columns)
    first = initial_weights(of.architecture, "kaiming_uniform", 1)
    few = [first] + [
        initial_weights(of.architecture, "kaiming_uniform", seed) for seed in range(2, min(num_models, 8) + 1)
    ]
    weights = np.stack([few[index % len(few)] for index in range(num_models)])
    return h, initial_state(of, weights, initial_buffers(of.architecture, num_models))
