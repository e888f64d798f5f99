"""Lists the zoos of a store, and the objects of one zoo."""

from dataclasses import dataclass
from typing import Any

from ..formats.manifest import Manifest
from ..formats.shards import from_ranges
from ..publish.head import list_zoos, read_head, read_manifest_bytes, read_spec
from ..quantities import human_bytes
from ..stores.open import require_existing
from ..stores.protocol import ObjectStore


@dataclass(frozen=True, slots=True)
class ZooLine:
    """One zoo of a store; ``manifest`` is None if no version is published."""

    name: str
    run: str | None
    number: int | None
    manifest: Manifest | None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"zoo": self.name, "run": self.run, "version": self.number}
        if self.manifest is not None:
            refs = self.manifest.refs
            value.update(
                dataset=self.manifest.dataset,
                architecture=self.manifest.architecture["name"],
                num_models=self.manifest.num_models,
                planned_models=self.manifest.planned_models,
                num_epochs=self.manifest.num_epochs,
                planned_epochs=self.manifest.planned_epochs,
                num_states=self.manifest.num_states,
                num_objects=len(refs),
                bytes=sum(ref.bytes for ref in refs),
            )
        return value

    def line(self) -> str:
        if self.manifest is None:
            return f"{self.name:<34} not published"
        refs = self.manifest.refs
        size = human_bytes(sum(ref.bytes for ref in refs))
        return (
            f"{self.name:<34} version {self.number}: {self.manifest.describe()}, "
            f"{self.manifest.num_states:,} states, {len(refs):,} objects, {size}"
        )


def list_store(store: ObjectStore) -> list[ZooLine]:
    """All zoos, by name. Raises StoreURLError if there is no store."""
    require_existing(store)
    lines = []
    for name in list_zoos(store):
        head = read_head(store, name)
        spec = read_spec(store, name)
        manifest = None
        if head is not None:
            number, data = read_manifest_bytes(store, name, head.number)
            manifest = Manifest.from_json(data, f"zoo {name!r}, version {number}")
        run = manifest.run if manifest is not None else str(spec.content.get("run", "")) or None if spec else None
        lines.append(ZooLine(name, run, head.number if head is not None else None, manifest))
    return lines


def list_objects(store: ObjectStore, zoo: str) -> list[dict[str, Any]]:
    """Objects of the current version: key, bytes, and a description of the content."""
    number, data = read_manifest_bytes(store, zoo)
    manifest = Manifest.from_json(data, f"zoo {zoo!r}, version {number}")
    objects = []
    for shard in manifest.shards:
        models = sorted({m for _, ranges in shard.rows for m in from_ranges(ranges)})
        epochs = sorted(shard.models_by_epoch())
        what = f"models {models[0]} to {models[-1]}, epochs {epochs[0]} to {epochs[-1]}"
        objects.append({"key": shard.ref.key, "bytes": shard.ref.bytes, "what": what})
    for entry, what in ((manifest.labels, "labels"), (manifest.model_table, "models")):
        objects.append({"key": entry.ref.key, "bytes": entry.ref.bytes, "what": f"{what}, {entry.rows:,} rows"})
    return objects
