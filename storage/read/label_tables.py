"""The two tables of a published zoo, read when they are first needed and checked against the manifest."""

import difflib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, StorageUsageError
from ..formats.manifest import Manifest
from ..formats.shards import from_ranges
from ..formats.tables import decode_table
from ..stores.objects import get_object
from ..stores.protocol import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa


class LabelTables:
    """``labels`` has a row per model and epoch, ``models`` a row per model."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest

    @cached_property
    def labels(self) -> "pa.Table":
        """Rows by ascending model and epoch. Raises ObjectMissing, DigestMismatch, FormatError."""
        entry = self._manifest.labels
        data = get_object(self._store, entry.ref, f"zoo {self._manifest.zoo!r}, labels")
        return decode_table(data, entry.ref.key, self._manifest.label_columns, entry.rows)

    @cached_property
    def models(self) -> "pa.Table":
        """Rows by ascending model. Raises as ``labels`` does."""
        entry = self._manifest.model_table
        data = get_object(self._store, entry.ref, f"zoo {self._manifest.zoo!r}, models")
        table = decode_table(data, entry.ref.key, self._manifest.model_columns, self._manifest.num_models)
        if table["model"].to_pylist() != from_ranges(self._manifest.models):
            raise FormatError(f"{entry.ref.key}: other models than the manifest names")
        return table

    @cached_property
    def dropout(self) -> dict[int, float]:
        """Model to its dropout ratio, 0 where it has none."""
        ratios = self.models["dropout_ratio"].to_pylist()
        return {m: r or 0.0 for m, r in zip(self.models["model"].to_pylist(), ratios, strict=True)}

    def of_split(self, split: str) -> set[int]:
        """Models of a split."""
        pairs = zip(self.models["model"].to_pylist(), self.models["split"].to_pylist(), strict=True)
        return {model for model, its in pairs if its == split}

    @cached_property
    def _extents(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Per model of the manifest: its first row in ``labels``, and its last epoch.

        Raises FormatError unless ``labels`` has one row per model and epoch, from epoch 0 on, without gaps.
        """
        models, epochs = (self.labels[name].to_numpy().astype(np.int64) for name in ("model", "epoch"))
        first = np.searchsorted(models, self._models)
        last = np.searchsorted(models, self._models, side="right") - first - 1
        expected = np.arange(len(models)) - np.repeat(first, last + 1) if (last >= 0).all() else epochs[:0]
        if not np.array_equal(models, np.repeat(self._models, np.maximum(last + 1, 0))) or not np.array_equal(
            epochs, expected
        ):
            key = self._manifest.labels.ref.key
            raise FormatError(f"{key}: not one row per model and epoch, in their order, as the manifest names them")
        return first, last

    @cached_property
    def _models(self) -> NDArray[np.int64]:
        return np.array(from_ranges(self._manifest.models), np.int64)

    def last_epochs(self, models: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Last epoch of each of ``models``, which are here."""
        return self._extents[1][np.searchsorted(self._models, models)]

    def rows_of(self, models: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row in ``labels`` of each state (``models`` [N], ``epochs`` [N]), which all have labels."""
        return self._extents[0][np.searchsorted(self._models, models)] + epochs


def with_columns(table: "pa.Table", columns: Sequence[str] | None) -> "pa.Table":
    """The table with these columns, in this order; all if None. Raises StorageUsageError: no such column."""
    if columns is None:
        return table
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        if name not in table.column_names:
            close = difflib.get_close_matches(name, table.column_names, 1)
            offer = f"did you mean {close[0]}?" if close else f"there are {', '.join(table.column_names)}"
            raise StorageUsageError(f"no label column {name!r}; {offer}")
    return table.select(names)
