"""Ridge regression on statistics that any layout has: of the first layer, the last, those between, and the biases."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout

from ..linear_models import statistics
from ..samples import Given
from .contract import Predict, Problem
from .ridge import fit_ridge


def features(given: Given) -> NDArray[np.float64]:
    """[N, 28, and the history]"""
    columns, pooled = _pools(given.states.layout)
    return np.concatenate([statistics(pooled, given.states.values[:, columns]), given.history], axis=1)


@lru_cache(maxsize=16)
def _pools(layout: Layout) -> tuple[NDArray[np.intp], Layout]:
    """Positions in a vector, and their layout as four tensors. The first layer replaces missing middles or biases."""
    first, *others = [entry for entry in layout.entries if not entry.is_bias and len(entry.shape) > 1]
    last = others[-1] if others else first
    pools = {
        "first": [first],
        "middle": others[:-1] or [first],
        "last": [last],
        "biases": [entry for entry in layout.entries if len(entry.shape) == 1] or [first],
    }
    positions = {
        name: np.concatenate([np.arange(entry.offset, entry.stop) for entry in entries])
        for name, entries in pools.items()
    }
    return np.concatenate(list(positions.values())), Layout.of([(n, (len(p),)) for n, p in positions.items()])


def fit(problem: Problem) -> Predict:
    return fit_ridge(problem, features)
