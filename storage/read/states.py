"""The result of a read: the weights of states in one array, and the part of the layout that they have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, StorageUsageError
from ..formats.layout import Layout

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


@dataclass(frozen=True)
class States:
    """Weights of N states, model-major: ``values`` [N, D'], ``models`` [N], ``epochs`` [N].

    ``layout`` says where each tensor lies in a row; it is the zoo's, or the part of it that was asked for.
    """

    values: NDArray[np.float32]
    models: NDArray[np.int32]
    epochs: NDArray[np.int32]
    layout: Layout

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype) if not copy else np.array(self.values, dtype)

    def trajectories(self) -> NDArray[np.float32]:
        """[models, epochs, D'], a view. Raises EpochNotPresent unless all models have the same epochs."""
        again = (self.models[1:] != self.models[:1]) | (self.epochs[1:] == self.epochs[:1])
        num_epochs = int(np.argmax(again)) + 1 if again.any() else len(self)
        shape = (len(self) // num_epochs, num_epochs) if num_epochs else (0, 0)
        whole = shape[0] * shape[1] == len(self)
        if whole:
            models, epochs = self.models.reshape(shape), self.epochs.reshape(shape)
            whole = bool((models == models[:, :1]).all() and (epochs == epochs[:1]).all())
        if not whole:
            raise EpochNotPresent("these models do not have the same epochs; select models or epochs that all have")
        return self.values.reshape(*shape, self.values.shape[1])

    def arrow(self) -> "pa.Table":
        """Columns ``model``, ``epoch`` and ``weights``, a fixed-size list per state that shares the array's memory."""
        import pyarrow as pa

        flat = pa.array(self.values.reshape(-1))
        weights = pa.FixedSizeListArray.from_arrays(flat, self.values.shape[1])
        return pa.table({"model": self.models, "epoch": self.epochs, "weights": weights})

    def torch(self) -> "torch.Tensor":
        """The values as a tensor that shares their memory."""
        import torch

        return torch.from_numpy(self.values)


def sub_layout(layout: Layout, layers: Sequence[str] | None) -> list[Any]:
    """Entries of the named layers or tensors, in layout order. Raises StorageUsageError for an unknown name."""
    if layers is None:
        return list(layout.entries)
    if isinstance(layers, str):
        layers = [layers]
    known = {entry.name for entry in layout.entries} | {entry.name.rpartition(".")[0] for entry in layout.entries}
    for name in layers:
        if name not in known:
            raise StorageUsageError(f"no layer {name!r}; there are {', '.join(sorted(known))}")
    chosen = set(layers)
    return [e for e in layout.entries if e.name in chosen or e.name.rpartition(".")[0] in chosen]


def columns_of(layout: Layout, entries: Sequence[Any]) -> NDArray[np.intp] | None:
    """Positions of ``entries`` in a vector; None if that is all of it."""
    if len(entries) == len(layout.entries):
        return None
    return np.concatenate([np.arange(e.offset, e.stop) for e in entries] or [np.zeros(0, np.intp)])
