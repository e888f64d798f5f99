"""Standardised weights: zero mean and unit deviation per tensor, fitted on the train split alone. Pure numpy."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageUsageError
from ..formats.layout import Layout


@dataclass(frozen=True)
class Standardizer:
    """(x - mean) / deviation, ``mean`` and ``deviation`` [D] being the same for all values of a tensor.

    Per tensor and not per value, so that it commutes with the permutations of ``symmetry``.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def fit(cls, batches: Iterable[NDArray[np.float32]], layout: Layout) -> "Standardizer":
        """Fitted on the rows [N, D] of all batches that are finite; in float64, so nearly the same in any pieces.

        Raises:
            StorageUsageError: no row is finite.
        """
        count = 0
        means, squares = np.zeros(len(layout.entries)), np.zeros(len(layout.entries))
        for batch in batches:
            rows = batch[np.isfinite(batch).all(axis=1)].astype(np.float64)
            if not len(rows):
                continue
            total = count + len(rows)
            for number, entry in enumerate(layout.entries):
                values = rows[:, entry.offset : entry.stop]
                mean = values.mean()
                gap = mean - means[number]
                # Chan, Golub, LeVeque (1983): moments of two sets put together.
                squares[number] += ((values - mean) ** 2).mean() * len(rows) + gap**2 * count * len(rows) / total
                means[number] += gap * len(rows) / total
            count = total
        if count == 0:
            raise StorageUsageError("standardize: no finite state of the train split is among the epochs asked for")
        sizes = [entry.size for entry in layout.entries]
        deviations = np.sqrt(squares / count)
        return cls(np.repeat(means, sizes), np.repeat(np.where(deviations > 0, deviations, 1.0), sizes))

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised ``values`` [..., D]."""
        return ((values - self.mean) / self.deviation).astype(np.float32)

    def invert(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weights again."""
        return (values * self.deviation + self.mean).astype(np.float32)
