"""Torch views of a published zoo. This module imports torch; nothing imports it before a dataset is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..errors import StorageUsageError
from ..formats.symmetry import canonical_orders, permute, random_permutations
from ..read.gather import JOB_BYTES
from ..read.reader import ZooReader
from ..read.selection import Selection, Selector
from .graph import to_graph
from .standardize import Standardizer
from .stream import PERMUTE, pairs, samples_of
from .tokens import tokenize

Sample = tuple[Any, Any, dict[str, Any]]
Fields = dict[str, NDArray[Any]]  # "" weights, ".buffers", ".counters"; rows are states

BUFFER_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Transform:
    """What happens to a state between shard and sample. Nothing of it changes a logit."""

    layout: str = "vector"
    align: Literal["canonical"] | None = None
    augment: Literal["permute"] | None = None
    standardize: bool = False
    seed: int = 0

    def check(self, task: str) -> None:
        """Raises StorageUsageError for what is unknown or does not go together."""
        _one_of("layout", self.layout, ("vector", "state_dict", "tokens", "graph"))
        _one_of("task", task, ("reconstruction", "sequence"))
        _one_of("align", self.align, (None, "canonical"))
        _one_of("augment", self.augment, (None, "permute"))
        if self.align is not None and self.augment is not None:
            raise StorageUsageError("align and augment: a canonical order and a random one contradict; choose one")
        if self.standardize and self.layout == "state_dict":
            raise StorageUsageError(
                "standardize: a state dict of standardised weights is no model; take another layout"
            )

    def fields(self, zoo: ZooReader) -> list[str]:
        """Fields that a sample is made of."""
        if self.layout != "state_dict":
            return [""]
        return ["", *(name for name in (".buffers", ".counters") if name in zoo.manifest.fields)]

    def aligned(self, zoo: ZooReader, states: Fields) -> Fields:
        if self.align is None:
            return states
        return _permuted(zoo, states, canonical_orders(states[""], zoo.layout, zoo.symmetries))

    def augmented(self, zoo: ZooReader, states: Fields, samples: NDArray[np.intp], number: int) -> Fields:
        """``states`` permuted; that of a sample depends on its number, the pass and the seed."""
        if self.augment is None:
            return states
        groups = zoo.symmetries
        found, places = np.unique(samples, return_inverse=True)
        runs = np.split(found, np.flatnonzero(np.diff(found) != 1) + 1)
        drawn = [random_permutations(groups, len(r), [self.seed, number, PERMUTE], int(r[0])) for r in runs if len(r)]
        orders = [np.concatenate([d[g] for d in drawn])[places] for g in range(len(groups))]
        return _permuted(zoo, states, orders)


def _permuted(zoo: ZooReader, states: Fields, orders: list[NDArray[np.intp]]) -> Fields:
    groups = zoo.symmetries
    found = {**states, "": permute(states[""], zoo.layout, groups, orders)}
    if ".buffers" in states:
        found[".buffers"] = permute(states[".buffers"], zoo.buffers_layout, groups, orders)
    return found


class Source:
    """What a dataset in memory and a stream have in common: the zoo, its labels, how a state is given."""

    def __init__(
        self,
        zoo: ZooReader,
        split: str | None,
        epochs: Selector,
        transform: Transform,
        task: str,
        models: Selector,
        where: str | None,
        columns: Sequence[str] | None,
    ) -> None:
        transform.check(task)
        self.zoo, self.transform, self.task = zoo, transform, task
        if transform.align is not None or transform.augment is not None:
            _ = zoo.symmetries  # refused before anything is read
        self.selection = zoo.select(epochs, models, split, where)
        self.standardizer: Standardizer | None = None
        if transform.standardize:
            self.standardizer = _fit(zoo, epochs)
        self._columns = columns

    def read(self, selection: Selection) -> Fields:
        """The fields of the selected states, row by row, aligned if that was asked for."""
        fields: Fields = {"": self.zoo.read(selection).values}
        for name in self.transform.fields(self.zoo)[1:]:
            fields[name] = self.zoo.read_field(selection, name)[0]
        return self.transform.aligned(self.zoo, fields)

    def labels(self, models: NDArray[np.int64], epochs: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Label columns of these states: numbers and text without nulls, which a DataLoader can put into batches."""
        table = self.zoo.labels(columns=self._columns)
        all_models = self.zoo.labels(columns=["model"])["model"].to_numpy()
        present, first = np.unique(all_models, return_index=True)
        rows = first[np.searchsorted(present, models)] + epochs
        return {name: _without_nulls(table[name].take(rows)) for name in table.column_names}

    def view(self, states: Fields, row: int, model: int) -> Any:
        """One state in the layout that was asked for."""
        vector = states[""][row]
        if self.standardizer is not None:
            vector = self.standardizer.apply(vector)
        if self.transform.layout == "vector":
            return torch.from_numpy(vector)
        if self.transform.layout == "state_dict":
            buffers = states[".buffers"][row] if ".buffers" in states else None
            counters = states[".counters"][row] if ".counters" in states else None
            named = self.zoo.to_state_dict(vector, model, buffers, counters)
            return {name: torch.from_numpy(np.asarray(value)) for name, value in named.items()}
        if self.transform.layout == "tokens":
            tokens = tokenize(vector[None], self.zoo.layout)
            return tuple(torch.from_numpy(a) for a in (tokens.values[0], tokens.mask[0], tokens.positions))
        graph = to_graph(vector, self.zoo.layout)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in graph.items()}


