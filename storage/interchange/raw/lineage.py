"""Find the parents of the sparsified models of a tree, in a zoo of the same store."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import FormatError, StorageUsageError
from ...formats.manifest import Manifest, Parent
from ...formats.tables import decode_table
from ...publish.description import ZooDescription
from ...publish.head import read_manifest_bytes
from ...stores.objects import get_object
from ...stores.protocol import ObjectStore
from .format import source_of
from .tree import RawTree


@dataclass(frozen=True)
class Lineage:
    """The manifest of the parents, the epoch at which they were sparsified, and the columns of lineage by model."""

    parent: Manifest
    epoch: int
    rows: Mapping[int, Mapping[str, Any]]

    @classmethod
    def of(cls, store: ObjectStore, parent: str, tree: RawTree, models: Mapping[int, Any]) -> "Lineage":
        """Find the lineage of ``models`` of the tree by the paths in their configs.

        Raises:
            NotPublished: there is no zoo ``parent``.
            StorageUsageError: a model names no parent or one that the zoo lacks, or epochs of parents differ.
        """
        number, data = read_manifest_bytes(store, parent)
        manifest = Manifest.from_json(data, f"zoo {parent!r}, version {number}")
        table = get_object(store, manifest.model_table.ref, f"zoo {parent!r}")
        above = {row["model"]: row for row in decode_table(table, parent, manifest.model_columns).to_pylist()}
        rows = {}
        epochs = set()
        for index in models:
            try:
                model, epoch = source_of(tree.models[index].config)
            except FormatError as error:
                raise StorageUsageError(f"{tree.models[index].folder}: {error}; leave --parent out") from None
            if model not in above:
                raise StorageUsageError(
                    f"{tree.models[index].folder}: its source is model {model}, which zoo {parent!r} lacks"
                )
            epochs.add(epoch)
            root = model if manifest.parent is None else above[model]["parent_model"]
            rows[index] = {"parent_zoo": parent, "parent_model": model, "parent_epoch": epoch, "root_model": root}
            rows[index]["split"] = above[model]["split"]  # used only if splits were recorded
        if len(epochs) > 1:
            raise StorageUsageError(f"{tree.root}: its models come from epochs {sorted(epochs)}, expected one")
        return cls(manifest, epochs.pop(), rows)

    def apply(self, description: ZooDescription) -> ZooDescription:
        """The description with the columns of lineage. Its models get the splits of their root models."""
        return replace(
            description,
            rows={index: {**row, **self.rows[index]} for index, row in description.rows.items()},
            parent=Parent(self.parent.zoo, self.parent.run, self.epoch),
            root_zoo=self.parent.root_zoo,
            num_root_models=self.parent.planned_models,
            split=self.parent.split,
        )
