"""Weights as NFN's ``WeightSpaceFeatures`` holds them: a list of weights and a list of biases, layer by layer. Pure.

Source: AllanYangZhou/nfn, ``nfn/common/data.py``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, StorageUsageError
from ..formats.layout import Entry, Layout

Arrays = list[NDArray[np.float32]]


def to_features(values: NDArray[np.float32], layout: Layout) -> tuple[Arrays, Arrays]:
    """Weights [N, 1, out, in(, height, width)] and biases [N, 1, out] of ``values`` [N, D], layer by layer.

    The second axis is NFN's axis of channels. Raises StorageUsageError for a network that NFN cannot take.
    """
    tensors = layout.unflatten(values)
    pairs = layers_of(layout, "NFN")
    return [tensors[w.name][:, None] for w, _ in pairs], [tensors[b.name][:, None] for _, b in pairs]


def from_features(weights: Sequence[Any], biases: Sequence[Any], layout: Layout) -> NDArray[np.float32]:
    """The weight vectors [N, D] of ``to_features``, of arrays or tensors. Raises FormatError for another network."""
    pairs = layers_of(layout, "NFN")
    if (len(weights), len(biases)) != (len(pairs), len(pairs)):
        raise FormatError(f"{len(weights)} weights and {len(biases)} biases, this layout has {len(pairs)} of each")
    tensors = {}
    for (weight, bias), of_weight, of_bias in zip(pairs, weights, biases, strict=True):
        for entry, given in ((weight, of_weight), (bias, of_bias)):
            array = np.asarray(given, np.float32)
            if array.shape[1:] != (1, *entry.shape):
                raise FormatError(f"{entry.name}: shape {list(array.shape)}, expected [N, 1, *{list(entry.shape)}]")
            tensors[entry.name] = array[:, 0]
    try:
        return layout.flatten(tensors)
    except ValueError as error:
        raise FormatError(str(error)) from None


def layers_of(layout: Layout, reader: str) -> list[tuple[Entry, Entry]]:
    """Weight and bias of each layer.

    Raises StorageUsageError unless the network is a chain of convolutions and linear layers that all have a bias.
    """
    entries = list(layout)
    pairs = list(zip(entries[::2], entries[1::2], strict=False))
    known = len(entries) % 2 == 0 and all(
        w.layer == b.layer and b.is_bias and w.name.endswith(".weight") and len(w.shape) in (2, 4) for w, b in pairs
    )
    if not known or not pairs:
        raise StorageUsageError(
            f"{reader} reads chains of convolutions and linear layers with biases; this layout has other tensors "
            f"({', '.join(entry.name for entry in entries[:4])}, ...)"
        )
    return pairs
