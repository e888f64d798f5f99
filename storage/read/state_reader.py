"""Finds and reads states of a published zoo: weights with their masks, and the other fields of a state.

``reader.ZooReader`` builds the public interface on it. Results are NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, FormatError, StorageUsageError
from ..formats.layout import Layout
from ..formats.manifest import Manifest
from ..formats.tensors import unpack_mask
from ..stores.protocol import ObjectStore
from .gather import Gatherer
from .label_tables import LabelTables, with_columns
from .selection import Selection, Selector, select
from .shard_reader import shard_reader
from .state_selector import StateSelector
from .states import States, checked_threshold, columns_of, is_within, warn_of_large_weights

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_BYTES = 32 * 2**20  # weights that are read at once for ``weight_threshold``


class StateReader:
    """The states of one version of a published zoo."""

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        number: int,
        cache: str | None = None,
        cache_bytes: int | None = None,
        progress: bool = True,
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.version = number
        self._options = (cache, cache_bytes, progress)
        self._states = Gatherer(manifest, shard_reader(store, manifest, cache, cache_bytes), progress)
        self._tables = LabelTables(store, manifest)
        self._selector = StateSelector(manifest, self._states, self._tables)

    def __eq__(self, other: object) -> bool:
        """True if both are the same version of the same zoo, in any store."""
        return isinstance(other, StateReader) and self.manifest == other.manifest

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
    def models(self) -> list[int]:
        """Indices of the models of this version, ascending."""
        return self._selector.models

    @property
    def epochs(self) -> list[int]:
        """Epochs whose weights are kept, ascending."""
        return self._selector.epochs

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

    def labels_of(self, states: Selection, columns: Sequence[str] | None = None) -> pa.Table:
        """Labels of these states, row by row, in the same order. Raises as ``labels`` does."""
        table = with_columns(self._tables.labels, columns)
        return table.take(self._tables.rows_of(states.models, states.epochs))

    def read_field(
        self, states: Selection | Mapping[int, Iterable[int]], suffix: str
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """Like ``field``, for existing states. ``suffix`` begins with a dot."""
        values, model, epoch = self._states.read(_selection(states), suffix)
        if suffix == ".mask":
            values = unpack_mask(values, self._noisy.size)
        return values, model, epoch

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

    def _read(self, selection: Selection, part: list[Any] | None, masked: bool) -> States:
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
    def block_shape(self) -> tuple[int, int]:
        """Models and epochs of a shard; states of one shard are read together."""
        return self.manifest.shard_shape

    def reopened(self) -> Self:
        """The same version with its own connections, for another process."""
        return type(self)(copy(self.store), self.manifest, self.version, *self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.manifest, self.version, *self._options)


def _selection(states: Selection | Mapping[int, Iterable[int]]) -> Selection:
    return states if isinstance(states, Selection) else Selection.of(states)
