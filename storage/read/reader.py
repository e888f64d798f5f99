"""Reads a published zoo: from its manifest on, by ranges, every byte checked, without listing the store.

Results are NumPy arrays, or Arrow and torch on request. Torch, Arrow and boto3 are imported when needed.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, FormatError, StorageUsageError, import_optional, training_advice
from ..formats.layout import Layout
from ..formats.manifest import Manifest, Parent
from ..formats.symmetry import align_canonical, canonical_orders, permute
from ..formats.tensors import unpack_mask
from ..stores.protocol import ObjectStore
from .gather import Gatherer
from .html import zoo_html
from .label_tables import LabelTables
from .selection import Selection, Selector, names_one, select
from .shard_reader import shard_reader
from .state_selector import StateSelector
from .states import (
    State,
    States,
    checked_threshold,
    columns_of,
    is_within,
    sub_layout,
    warn_of_large_weights,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

PIECE_BYTES = 32 * 2**20  # of weights that are read at once for ``weight_threshold``


class ZooReader:
    """One version of a published zoo."""

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        number: int,
        cache: "str | None" = None,
        cache_bytes: "int | None" = None,
        progress: bool = True,
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.version = number
        self._options = (cache, cache_bytes, progress)
        self._states = Gatherer(manifest, shard_reader(store, manifest, cache, cache_bytes), progress)
        self._tables = LabelTables(store, manifest)
        self._selector = StateSelector(manifest, self._states, self._tables)

    def __repr__(self) -> str:
        return f"<Zoo {self.name} version {self.version}: {self.manifest.describe()}>"

    def _repr_html_(self) -> str:
        return zoo_html(self.manifest, repr(self), self._tables)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same version of the same zoo, in any store."""
        return isinstance(other, ZooReader) and self.manifest == other.manifest

    def __hash__(self) -> int:
        return hash((self.name, self.manifest.run, self.manifest.num_states))

    @property
    def name(self) -> str:
        return self.manifest.zoo

    @property
    def layout(self) -> Layout:
        """The place of each tensor in a weight vector."""
        return self.manifest.layout

    @property
    def architecture(self) -> dict[str, Any]:
        """Name, input channels, image size and number of classes of the networks."""
        return dict(self.manifest.architecture)

    @property
    def parent(self) -> Parent | None:
        """Zoo, run and epoch that sparsified twins come from; None for other zoos."""
        return self.manifest.parent

    def __len__(self) -> int:
        """Number of models."""
        return self.manifest.num_models

    def __iter__(self) -> Iterator[States]:
        """The kept states of one model after the other, each model read when its turn comes."""
        return (self.weights(models=model) for model in self.models)

    @overload
    def __getitem__(self, key: tuple[SupportsIndex, SupportsIndex]) -> State: ...
    @overload
    def __getitem__(self, key: Any) -> States: ...
    def __getitem__(self, key: Any) -> State | States:
        """``zoo[5]``: all kept states of model 5. ``zoo[5, -1]``: its last one. Both also take lists and slices.

        Models are named by their index, not by their place in ``zoo.models``. Raises as ``weights`` does.
        """
        if not isinstance(key, tuple):
            return self.weights(models=key)
        models, epochs = key
        if not (names_one(models) and names_one(epochs)):
            return self.weights(models=models, epochs=epochs)
        model, epoch = self._model_and_epoch(models, epochs)
        return State(self._one(model, epoch, True), model, epoch, self.layout, self)

    @property
    def models(self) -> list[int]:
        """Indices of the models of this version, ascending."""
        return self._selector.models

    @property
    def epochs(self) -> list[int]:
        """Epochs whose weights are kept, ascending."""
        return self._selector.epochs

    def labels(
        self,
        *,
        columns: Sequence[str] | None = None,
        epochs: Selector = None,
        models: Selector = None,
        split: str | None = None,
        where: str | None = None,
    ) -> "pa.Table":
        """Labels as an Arrow table, one row per model and epoch, also of epochs whose weights were not kept.

        Rows are in the order of ``weights`` for the same arguments.

        Args:
            columns: which label columns, in this order; None: all.
            epochs, models, split, where: as for ``weights``, among all epochs that were trained.

        Raises:
            EpochNotPresent, ModelNotPresent, PredicateError, StorageUsageError.
        """
        return _with_columns(self._selector.rows(epochs, models, split, where), columns)

    def labels_of(self, states: Selection, columns: Sequence[str] | None = None) -> "pa.Table":
        """Labels of these states, row by row, in the same order. Raises as ``labels`` does."""
        table = _with_columns(self._tables.labels, columns)
        return table.take(self._tables.rows_of(states.models, states.epochs))

    def model_table(self) -> "pa.Table":
        """One row per model: hyperparameters, seed, split, lineage, faulty epoch."""
        return self._tables.models

    def weights(
        self,
        *,
        epochs: Selector = None,
        split: str | None = None,
        layers: Sequence[str] | None = None,
        models: Selector = None,
        where: str | None = None,
        masked: bool = True,
        align: Literal["canonical"] | None = None,
        weight_threshold: float | None = None,
    ) -> States:
        """Weights of all states that fit. Rows are model-major, models and epochs each in the order of the arguments.

        Args:
            epochs: 50, -1 or "last" (of those that are kept), [0, 50], "21:26" (half-open), or a mask with one boolean
                for each of ``zoo.epochs``; None: all that are kept.
            split: train, val or test.
            layers: names like ``conv1`` or ``conv1.weight``, in any order; None: all.
            models: as ``epochs``, but none counts from the end; a mask has one boolean for each of ``zoo.models``.
                Order and duplicates are kept. Where models and epochs are both lists, all of their pairs must be here.
            where: predicate on the label columns of the same model and epoch.
            masked: whether pruned values of sparsified twins are zero.
            align: ``canonical`` puts the units of hidden layers into a canonical order; logits stay equal.
            weight_threshold: states with a weight of larger absolute value, or one that is not finite, are left out;
                all weights count, also where ``layers`` names some. A warning is logged that says how many, and the
                result has their number as ``left_out``.

        Raises:
            EpochNotKept, EpochNotPresent, ModelNotPresent, PredicateError, StorageUsageError: nothing was read.
        """
        selection = self.select(epochs, models, split, where)
        part = sub_layout(self.layout, layers)
        _check_align(align)
        if weight_threshold is not None:
            checked_threshold(weight_threshold)
        elif align is None:
            return self._read(selection, part, masked)
        states = self.read(selection, masked=masked)
        if weight_threshold is not None:
            states = states.within(weight_threshold)
        values = states.values
        if align is not None:
            groups = self.symmetries  # raises for a zoo without symmetries, even if no state is left to align
            values = align_canonical(values, self.layout, groups) if len(values) else values
        columns = columns_of(self.layout, part)
        values = values if columns is None else np.ascontiguousarray(values[:, columns])
        layout = Layout.of([(e.name, e.shape) for e in part])
        return States(values, states.models, states.epochs, layout, self, states.left_out)

    def select(
        self,
        epochs: Selector = None,
        models: Selector = None,
        split: str | None = None,
        where: str | None = None,
        weight_threshold: float | None = None,
    ) -> Selection:
        """The states that ``weights`` reads for these arguments. Raises as ``weights`` does.

        They are not read, except for a ``weight_threshold``: then all of them are, in bounded memory, and a warning is
        logged that says how many are left out.
        """
        if weight_threshold is None:
            return self._selector.states(epochs, models, split, where)
        limit = checked_threshold(weight_threshold)
        selection = self._selector.states(epochs, models, split, where)
        size = max(1, PIECE_BYTES // (4 * max(1, self.layout.size)))
        kept: list[NDArray[np.int64]] = []
        for epoch, models_there in selection.by_epoch().items():
            for start in range(0, len(models_there), size):
                states = self.read({epoch: models_there[start : start + size]})
                here = Selection(states.models.astype(np.int64), states.epochs.astype(np.int64))
                kept.append(here.keys[is_within(states.values, limit)])
        fits = np.isin(selection.keys, np.concatenate(kept) if kept else np.zeros(0, np.int64))
        warn_of_large_weights(fits, limit)
        return Selection(selection.models[fits], selection.epochs[fits])

    def wanted(
        self,
        epochs: Selector,
        models: Selector,
        split: str | None,
        where: str | None,
        weight_threshold: float | None = None,
    ) -> dict[int, list[int]]:
        """The states of ``select`` as a dict from epoch to its ascending models, each once."""
        return self.select(epochs, models, split, where, weight_threshold).by_epoch()

    def read(self, states: Selection | Mapping[int, Iterable[int]], *, masked: bool = True) -> States:
        """Weights of existing states, as returned by ``select`` or ``wanted``."""
        return self._read(_selection(states), list(self.layout.entries), masked)

    def field(
        self,
        name: str,
        *,
        epochs: Selector = None,
        split: str | None = None,
        models: Selector = None,
        where: str | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """Values, models and epochs of ``log_sigma2``, ``mask`` (bool), ``buffers`` or ``counters``.

        Rows and errors are those of ``weights`` for the same arguments.
        """
        suffix = f".{name.removeprefix('.')}"
        if suffix not in self.manifest.fields:
            names = ", ".join(sorted(f.removeprefix(".") for f in self.manifest.fields if f)) or "none besides weights"
            raise StorageUsageError(f"zoo {self.name!r} has no field {name!r}; it has {names}")
        return self.read_field(self.select(epochs, models, split, where), suffix)

    def read_field(
        self, states: Selection | Mapping[int, Iterable[int]], suffix: str
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """Like ``field``, for existing states. ``suffix`` begins with a dot."""
        values, model, epoch = self._states.read(_selection(states), suffix)
        if suffix == ".mask":
            values = unpack_mask(values, self._noisy.size)
        return values, model, epoch

    @overload
    def state_dict(
        self,
        model: SupportsIndex,
        epoch: SupportsIndex | str,
        *,
        masked: bool = ...,
        align: Literal["canonical"] | None = ...,
        torch: Literal[False] = ...,
    ) -> dict[str, NDArray[Any]]: ...
    @overload
    def state_dict(
        self,
        model: SupportsIndex,
        epoch: SupportsIndex | str,
        *,
        masked: bool = ...,
        align: Literal["canonical"] | None = ...,
        torch: Literal[True],
    ) -> "dict[str, torch.Tensor]": ...
    def state_dict(
        self,
        model: SupportsIndex,
        epoch: SupportsIndex | str,
        *,
        masked: bool = True,
        align: Literal["canonical"] | None = None,
        torch: bool = False,
    ) -> Any:
        """The state under the names of the torch module of this model, buffers included: loads with ``strict=True``.

        Args:
            epoch: one whose weights are kept; -1 or "last" is the last of them.
            masked, align: as for ``weights``.
            torch: tensors instead of NumPy arrays.
        """
        model, epoch = self._model_and_epoch(model, epoch)
        vector = self._one(model, epoch, masked)[None]
        buffers = self._one_field(model, epoch, ".buffers")
        counters = self._one_field(model, epoch, ".counters")
        _check_align(align)
        if align is not None:
            orders = canonical_orders(vector, self.layout, self.symmetries)
            vector = permute(vector, self.layout, self.symmetries, orders)
            if buffers is not None:
                buffers = permute(buffers[None], self.buffers_layout, self.symmetries, orders)[0]
        named = self.to_state_dict(vector[0], model, buffers, counters)
        if not torch:
            return named
        torch_module = import_optional("torch")
        return {name: torch_module.from_numpy(np.array(value)) for name, value in named.items()}

    def to_state_dict(
        self,
        vector: NDArray[np.float32],
        model: int,
        buffers: NDArray[np.float32] | None = None,
        counters: NDArray[np.int64] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """A weight vector [D] under the names that the torch module of ``model`` has, in layout order.

        Buffers and counters follow, where they are given.
        """
        names = self.manifest.state_dict_names[self._variant(model)]
        named = {names[name]: value for name, value in self.layout.unflatten(vector).items()}
        if buffers is not None:
            named.update(self.buffers_layout.unflatten(buffers))
        if counters is not None:
            described = self.manifest.architecture["counters"]
            named.update({name: np.asarray(count) for name, count in zip(described, counters, strict=True)})
        return named

    def row(self, model: int) -> dict[str, Any]:
        """Hyperparameters, seed, split and lineage of a model. Raises ModelNotPresent, StorageUsageError."""
        (index,) = self._selector.checked_models([model])
        row: dict[str, Any] = self._tables.models.slice(self.models.index(index), 1).to_pylist()[0]
        return row

    @cached_property
    def buffers_layout(self) -> Layout:
        """The place of each buffer in the field ``buffers``; empty for architectures without buffers."""
        return Layout.from_json(self.manifest.architecture.get("buffers_layout", ()))

    def _model_and_epoch(self, model: SupportsIndex, epoch: SupportsIndex | str) -> tuple[int, int]:
        """Both as integers. Raises StorageUsageError, EpochNotPresent, EpochNotKept."""
        if type(model) is int and type(epoch) is int and epoch >= 0:
            return model, epoch
        chosen = select(model, self.models, "models")
        if chosen is None or len(chosen) != 1:
            raise StorageUsageError(f"models: {model!r} is not one model")
        return chosen[0], self._selector.epoch(epoch)

    def _one(self, model: int, epoch: int, masked: bool) -> NDArray[np.float32]:
        """Weights [D] of one state, read without any other."""
        vector = self._states.one(model, epoch, "")
        if vector is None:
            self.select(epoch, model)  # raises the error that names what is wrong
            raise EpochNotPresent(f"zoo {self.name!r}: model {model} has no epoch {epoch}")
        if masked and ".mask" in self.manifest.fields:
            bits = self._states.one(model, epoch, ".mask")
            assert bits is not None  # the manifest was checked: all fields of a state exist together
            vector = vector * self._full_mask(bits[None])[0]
        return vector

    def _read(self, selection: Selection, part: "list[Any] | None", masked: bool) -> States:
        columns = None if part is None else columns_of(self.layout, part)
        layout = self.layout if part is None else Layout.of([(e.name, e.shape) for e in part])
        if masked and ".mask" in self.manifest.fields:
            values, models, epochs = self._states.read(selection, "")
            bits, _, _ = self._states.read(selection, ".mask")
            values = values * self._full_mask(bits)
            values = values if columns is None else np.ascontiguousarray(values[:, columns])
        else:
            values, models, epochs = self._states.read(selection, "", columns)
        return States(values, models, epochs, layout, self)

    def _variant(self, model: int) -> str:
        names = self.manifest.state_dict_names
        if "dropout" in names and self._tables.dropout[model] > 0:
            return "dropout"
        return "plain"

    @property
    def _noisy(self) -> Layout:
        if self.manifest.noisy_layout is None:
            raise FormatError(f"zoo {self.name!r}: has masks, but its manifest names no layout of them")
        return self.manifest.noisy_layout

    def _full_mask(self, bits: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Masks [N, D] of ``bits``: 1 where a value is used; values without a mask are always used."""
        full = np.ones((len(bits), self.layout.size), np.float32)
        columns = columns_of(
            self.layout, [e for e in self.layout.entries if e.name in {n.name for n in self._noisy.entries}]
        )
        full[:, slice(None) if columns is None else columns] = unpack_mask(bits, self._noisy.size)
        return full

    def _one_field(self, model: int, epoch: int, field: str) -> NDArray[Any] | None:
        return self._states.one(model, epoch, field) if field in self.manifest.fields else None

    @property
    def symmetries(self) -> list[dict[str, Any]]:
        """Permutation groups (storage/formats/symmetry.py). Raises StorageUsageError for a zoo that declares none."""
        groups = self.manifest.symmetries
        if not groups or any("axes" not in group for group in groups):
            raise StorageUsageError(
                f"zoo {self.name!r}: its manifest declares no permutation symmetries, so its models can be neither "
                "aligned nor permuted"
                + training_advice(f"`zoo vectorize {self.name}` seals a version that does, if there are any")
            )
        return groups

    @property
    def block_shape(self) -> tuple[int, int]:
        """Models and epochs of a shard; states of one shard are read together."""
        return self.manifest.shard_shape

    def reopened(self) -> "ZooReader":
        """The same version with its own connections, for another process."""
        return type(self)(copy(self.store), self.manifest, self.version, *self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.manifest, self.version, *self._options)


def _with_columns(table: "pa.Table", columns: Sequence[str] | None) -> "pa.Table":
    if columns is None:
        return table
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        if name not in table.column_names:
            close = difflib.get_close_matches(name, table.column_names, 1)
            offer = f"did you mean {close[0]}?" if close else f"there are {', '.join(table.column_names)}"
            raise StorageUsageError(f"no label column {name!r}; {offer}")
    return table.select(names)


def _selection(states: Selection | Mapping[int, Iterable[int]]) -> Selection:
    return states if isinstance(states, Selection) else Selection.of(states)


def _check_align(align: str | None) -> None:
    if align not in (None, "canonical"):
        raise StorageUsageError(f"align {align!r}: expected canonical or nothing")
