"""Loss and gradient of one batch with the lanes engine's kernels, no step taken."""

import numpy as np
from numpy.typing import NDArray

from tests.support.lanes_cases import Case, uniform
from zooforge.zoo_jobs.engines.lanes.engine import native_data, native_session

STEP, EPOCH, KL_WEIGHT = 3, 2, 0.01


def trained_values(chosen: Case) -> NDArray[np.float64]:
    """Values [P, T] of twins, with log sigma^2 on both sides of every clamp."""
    weights = chosen.weights.astype(np.float64)
    if not chosen.program.variational:
        return weights
    state = chosen.state()
    log_sigma2 = -13 + 12 * uniform(11, *state["log_sigma2"].shape)
    return np.concatenate([weights, log_sigma2], axis=1)


def loss_and_gradient(chosen: Case, isa: str, values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Loss and gradient of model 0 for a batch of five rows."""
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