class StateDataset(Dataset[Sample]):
    """States in memory, one sample per state: (input, target, labels), by ascending (model, epoch).

    For ``reconstruction`` the target is the input; for ``sequence`` it is the same model's next selected epoch, and
    a model's last epoch is no input. ``labels`` are those of the input; null is NaN, -1 or an empty text.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._states = source.read(source.selection)
        self.models, self.epochs = source.selection.models, source.selection.epochs
        self.inputs, self.targets = pairs(source.selection, source.task)
        self._labels = self._source.labels(self.models[self.inputs], self.epochs[self.inputs])
        self._epoch = _shared_counter()

    @property
    def standardizer(self) -> Standardizer | None:
        """What ``standardize`` fitted; its ``invert`` gives weights again."""
        return self._source.standardizer

    @property
    def values(self) -> torch.Tensor:
        """All states [N, D] before augmentation and standardisation, sharing our memory."""
        return torch.from_numpy(self._states[""])

    def set_epoch(self, number: int) -> None:
        """Which pass over the data this is: another random order of hidden units for each."""
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        source, target = int(self.inputs[place]), int(self.targets[place])
        model = int(self.models[source])
        labels = {name: column[place] for name, column in self._labels.items()}
        given = self._view(source, place, model)
        return given, given if source == target else self._view(target, place, model), labels

    def labels(self, column: str) -> torch.Tensor:
        """A numeric label column over all samples, null as NaN (-1 in integer columns)."""
        return torch.from_numpy(self._labels[column].astype(np.float64))

    def _view(self, row: int, sample: int, model: int) -> Any:
        one = {name: values[row : row + 1] for name, values in self._states.items()}
        one = self._source.transform.augmented(self._source.zoo, one, np.array([sample]), int(self._epoch))
        return self._source.view(one, 0, model)


class StateStream(IterableDataset[Sample]):
    """Samples as those of ``StateDataset``, read while it is iterated: memory is bounded, shards come in large pieces.

    The order is a function of (seed, pass, buffer size), stated in ``storage/views/stream.py``. In a DataLoader,
    worker w of W gives windows w, w + W, ...: the samples of a pass are the same for any number of workers.
    """

    def __init__(self, source: Source, *, shuffle: bool = True, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._source = source
        zoo = source.zoo
        block_models, block_epochs = zoo.block_shape
        sizes = [zoo.manifest.fields[name] for name in source.transform.fields(zoo)]
        self._state_bytes = sum(4 * entry.values for entry in sizes)
        num_models = len(np.unique(source.selection.models))
        tensor_bytes = max(1, min(block_models, num_models) * self._state_bytes)
        chunk_epochs = max(1, min(JOB_BYTES, buffer_bytes) // tensor_bytes)
        self._samples = samples_of(source.selection, source.task, block_models, block_epochs, chunk_epochs)
        self._labels = self._source.labels(self._samples.models, self._samples.epochs)
        self._shuffle, self._buffer_bytes = shuffle, buffer_bytes
        self._epoch = _shared_counter()

    @property
    def standardizer(self) -> Standardizer | None:
        """What ``standardize`` fitted; its ``invert`` gives weights again."""
        return self._source.standardizer

    def set_epoch(self, number: int) -> None:
        """Which pass over the data comes next; also workers that are kept alive take it."""
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        if worker is not None:
            self._source.zoo = self._source.zoo.reopened()  # sockets must not be shared with the parent
        number = int(self._epoch)
        transform, zoo = self._source.transform, self._source.zoo
        windows = self._samples.windows(self._state_bytes, self._buffer_bytes, transform.seed, number, self._shuffle)
        for rows in windows[first::step]:
            yield from self._window(zoo, rows, number)

    def _window(self, zoo: ZooReader, rows: NDArray[np.intp], number: int) -> Iterator[Sample]:
        samples, transform = self._samples, self._source.transform
        selection = samples.states(rows)
        states, keys = self._source.read(selection), selection.keys
        inputs = np.searchsorted(keys, samples.models[rows] << 32 | samples.epochs[rows])
        targets = np.searchsorted(keys, samples.models[rows] << 32 | samples.targets[rows])
        given = transform.augmented(zoo, _take(states, inputs), rows, number)
        follows = given
        if self._source.task == "sequence":
            follows = transform.augmented(zoo, _take(states, targets), rows, number)
        for place, row in enumerate(rows.tolist()):
            labels = {name: column[row] for name, column in self._labels.items()}
            model = int(samples.models[row])
            one = self._source.view(given, place, model)
            yield one, one if follows is given else self._source.view(follows, place, model), labels


def _fit(zoo: ZooReader, epochs: Selector) -> Standardizer:
    """Fitted on the train split of ``epochs``, whatever split is asked for, in pieces of bounded memory.

    Moments per tensor are those of any order of hidden units, so neither ``align`` nor ``augment`` matters to it.
    """
    wanted = zoo.wanted(epochs, None, "train", None)

    def pieces() -> Iterator[NDArray[np.float32]]:
        block = max(1, BUFFER_BYTES // (4 * max(1, zoo.layout.size)))
        for epoch, models in wanted.items():
            for start in range(0, len(models), block):
                yield zoo.read({epoch: models[start : start + block]}).values

    return Standardizer.fit(pieces(), zoo.layout)


def _take(states: Fields, rows: NDArray[np.intp]) -> Fields:
    return {name: values[rows] for name, values in states.items()}


def _without_nulls(column: Any) -> NDArray[Any]:
    """Null as NaN, -1, False or an empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_floating(kind):
        fill: Any = float("nan")
    elif pa.types.is_boolean(kind):
        fill = False
    else:
        fill = "" if pa.types.is_string(kind) else -1
    values = pc.fill_null(column, fill)
    return np.asarray(values.to_pylist() if pa.types.is_string(kind) else values.to_numpy())


def _shared_counter() -> torch.Tensor:
    """A number that a DataLoader's workers see change."""
    counter: torch.Tensor = torch.zeros((), dtype=torch.int64).share_memory_()
    return counter


def _one_of(what: str, found: Any, accepted: tuple[Any, ...]) -> None:
    if found not in accepted:
        names = ", ".join(name for name in accepted if name is not None)
        raise StorageUsageError(f"{what} {found!r}: expected one of {names}")
