"""Three models of any layer list, and random images for it."""

from typing import Any

import numpy as np

from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, StateArrays, initial_state
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.models.layers import Architecture

MODELS, BATCH = 3, 6


def images(network: Architecture, count: int = 14) -> PreparedData:
    generator = np.random.default_rng(3)
    shape = (count, network.in_channels, network.image_size, network.image_size)
    split = Split(
        generator.integers(0, 256, shape, np.uint8), generator.integers(0, network.num_classes, count).astype(np.uint8)
    )
    table = np.tile(np.linspace(-1, 1, 256, dtype=np.float32), (network.in_channels, 1))
    return PreparedData("random", network.num_classes, table, split, split, split)


def population(program: Program, **values: Any) -> tuple[Hyperparameters, StateArrays]:
    columns = {
        "seed": np.arange(1, MODELS + 1), "learning_rate": 1e-3 / np.arange(1, MODELS + 1), "weight_decay": 1e-3,
        "momentum": 0.9, "nesterov": False, "dropout_ratio": 0.3 if program.dropout else 0.0, "train_fraction": 1,
        "label_noise": 0,
        **values,
    }  # fmt: skip
    types = {"seed": np.uint32, "nesterov": np.bool_}
    made = {
        f"{k}_P": np.broadcast_to(np.asarray(v), MODELS).astype(types.get(k, np.float64)) for k, v in columns.items()
    }
    weights = np.stack([initial_weights(program.architecture, "kaiming_uniform", seed) for seed in (1, 2, 3)])
    return Hyperparameters(**made), initial_state(program, weights)
