"""Torch views of a published zoo. This module imports torch; nothing imports it before a dataset is asked for."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .dataset import Zoo
from .errors import EpochNotPresent, StorageUsageError
from .selection import Selector

Sample = tuple[Any, Any, dict[str, Any]]


class StateDataset(Dataset[Sample]):
    """States in memory, one sample per state: (input, target, labels).

    For ``reconstruction`` the target is the input; for ``sequence`` it is the same model's next selected epoch, and
    a model's last epoch is no input. ``labels`` are the label columns of the input's model and epoch.
    """

    def __init__(
        self,
        zoo: Zoo,
        split: str | None,
        epochs: Selector,
        *,
        layout: str,
        task: str,
        models: Selector = None,
        where: str | None = None,
        align: Any = None,
    ) -> None:
        if layout not in ("vector", "state_dict", "tokens", "graph"):
            raise StorageUsageError(f"layout {layout!r}: expected vector, state_dict, tokens or graph")
        if task not in ("reconstruction", "sequence"):
            raise StorageUsageError(f"task {task!r}: expected reconstruction or sequence")
        self.zoo = zoo
        self.layout = layout
        self.states = zoo.weights(epochs=epochs, split=split, models=models, where=where, align=align)
        self.values = torch.from_numpy(self.states.values)
        self.inputs, self.targets = _pairs(self.states.models, self.states.epochs, task)
        table = zoo.labels()
        first = {int(m): i for i, m in reversed(list(enumerate(table["model"].to_pylist())))}
        self._rows = np.array(
            [first[int(m)] + int(e) for m, e in zip(self.states.models, self.states.epochs, strict=True)]
        )
        self._table = table.take(self._rows)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        source, target = int(self.inputs[index]), int(self.targets[index])
        labels = {name: self._table[name][source].as_py() for name in self._table.column_names}
        given = self._view(source)
        return given, given if source == target else self._view(target), labels

    def labels(self, column: str) -> torch.Tensor:
        """A numeric label column over all samples, null as NaN."""
        values = self._table[column].to_numpy().astype(np.float64)
        return torch.from_numpy(values[self.inputs])

    def _view(self, row: int) -> Any:
        vector = self.values[row]
        if self.layout == "vector":
            return vector
        model = int(self.states.models[row])
        if self.layout == "state_dict":
            named = self.zoo.to_state_dict(vector.numpy(), model)
            return {name: torch.from_numpy(value) for name, value in named.items()}
        if self.layout == "tokens":
            from .tokens import tokenize

            tokens = tokenize(vector.numpy()[None], self.zoo.layout)
            return tuple(torch.from_numpy(a) for a in (tokens.values[0], tokens.mask[0], tokens.positions))
        from .graph import to_graph

        graph = to_graph(vector.numpy(), self.zoo.layout, self.zoo.manifest.symmetries)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in graph.items()}


def make_dataset(zoo: Zoo, split: str | None, epochs: Selector, **options: Any) -> StateDataset:
    """The dataset of ``Zoo.dataset``."""
    return StateDataset(zoo, split, epochs, **options)


def _pairs(models: Any, epochs: Any, task: str) -> tuple[Any, Any]:
    rows = np.arange(len(models))
    if task == "reconstruction":
        return rows, rows
    follows = np.flatnonzero(models[:-1] == models[1:]) if len(models) else rows
    if len(models) and not len(follows):
        raise EpochNotPresent("task `sequence` needs two epochs of a model; select more epochs")
    del epochs
    return follows, follows + 1
