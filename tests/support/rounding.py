"""Compares states of engines that add in different orders."""

import numpy as np

from zooforge.zoo_jobs.engines.contract import StateArrays


def same_to_rounding(left: StateArrays, right: StateArrays, rtol: float = 2e-4, atol: float = 2e-5) -> None:
    """Check that at most one value in a thousand differs by more than rounding, and none by a hundred times as much.

    Adam and RMSprop divide a first gradient by its own size. If it is almost zero, the step shows its rounding.
    """
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert values.dtype == right[name].dtype, name
        allowed = rtol * np.abs(values) + atol * max(1.0, float(np.abs(values).max()))
        error = np.abs(right[name].astype(np.float64) - values) / allowed
        assert (error > 1).mean() < 1e-3, name
        assert error.max() < 100, name
