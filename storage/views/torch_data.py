"""Torch data sets over a published zoo, in memory and as a stream. Imports torch; imported only when needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..errors import StorageUsageError
from ..formats.symmetry import canonical_orders, permute, random_permutations
from ..formats.tables import numpy_column
from ..read.gather import JOB_BYTES
from ..read.reader import ZooReader
from ..read.selection import Selection, Selector
from .graph import to_graph
from .standardize import Standardizer, fit_standardizer
from .stream import PERMUTE, pairs, samples_of
from .tokens import tokenize

Sample = tuple[Any, Any, dict[str, Any]]
Fields = dict[str, NDArray[Any]]  # "" weights, ".buffers", ".counters"; rows are states

BUFFER_BYTES = 32 * 2**20
DEFAULT_COLUMNS = ("model", "epoch", "split", "test_acc", "ggap", "psnr", "image")
"""Label columns of a sample, if the zoo has them: few, since a DataLoader's worker opens a file for each tensor of a
batch."""


@dataclass(frozen=True)
class Transform:
    """The conversion of a state to a sample: layout, order of hidden units, standardisation.

    The logits of a sample's network, its standardisation inverted, are those of the state.
    """

    layout: str = "vector"
    align: Literal["canonical"] | None = None
    augment: Literal["permute"] | None = None
    standardize: bool | Standardizer = False
    seed: int = 0

    def check(self, task: str) -> None:
        """Raises StorageUsageError for an unknown value, or for options that exclude each other."""
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
        numbers, places = np.unique(samples, return_inverse=True)
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        drawn = [random_permutations(groups, len(r), [self.seed, number, PERMUTE], int(r[0])) for r in runs if len(r)]
        orders = [np.concatenate([d[g] for d in drawn])[places] for g in range(len(groups))]
        return _permuted(zoo, states, orders)


def _permuted(zoo: ZooReader, states: Fields, orders: list[NDArray[np.intp]]) -> Fields:
    groups = zoo.symmetries
    permuted = {**states, "": permute(states[""], zoo.layout, groups, orders)}
    if ".buffers" in states:
        permuted[".buffers"] = permute(states[".buffers"], zoo.buffers_layout, groups, orders)
    return permuted


class Source:
    """The parts that a dataset in memory and a stream share: the selected states, their labels, and their transform."""

    def __init__(
        self,
        zoo: ZooReader,
        split: str | None,
        epochs: Selector,
        transform: Transform,
        task: str,
        models: Selector,
        where: str | None,
        columns: Sequence[str] | Literal["all"] | None,
        weight_threshold: float | None = None,
    ) -> None:
        transform.check(task)
        self._columns = [columns] if isinstance(columns, str) and columns != "all" else columns
        epochs, models = (list(s) if isinstance(s, Iterator) else s for s in (epochs, models))  # they are used twice
        self.zoo, self.transform, self.task = zoo, transform, task
        if transform.align is not None or transform.augment is not None:
            _ = zoo.symmetries  # refused before anything is read
        self.selection = zoo.select(epochs, models, split, where, weight_threshold)
        self.standardizer: Standardizer | None = None
        if isinstance(transform.standardize, Standardizer):
            self.standardizer = transform.standardize
            if self.standardizer.layout != zoo.layout:
                raise StorageUsageError("standardize: the Standardizer was fitted on a zoo of another layout")
        elif transform.standardize:
            self.standardizer = fit_standardizer(zoo, epochs, models, where, weight_threshold)

    def __str__(self) -> str:
        return f"zoo {self.zoo.name}, layout {self.transform.layout}, task {self.task}"

    def read(self, selection: Selection) -> Fields:
        """The fields of the selected states, row by row, aligned if requested."""
        fields: Fields = {"": self.zoo.read(selection).values}
        for name in self.transform.fields(self.zoo)[1:]:
            fields[name] = self.zoo.read_field(selection, name)[0]
        return self.transform.aligned(self.zoo, fields)

    def labels(self, selection: Selection) -> dict[str, NDArray[Any]]:
        """The label columns of samples, row by row: numbers and text that a DataLoader can put into batches.

        Raises StorageUsageError for a column, named by the caller, that has a null integer, boolean or text.
        """
        if self._columns is None or self._columns == "all":
            there = {column.name for column in self.zoo.manifest.label_columns}
            columns = [name for name in DEFAULT_COLUMNS if name in there] if self._columns is None else None
            table = self.zoo.labels_of(selection, columns)
            arrays = {name: numpy_column(table[name]) for name in table.column_names}
            return {name: array for name, array in arrays.items() if not _has_null(array)}
        return {name: self.column(selection, name) for name in self._columns}

    def column(self, selection: Selection, name: str) -> NDArray[Any]:
        """One label column, row by row. Raises as ``labels`` does."""
        array = numpy_column(self.zoo.labels_of(selection, [name])[name])
        if _has_null(array):
            count = int(np.ma.getmaskarray(array).sum()) if array.dtype != object else sum(v is None for v in array)
            raise StorageUsageError(
                f"label column {name!r} is null for {count} of {len(array)} states, and torch has no null for it; "
                f'select others (where="{name} is not None"), or read zoo.labels(), where nulls are nulls'
            )
        return array

    def view(self, states: Fields, row: int, model: int) -> Any:
        """One state in the layout of the transform."""
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
    """States in memory, one sample per state: (input, target, labels), in the order of the selection.

    For ``reconstruction`` the target is the input; for ``sequence`` it is the same model's next later selected epoch,
    and a model's last one is no input. ``labels`` are those of the input.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._states = source.read(source.selection)
        self.models, self.epochs = source.selection.models, source.selection.epochs
        self.inputs, self.targets = pairs(source.selection, source.task)
        self._inputs = Selection(self.models[self.inputs], self.epochs[self.inputs])
        self._labels = source.labels(self._inputs)
        self._epoch = _shared_counter()

    def __repr__(self) -> str:
        return f"<StateDataset of {self._source}: {len(self):,} samples>"

    @property
    def standardizer(self) -> Standardizer | None:
        """The Standardizer that samples went through; its ``invert`` gives weights again."""
        return self._source.standardizer

    @property
    def values(self) -> torch.Tensor:
        """All states [N, D] before augmentation and standardisation, sharing the dataset's memory."""
        return torch.from_numpy(self._states[""])

    def set_epoch(self, number: int) -> None:
        """Set the number of the pass over the data, which decides the random order of hidden units."""
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

    def labels(self, column: str) -> torch.Tensor | list[str]:
        """A label column over all samples: a tensor, or a list of text. A null float is NaN.

        Raises StorageUsageError for a column that has another null.
        """
        array = self._source.column(self._inputs, column)
        return array.tolist() if array.dtype == object else torch.from_numpy(np.array(array))

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
        self._labels = source.labels(Selection(self._samples.models, self._samples.epochs))
        self._shuffle, self._buffer_bytes = shuffle, buffer_bytes
        self._epoch = _shared_counter()

    def __repr__(self) -> str:
        return f"<StateStream of {self._source}: {len(self):,} samples>"

    @property
    def standardizer(self) -> Standardizer | None:
        """The Standardizer that samples went through; its ``invert`` gives weights again."""
        return self._source.standardizer

    def set_epoch(self, number: int) -> None:
        """Set the number of the next pass over the data, also for workers that are kept alive."""
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        if worker is not None:
            self._source.zoo = self._source.zoo.reopened()  # a socket cannot be shared with the parent process
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


def _take(states: Fields, rows: NDArray[np.intp]) -> Fields:
    return {name: values[rows] for name, values in states.items()}


def _has_null(array: NDArray[Any]) -> bool:
    """True if a column has a null that is not NaN."""
    if array.dtype == object:
        return any(value is None for value in array)
    return isinstance(array, np.ma.MaskedArray)


def _shared_counter() -> torch.Tensor:
    """A number in shared memory, so that a DataLoader's workers see it change."""
    counter: torch.Tensor = torch.zeros((), dtype=torch.int64).share_memory_()
    return counter


def _one_of(what: str, value: Any, accepted: tuple[Any, ...]) -> None:
    if value not in accepted:
        names = ", ".join(name for name in accepted if name is not None)
        raise StorageUsageError(f"{what} {value!r}: expected one of {names}")
