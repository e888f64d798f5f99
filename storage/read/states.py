"""What a zoo gives: the weights of states as one array, and the parts of a layout that were asked for."""

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
    """Weights of N states, model-major, both indices ascending: ``values`` [N, D'], ``models`` [N], ``epochs`` [N].

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
        models, counts = np.unique(self.models, return_counts=True)
        num_epochs = int(counts[0]) if len(counts) else 0
        grid = self.epochs.reshape(len(models), num_epochs) if (counts == num_epochs).all() else None
        if grid is None or (grid != grid[:1]).any():
            raise EpochNotPresent("these models do not have the same epochs; select models or epochs that all have")
        return self.values.reshape(len(models), num_epochs, self.values.shape[1])

    def arrow(self) -> "pa.Table":
        """Columns ``model``, ``epoch`` and ``weights``, a list of fixed size per state that shares our memory."""
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
