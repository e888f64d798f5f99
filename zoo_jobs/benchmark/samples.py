"""The models of a zoo for a benchmark: the part that methods get, and the labels that only the benchmark knows.

Shape suffix: N = states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.errors import NotPublished
from zooforge.storage.formats.splits import CELL, LATER_CELL
from zooforge.storage.keys import zoo_url
from zooforge.storage.read.selection import Selector
from zooforge.storage.read.states import States
from zooforge.storage.zoo import Zoo as Published
from zooforge.storage.zoo import open_zoo

from ..errors import InputError

Columns = Mapping[str, NDArray[Any]]

NOT_FINITE, TOO_LARGE, NO_LABEL = "a weight is not finite", "a weight is beyond the threshold", "the target is unknown"


@dataclass(frozen=True, eq=False)
class Given:
    """The input of a method for N states.

    Attributes:
        states: the weights. They name no zoo, and every model and epoch is -1, so that no label follows from them.
        hyperparameters: by name, each [N], the epoch among them: for the floor alone.
        history: [N, K] test accuracies of earlier epochs; K is 0 unless the protocol gives them.
    """

    states: States
    hyperparameters: Columns
    history: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: NDArray[Any]) -> "Given":
        chosen = {name: values[rows] for name, values in self.hyperparameters.items()}
        return Given(self.states[rows], chosen, self.history[rows])


@dataclass(frozen=True, eq=False)
class Samples:
    """N states of one zoo with their labels.

    Attributes:
        labels: label columns, each [N]: NaN or None where a label is null.
        roots: [N], zoo and model that a model descends from without further parents.
        groups: [N], what a split keeps together: the root, or the seed or cell where the zoo's own split does so.
        excluded: how many states were left out, by reason.
    """

    zoo: str
    given: Given
    labels: Columns
    roots: NDArray[Any]
    groups: NDArray[Any]
    excluded: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, rows: NDArray[Any]) -> "Samples":
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Samples(self.zoo, self.given[rows], labels, self.roots[rows], self.groups[rows], self.excluded)

    def keep(self, kept: NDArray[np.bool_], reason: str) -> "Samples":
        """The states for which ``kept`` [N] is true; the others are counted under ``reason``."""
        excluded = {**self.excluded, reason: self.excluded.get(reason, 0) + int((~kept).sum())}
        return replace(self[kept], excluded=excluded)

    def with_known(self, target: str) -> "Samples":
        """The states whose label ``target`` is known."""
        values = self.labels[target]
        known = np.isfinite(values) if values.dtype.kind == "f" else np.array([v is not None for v in values], bool)
        return self.keep(known, NO_LABEL)

    def without_hyperparameter(self, name: str) -> "Samples":
        """A copy without the hyperparameter ``name``, which the floor must not see."""
        others = {key: values for key, values in self.given.hyperparameters.items() if key != name}
        return replace(self, given=replace(self.given, hyperparameters=others))

    def with_label(self, name: str, values: NDArray[Any]) -> "Samples":
        """A copy with an additional label column ``values`` [N]."""
        return replace(self, labels={**self.labels, name: values})

    def with_history(self, history: NDArray[np.float64]) -> "Samples":
        return replace(self, given=replace(self.given, history=history))


def read_samples(
    zoo: Published, epochs: Selector = -1, weight_threshold: float | None = None, models: Selector = None
) -> Samples:
    """Read the states of ``epochs`` whose weights are finite and at most ``weight_threshold`` in size.

    Raises:
        InputError: a parent of the models is not in the store, so that their roots are unknown. Also the errors of
        ``Zoo.weights``.
    """
    states = zoo.weights(epochs=epochs, models=models)
    finite = np.asarray(np.isfinite(states.values).all(axis=1))
    excluded = {NOT_FINITE: int((~finite).sum())}
    states = states[finite]
    if weight_threshold is not None and len(states):
        states = states.within(weight_threshold)
        excluded[TOO_LARGE] = states.left_out
    table = states.labels()
    labels = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    roots = _roots(zoo, labels)
    known = {name: labels[name] for name in (*CELL, *LATER_CELL, "epoch") if name in labels}
    given = Given(_nameless(states), known, np.zeros((len(states), 0)))
    return Samples(zoo.name, given, labels, roots, _groups(zoo, labels, roots), excluded)


def _nameless(states: States) -> States:
    none = np.full(len(states), -1, np.int32)
    return replace(states, models=none, epochs=none, zoo=None)


def _roots(zoo: Published, labels: Columns) -> NDArray[Any]:
    """[N] of ``ZOO/MODEL``, or ``images of DATA SET/IMAGE`` where each model learns one image."""
    if zoo.manifest.task is not None:
        return np.array([f"{zoo.manifest.root_zoo}/{image}" for image in labels["image"].tolist()], object)
    names = dict(
        zip(labels["model"].tolist(), zip(labels["parent_zoo"], labels["parent_model"], strict=True), strict=True)
    )
    roots = {}
    parents: dict[str, Mapping[int, tuple[Any, Any]]] = {}
    for model, (parent, index) in names.items():
        name, number = zoo.name, model
        while parent is not None:
            name, number = str(parent), int(index)
            if name == zoo.manifest.root_zoo:
                break
            if name not in parents:
                parents[name] = _lineage(zoo, name)
            parent, index = parents[name].get(number, (None, None))
        roots[model] = f"{name}/{number}"
    return np.array([roots[model] for model in labels["model"].tolist()], object)


def _lineage(zoo: Published, parent: str) -> Mapping[int, tuple[Any, Any]]:
    try:
        table = open_zoo(zoo_url(zoo.store.url, parent)).model_table()
    except NotPublished:
        raise InputError(
            f"{zoo.name}: its models descend from {parent}, which is not in this store, so models of one origin cannot "
            f"be kept in one split; `zoo store pull` copies {parent} here"
        ) from None
    columns = (table[name].to_pylist() for name in ("model", "parent_zoo", "parent_model"))
    return {model: (name, index) for model, name, index in zip(*columns, strict=True)}


def _groups(zoo: Published, labels: Columns, roots: NDArray[Any]) -> NDArray[Any]:
    group = zoo.manifest.split.group
    if group is None:
        return roots
    root_zoo = zoo.manifest.root_zoo or zoo.name
    return np.array([f"{root_zoo}/{group} {key}" for key in keys_of(labels, group)], object)


def keys_of(labels: Columns, group: str) -> list[str]:
    """[N]: the seed, or the cell of the grid, of each state as text."""
    names: Sequence[str] = ("seed",) if group == "seed" else [name for name in (*CELL, *LATER_CELL) if name in labels]
    return [str(row) for row in zip(*(labels[name].tolist() for name in names), strict=True)]
