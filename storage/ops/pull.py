"""Makes a local copy of a published zoo, or of a part of it, which can be read without a network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..canonical import sha256_hex
from ..errors import EpochNotPresent, StorageError
from ..formats.blocks import Digests, read_blocks, write_blocks
from ..formats.compression import decode_shard
from ..formats.labels import Column
from ..formats.manifest import Manifest, TableEntry
from ..formats.shards import ShardEntry, group_rows, to_ranges
from ..formats.splits import SPLITS
from ..formats.tables import decode_table, encode_table, table_values, values_digest
from ..formats.tensors import tensor_name
from ..keys import copy_key
from ..publish.cards import CITATION, RECORD, carried_files, checksums
from ..publish.head import check_copy, read_current, require_publishing, seal_manifest
from ..publish.papers import citation_files, credits_of
from ..publish.shards import write_shard
from ..read.selection import Selector
from ..stores.objects import ObjectRef, get_object, put_object
from ..stores.protocol import ObjectStore
from ..zoo import Zoo


@dataclass(frozen=True, slots=True)
class Pulled:
    """The version that the target has now. ``num_read`` objects came over the network; the others existed."""

    manifest: Manifest
    number: int
    num_read: int


def pull(
    zoo: Zoo,
    target: ObjectStore,
    *,
    epochs: Selector = None,
    models: Selector = None,
    split: str | None = None,
    where: str | None = None,
) -> Pulled:
    """Copy the selected states of ``zoo`` to ``target``, every byte checked. Pulling again continues where it ended.

    A whole zoo keeps its manifest, byte for byte. A part of one has its own: the same shards with fewer rows, and the
    labels of the models that are in it.

    Raises:
        EpochNotPresent and others of ``Zoo.weights``: no state matches, or a selected state does not exist.
        StorageUsageError: the target has another run of this name, or states that the copy would not hold; nothing
            was written.
    """
    wanted = {epoch: here for epoch, here in zoo.wanted(epochs, models, split, where).items() if here}
    chosen = sorted({model for here in wanted.values() for model in here})
    if not chosen:
        raise EpochNotPresent(f"zoo {zoo.name!r}: no state matches the selection")
    num_read = 0
    for attempt in range(64):
        head, current = read_current(target, zoo.name)
        check_copy(target, zoo.manifest, wanted, chosen, current, "pull into another folder")
        if attempt == 0:
            require_publishing(target)
        puller = _Puller(zoo, target, () if current is None else current.refs)
        manifest = puller.write(wanted, chosen)
        num_read += puller.num_read
        if head is not None and head.manifest_sha256 == sha256_hex(manifest.to_json()):
            return Pulled(manifest, head.number, num_read)
        number = seal_manifest(target, head, current, manifest, partial(_write_copies, zoo, target, manifest))
        if number is not None:
            return Pulled(manifest, number, num_read)
    raise StorageError(f"{target.url}: others write to zoo {zoo.name!r} too; try again")


def _write_copies(zoo: Zoo, target: ObjectStore, manifest: Manifest, number: int) -> None:
    copies = carried_files(zoo.store, zoo.name, zoo.version)
    citation = carried_files(zoo.store, zoo.name, zoo.version, (CITATION, RECORD))
    if manifest != zoo.manifest and RECORD in citation:  # a citation names its manifest, and a part has its own
        citation = citation_files(manifest, credits_of(citation[RECORD]), number)
    copies |= citation
    copies["SHA256SUMS"] = checksums(manifest, copies).encode()
    for name, data in copies.items():
        target.put(copy_key(manifest.zoo, number, name), data)


class _Puller:
    """Writes the objects of a copy.

    Args:
        named: objects that the target's HEAD names: no collection deletes them, so they need not be written again.
    """

    def __init__(self, zoo: Zoo, target: ObjectStore, named: Iterable[ObjectRef]) -> None:
        self.zoo, self.source, self.target, self.owner = zoo, zoo.store, target, f"zoo {zoo.name!r}"
        self.named = set(named)
        self.num_read = 0
        self.digests: dict[str, Digests] = {}  # digests of blocks of the shards that were reduced

    def write(self, wanted: Mapping[int, Sequence[int]], chosen: Sequence[int]) -> Manifest:
        """Write every object of the copy.

        Args:
            wanted: epoch to the ascending models whose states are copied.
            chosen: all of these models, ascending.
        """
        source = self.zoo.manifest
        kept = {epoch: set(here) for epoch, here in wanted.items()}
        shards = []
        for shard in source.shards:
            here = shard.models_by_epoch()
            rows = {e: [m for m in here[e] if m in kept[e]] for e in here if e in kept}
            rows = {e: models for e, models in rows.items() if models}
            if rows == here:
                self.copy(shard.ref)
                shards.append(shard)
            elif rows:
                shards.append(self.reduce(shard, rows, source))
        if list(chosen) == self.zoo.models and tuple(shards) == source.shards:
            for ref in (source.labels.ref, source.model_table.ref, source.blocks, source.images):
                if ref is not None:
                    self.copy(ref)
            return source
        if source.images is not None:
            self.copy(source.images)
        labels = self.table(source.labels, source.label_columns, chosen)
        table = self.table(source.model_table, source.model_columns, chosen)
        splits = self.zoo.model_table()
        split_of = dict(zip(splits["model"].to_pylist(), splits["split"].to_pylist(), strict=True))
        manifest = replace(
            source,
            models=to_ranges(chosen),
            num_states=sum(len(here) for here in wanted.values()),
            shards=tuple(shards),
            labels=labels,
            model_table=table,
            split_counts={name: sum(split_of[m] == name for m in chosen) for name in SPLITS},
            blocks=write_blocks(self.target, {**read_blocks(self.source, source), **self.digests}, shards),
        )
        manifest.check(self.owner)
        return manifest

    def copy(self, ref: ObjectRef) -> None:
        """Write an object, from the source unless the target has a good copy."""
        try:
            data = get_object(self.target, ref, self.owner)
        except StorageError:
            data = get_object(self.source, ref, self.owner)
            self.num_read += 1
        else:
            if ref in self.named:
                return
        # Existing objects are written, too, because a collection may be about to delete them.
        self.target.put(ref.key, data)

    def reduce(self, shard: ShardEntry, rows: dict[int, list[int]], manifest: Manifest) -> ShardEntry:
        """A shard with fewer rows, written to the target."""
        self.num_read += 1
        arrays = decode_shard(get_object(self.source, shard.ref, self.owner), shard.ref.key)
        here = shard.models_by_epoch()
        tensors: dict[str, Any] = {}
        for field in sorted(manifest.fields):
            for epoch, kept in sorted(rows.items()):
                positions = np.searchsorted(here[epoch], kept)
                tensors[tensor_name(epoch, field)] = arrays[tensor_name(epoch, field)][positions]
        listed, blocks = manifest.shard_shape != (1, 1), manifest.blocks is not None
        written = write_shard(self.target, tensors, manifest.compression, listed=listed, blocks=blocks)
        if written.digests is not None:
            self.digests[written.ref.sha256] = written.digests
        return ShardEntry(written.ref, shard.first_model, shard.first_epoch, group_rows(rows), written.tensors)

    def table(self, entry: TableEntry, columns: tuple[Column, ...], models: Sequence[int]) -> TableEntry:
        """A table with the rows of ``models`` only, written to the target."""
        data = get_object(self.source, entry.ref, self.owner)
        values = table_values(decode_table(data, entry.ref.key, columns), columns)
        rows = np.flatnonzero(np.isin(values["model"].data, models))
        kept = {name: column.take(rows) for name, column in values.items()}
        ref = put_object(self.target, encode_table(columns, kept), "parquet")
        return TableEntry(ref, len(rows), values_digest(columns, kept))
