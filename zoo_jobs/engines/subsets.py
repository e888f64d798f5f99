"""The rows of the training split on which a model trains, and the labels with which it trains. Pure numpy."""

import math
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from . import philox


def num_training_rows(fraction: float, num_rows: int) -> int:
    """Rows in ``fraction`` of ``num_rows``, rounded up. The product is exact: 0.07 of 100 rows are 7, not 8."""
    return math.ceil(Decimal(repr(float(fraction))) * num_rows)


def training_rows(seed: int, fraction: float, num_rows: int) -> NDArray[np.int64]:
    """The training rows of a model, ascending: the first rows of a permutation that depends only on its seed.

    So the subsets of models with the same seed are nested. With fraction 1 the result is all rows in their order.
    """
    count = num_training_rows(fraction, num_rows)
    if count == num_rows:
        return np.arange(num_rows)
    return np.sort(philox.permutation(seed, 0, num_rows, philox.Purpose.SUBSET)[:count])


def training_labels(seed: int, noise: float, labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """The labels [N] of the whole training split with which a model trains.

    Each label is wrong with probability ``noise``, independently of the others. A wrong label is one of the other
    classes, all of which are equally likely.
    """
    if noise == 0:
        return labels
    words_N2 = philox.words(seed, philox.Purpose.LABEL, epoch=0, step=0, stream=0, num_words=2 * len(labels))
    words_N2 = words_N2.reshape(-1, 2)
    is_wrong = words_N2[:, 0] < np.uint32(philox.dropout_threshold(noise))
    shift = 1 + (words_N2[:, 1].astype(np.uint64) * np.uint64(num_classes - 1) >> np.uint64(32))
    return np.where(is_wrong, (labels + shift) % num_classes, labels).astype(np.uint8)


def packed(num_rows_P: NDArray[np.int32]) -> NDArray[np.intp]:
    """Model indices sorted by number of training rows, largest first, so neighbours take about equally many steps."""
    return np.argsort(-num_rows_P.astype(np.int64), kind="stable")
