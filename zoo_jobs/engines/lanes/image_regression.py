"""The task image_regression in the engine ``lanes``: it calls the extension's functions."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tasks.image_regression import coordinates
from ..contract import Evaluation, Hyperparameters, Program, Running, image_evaluation


def put_images(native: Any, program: Program, hyperparameters: Hyperparameters) -> None:
    """Tell a session of the extension which image each model learns, and where the pixels are."""
    native.put_images(
        np.ascontiguousarray(hyperparameters.image_P, np.int64), coordinates(math.isqrt(program.batch_size))
    )


def train_epoch(native: Any, data: Any, program: Program, active_P: NDArray[np.bool_]) -> Running:
    loss_sum_P = np.zeros(len(active_P), np.float64)
    native.fit(data, np.ascontiguousarray(active_P, np.uint8), loss_sum_P)
    num_samples_P = np.full(len(active_P), program.steps_per_epoch * program.batch_size, np.int32)
    return Running(loss_sum_P, np.zeros(len(active_P), np.int32), num_samples_P)


def evaluate(native: Any, data: Any, program: Program, num_models: int) -> Evaluation:
    loss_sum_P = np.zeros(num_models, np.float64)
    native.errors(data, loss_sum_P)
    return image_evaluation(loss_sum_P, program.batch_size)
