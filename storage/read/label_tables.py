"""The two tables of a published zoo, read once when something asks for them, and checked against the manifest."""

from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import FormatError
from ..formats.labels import joined_columns, model_columns
from ..formats.manifest import Manifest, from_ranges
from ..formats.tables import decode_table
from ..stores.objects import get_object
from ..stores.protocol import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa


class LabelTables:
    """``labels``: a row per model and epoch; ``models``: a row per model."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest

    @cached_property
    def labels(self) -> "pa.Table":
        """Raises ObjectMissing, DigestMismatch, FormatError."""
        entry = self._manifest.labels
        data = get_object(self._store, entry.ref, f"zoo {self._manifest.zoo!r}, labels")
        table = decode_table(data, entry.ref.key, joined_columns(self._manifest.twin))
        if table.num_rows != entry.rows:
            raise FormatError(f"{entry.ref.key}: {table.num_rows} rows, the manifest says {entry.rows}")
        return table

    @cached_property
    def models(self) -> "pa.Table":
        """Raises as ``labels`` does."""
        entry = self._manifest.model_table
        data = get_object(self._store, entry.ref, f"zoo {self._manifest.zoo!r}, models")
        table = decode_table(data, entry.ref.key, model_columns())
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
