"""Permutation symmetries of an architecture: reorderings of hidden units that change no logit. Pure numpy.

A group is a hidden layer whose units can be permuted; the same permutation applies to all its ``axes``. ``block`` is
the number of neighbouring values of an axis that belong to one unit (spatial positions after a flatten layer).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .layout import Entry, Layout

Group = dict[str, Any]


def chain_symmetries(layout: Layout) -> list[Group]:
    """Groups of a plain chain of convolutions and linear layers, without residual connections or normalisation.

    The outputs of each layer but the last are units: rows of its weight and bias, and the columns of the next weight.
    """
    weights = [entry for entry in layout.entries if entry.name.endswith(".weight")]
    groups = []
    for entry, following in pairwise(weights):
        layer, units = entry.name.removesuffix(".weight"), entry.shape[0]
        if following.shape[1] % units:
            raise FormatError(f"{following.name} has {following.shape[1]} inputs, not a multiple of {layer}'s {units}")
        axes = [
            {"tensor": f"{layer}.weight", "axis": 0, "block": 1},
            {"tensor": f"{layer}.bias", "axis": 0, "block": 1},
            {"tensor": following.name, "axis": 1, "block": following.shape[1] // units},
        ]
        groups.append({"name": layer, "size": units, "axes": axes})
    return groups


def permute(
    values: NDArray[Any], layout: Layout, groups: Sequence[Group], permutations: Sequence[NDArray[np.intp]]
) -> NDArray[Any]:
    """Copy of ``values`` [N, D] with unit ``permutations[g][n, i]`` ([N, size] per group) put at place i.

    Axes of tensors that ``layout`` does not have are left out, so that the weights and the buffers of a state can be
    permuted one after the other with the same groups and permutations.
    """
    out = np.array(values)
    entries = {entry.name: entry for entry in layout.entries}
    for group, order in zip(groups, permutations, strict=True):
        _permute_one(out, entries, group, order)
    return out


def _permute_one(out: NDArray[Any], entries: dict[str, Entry], group: Group, order: NDArray[np.intp]) -> None:
    for axis in group["axes"]:
        entry = entries.get(axis["tensor"])
        if entry is not None:
            columns = slice(entry.offset, entry.stop)
            out[:, columns] = _reorder(out[:, columns], entry, axis["axis"], axis["block"], order)


def canonical_orders(values: NDArray[Any], layout: Layout, groups: Sequence[Group]) -> list[NDArray[np.intp]]:
    """Permutations [N, size] per group that put ``values`` [N, D] into the canonical order.

    Group by group, units are sorted by the L2 norm of their incoming weights in the group's first layer, and ties by
    these weights in layout order, so that all permutations of a model give one result. A model that is not finite stays
    as it is.
    """
    out = np.array(values)
    entries = {entry.name: entry for entry in layout.entries}
    finite = np.isfinite(values).all(axis=1)
    orders = []
    for group in groups:
        incoming = _incoming(out, group, entries)
        norms = np.sqrt((incoming.astype(np.float64) ** 2).sum(axis=2))
        order = np.argsort(norms, axis=1, kind="stable")
        ascending = np.take_along_axis(norms, order, axis=1)
        for row in np.flatnonzero((ascending[:, 1:] == ascending[:, :-1]).any(axis=1) & finite):
            keys = [incoming[row, :, column] for column in range(incoming.shape[2] - 1, -1, -1)]
            order[row] = np.lexsort([*keys, norms[row]])
        order[~finite] = np.arange(group["size"])
        orders.append(order)
        _permute_one(out, entries, group, order)
    return orders


def align_canonical(values: NDArray[Any], layout: Layout, groups: Sequence[Group]) -> NDArray[Any]:
    """``values`` [N, D] in the order of ``canonical_orders``."""
    return permute(values, layout, groups, canonical_orders(values, layout, groups))


def random_permutations(
    groups: Sequence[Group], num_models: int, seed: int | Sequence[int], first: int = 0
) -> list[NDArray[np.intp]]:
    """Uniform permutations [num_models, size] per group: argsort of 64-bit words of Philox.

    Row r depends on ``seed`` and ``first + r`` only, so that rows can be drawn in any pieces.
    """
    width = sum(group["size"] for group in groups)
    width += -width % 4  # Philox counts in blocks of four words
    bits = np.random.Philox(np.random.SeedSequence(seed))
    bits.advance(first * width // 4)
    words = bits.random_raw(num_models * width).reshape(num_models, width)
    permutations, start = [], 0
    for group in groups:
        permutations.append(np.argsort(words[:, start : start + group["size"]], axis=1, kind="stable"))
        start += group["size"]
    return permutations


def augment_permute(values: NDArray[Any], layout: Layout, groups: Sequence[Group], seed: int) -> NDArray[Any]:
    """``values`` [N, D] with the units of every group in random order, another for each row."""
    return permute(values, layout, groups, random_permutations(groups, len(values), seed))


def _incoming(values: NDArray[Any], group: Group, entries: dict[str, Entry]) -> NDArray[Any]:
    """[N, units, incoming values of a unit]: weights of the group's first layer, then its other values per unit."""
    pieces: list[NDArray[Any]] = []
    for axis in group["axes"]:
        entry = entries.get(axis["tensor"])
        if axis["axis"] == 0 and entry is not None:
            if pieces and len(entry.shape) > 1:
                break
            pieces.append(values[:, entry.offset : entry.stop].reshape(len(values), group["size"], -1))
    return np.concatenate(pieces, axis=2)


def _reorder(columns: NDArray[Any], entry: Entry, axis: int, block: int, order: NDArray[np.intp]) -> NDArray[Any]:
    num = len(columns)
    tensor = columns.reshape(num, *entry.shape)
    moved = np.moveaxis(tensor, axis + 1, 1)
    shape = moved.shape
    units = moved.reshape(num, order.shape[1], block, *shape[2:])
    taken = np.take_along_axis(units, order.reshape(num, -1, *[1] * (units.ndim - 2)), axis=1)
    return np.moveaxis(taken.reshape(shape), 1, axis + 1).reshape(num, -1)
