"""Magnitude pruning: the smallest weights of a trained model are set to zero and stay there while the rest trains on.

The reference publishes such twins of its EuroSAT zoo without the code that made them. This module implements the common
method: one threshold over all layers, no pruned biases, remaining weights fine-tuned with the parent's optimizer.
Source: Han, Pool, Tran, Dally (2015), arXiv:1506.02626. Pure numpy.
"""

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout


def num_pruned(layout: Layout, sparsity_ratio: float) -> int:
    """Number of weights, biases not counted, that a sparsity ratio in [0, 1) removes."""
    return round(sparsity_ratio * sum(entry.size for entry in layout.entries if entry.name.endswith(".weight")))


def pruned_by_magnitude(layout: Layout, weights_PD: NDArray[np.float32], sparsity_ratio: float) -> NDArray[np.bool_]:
    """[P, D], true for the ``num_pruned`` weights of smallest magnitude of each model, ties by position.

    Biases are never pruned; a weight that is NaN counts as the largest.
    """
    prunable = np.concatenate(
        [np.arange(entry.offset, entry.stop) for entry in layout.entries if entry.name.endswith(".weight")]
    )
    order = np.argsort(np.abs(weights_PD[:, prunable]), axis=1, kind="stable")
    mask_PD = np.zeros(weights_PD.shape, np.bool_)
    np.put_along_axis(mask_PD, prunable[order[:, : num_pruned(layout, sparsity_ratio)]], True, axis=1)
    return mask_PD
