"""Small programs of the task image_regression for the lanes engine, and their gradients."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tests.support.lanes_cases import Case, hyperparameters, uniform, weights
from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.engines.contract import Program
from zooforge.zoo_jobs.engines.lanes.engine import native_data, native_session
from zooforge.zoo_jobs.models.layers import Activation, Add, Architecture, Layer, Linear
from zooforge.zoo_jobs.models.optimizers import OptimizerName

NUM_IMAGES = 5
SINES: tuple[Layer, ...] = (
    Linear(2, 32), Activation("sine", 30.0), Linear(32, 32), Activation("sine", 30.0), Linear(32, 1)
)  # fmt: skip
"""The catalogue's network."""
ODD: tuple[Layer, ...] = (
    Linear(2, 13), Activation("sine", 3.0), Linear(13, 13), Activation("tanh"), Add(1), Linear(13, 3),
    Activation("gelu"), Add(5), Activation("silu"), Linear(3, 3),
)  # fmt: skip
"""Sizes that fill no tile, three channels, sums that read an activation and a linear layer."""


def learners(
    layers: tuple[Layer, ...],
    optimizer: OptimizerName = "adam",
    *,
    num_models: int = 19,
    side: int = 5,
    steps: int = 3,
    pruned: bool = False,
    rate: float = 1e-3,
) -> Case:
    """``num_models`` models that learn ``NUM_IMAGES`` images of ``side`` pixels a side, some of them the same."""
    network = Architecture("learner", 2, 1, layers, vector_input=True)
    program = Program(
        network, optimizer, side * side, dropout=False, pruned=pruned, task="image_regression", steps_per_epoch=steps
    )
    channels = network.num_classes
    pixels = (uniform(3, NUM_IMAGES, channels, side, side) * 256).astype(np.uint8)
    none = Split(pixels[:0], np.zeros(0, np.uint8))
    table = (np.arange(256, dtype=np.float32) / np.float32(255))[None].repeat(channels, axis=0)
    data = PreparedData("random", 10, table, Split(pixels, np.zeros(NUM_IMAGES, np.uint8)), none, none)
    image_P = (np.arange(num_models, dtype=np.int64) * 3) % NUM_IMAGES
    h = replace(hyperparameters(num_models, rate=rate, decay=1e-3), image_P=image_P)
    return Case(program, data, weights(network, num_models), h)


def loss_and_gradient(chosen: Case, isa: str, values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Mean squared error of model 0 with the weights ``values`` [P, D], and its gradient [D]; no step is taken."""
    session = native_session(chosen.program, chosen.hyperparameters, isa)
    if isa == "double":
        session.put_double(np.ascontiguousarray(values))
    else:
        session.put(0, np.ascontiguousarray(values, np.float32))
    loss, gradient = np.zeros(len(values)), np.zeros_like(values)
    session.fit_gradient(native_data(chosen.data, "train"), loss, gradient)
    return float(loss[0]) / chosen.program.batch_size, gradient[0]
