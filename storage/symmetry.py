"""Permutation symmetries of an architecture: what may be reordered without changing a single logit. Pure numpy.

A group says that the units of one hidden layer can be permuted: the same permutation applies to all its ``axes``.
``block`` is how many neighbouring values of an axis belong to one unit (spatial positions after flattening).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError
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
    """Copy of ``values`` [N, D] with unit ``permutations[g][n, i]`` ([N, size] per group) put at place i."""
    out = np.array(values)
    entries = {entry.name: entry for entry in layout.entries}
    for group, order in zip(groups, permutations, strict=True):
        for axis in group["axes"]:
            entry = entries[axis["tensor"]]
            columns = slice(entry.offset, entry.stop)
            out[:, columns] = _reorder(out[:, columns], entry, axis["axis"], axis["block"], order)
    return out


def align_canonical(values: NDArray[Any], layout: Layout, groups: Sequence[Group]) -> NDArray[Any]:
    """``values`` [N, D] with the units of each group sorted, first group first.

    Sorted by the L2 norm of what comes into a unit, ties by its values in layout order: permutations of one model
    give one result. A model that is not finite stays as it is.
    """
    out = np.array(values)
    entries = {entry.name: entry for entry in layout.entries}
    finite = np.isfinite(values).all(axis=1)
    for group in groups:
        incoming = _incoming(out, group, entries)
        norms = np.sqrt((incoming.astype(np.float64) ** 2).sum(axis=2))
        order = np.tile(np.arange(group["size"], dtype=np.intp), (len(out), 1))
        for row in np.flatnonzero(finite):
            keys = [incoming[row, :, column] for column in range(incoming.shape[2] - 1, -1, -1)]
            order[row] = np.lexsort([*keys, norms[row]])
        out = permute(out, layout, [group], [order])
    return out


def random_permutations(groups: Sequence[Group], num_models: int, seed: int) -> list[NDArray[np.intp]]:
    """Uniform permutations [num_models, size] per group; equal seeds give equal ones."""
    generator = np.random.Generator(np.random.Philox(seed))
    return [
        np.argsort(generator.integers(0, 2**63, (num_models, group["size"])), axis=1, kind="stable") for group in groups
    ]


def augment_permute(values: NDArray[Any], layout: Layout, groups: Sequence[Group], seed: int) -> NDArray[Any]:
    """``values`` [N, D] with the units of every group in random order, another for each row."""
    return permute(values, layout, groups, random_permutations(groups, len(values), seed))


def _incoming(values: NDArray[Any], group: Group, entries: dict[str, Entry]) -> NDArray[Any]:
    """[N, units, values that come into a unit], bias last."""
    pieces = []
    for axis in group["axes"]:
        if axis["axis"] == 0:
            entry = entries[axis["tensor"]]
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
