"""A local copy of a published zoo, or of a part of it, that reads without a network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import EpochNotPresent, ObjectNotFound, StorageError
from ..formats.blocks import Digests, read_blocks, write_blocks
from ..formats.compression import decode_shard
from ..formats.labels import Column, joined_columns, model_columns
from ..formats.manifest import Manifest, ShardEntry, TableEntry, group_rows, to_ranges
from ..formats.splits import SPLITS
from ..formats.tables import decode_table, encode_table, table_values, values_digest
from ..formats.tensors import tensor_name
from ..keys import copy_key, manifest_key
from ..publish.cards import checksums
from ..publish.head import move_head, read_head
from ..publish.shards import write_shard
from ..read.selection import Selector
from ..stores.objects import ObjectRef, check_object, get_object, put_object
from ..stores.protocol import ObjectStore, get_or_none
from ..zoo import Zoo


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is in the target now; ``num_read`` objects came over the network, the others were there already."""

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
    progress: Callable[[int], None] | None = None,
) -> Pulled:
    """Copy the selected states of ``zoo`` to ``target``, every byte checked; running it again goes on.

    A whole zoo keeps its manifest, byte for byte. A part of one has its own: the same shards with fewer rows, and the
    labels of the models that are in it.

    Raises:
        EpochNotPresent and others of ``Zoo.weights``: nothing fits, or what was asked for is not there.
    """
    wanted = zoo.wanted(epochs, models, split, where)
    chosen = sorted({model for here in wanted.values() for model in here})
    if not chosen:
        raise EpochNotPresent(f"zoo {zoo.name!r}: no state fits what was asked for")
    reader = _Puller(zoo.store, target, f"zoo {zoo.name!r}")
    shards = []
    for shard in zoo.manifest.shards:
        here = shard.models_by_epoch()
        rows = {e: [m for m in here[e] if m in set(wanted.get(e, ()))] for e in here}
        rows = {e: kept for e, kept in rows.items() if kept}
        if not rows:
            continue
        shards.append(shard if rows == here and reader.copy(shard.ref) else reader.reduce(shard, rows, zoo.manifest))
        if progress is not None:
            progress(shards[-1].ref.bytes)
    manifest = zoo.manifest
    if chosen == zoo.models and tuple(shards) == manifest.shards:
        reader.copy(manifest.labels.ref)
        reader.copy(manifest.model_table.ref)
        if manifest.blocks is not None:
            reader.copy(manifest.blocks)
    else:
        labels = reader.table(manifest.labels, joined_columns(manifest.twin), chosen)
        table = reader.table(manifest.model_table, model_columns(), chosen)
        splits = zoo.model_table()
        of = dict(zip(splits["model"].to_pylist(), splits["split"].to_pylist(), strict=True))
        manifest = replace(
            manifest,
            models=to_ranges(chosen),
            num_states=sum(len(here) for here in wanted.values()),
            shards=tuple(shards),
            labels=labels,
            model_table=table,
            split_counts={name: sum(of[m] == name for m in chosen) for name in SPLITS},
            blocks=write_blocks(target, {**read_blocks(zoo.store, manifest), **reader.digests}, shards),
        )
    manifest.check(f"zoo {zoo.name!r}")
    return Pulled(manifest, _place(target, manifest), reader.num_read)


def _place(target: ObjectStore, manifest: Manifest) -> int:
    """Write manifest, checksums and HEAD; the version's number, which is the present one's if nothing changed."""
    data = manifest.to_json()
    for _ in range(64):
        head = read_head(target, manifest.zoo)
        number = 1 if head is None else head.number
        found = get_or_none(target, manifest_key(manifest.zoo, number))
        if head is not None and (found is None or found[0] != data):
            number += 1
        target.put(manifest_key(manifest.zoo, number), data)
        target.put(copy_key(manifest.zoo, number, "SHA256SUMS"), checksums(manifest, {}).encode())
        if move_head(target, manifest.zoo, number, data, head):
            return number
    raise StorageError(f"{target.url}: others write to zoo {manifest.zoo!r} too; try again")


class _Puller:
    def __init__(self, source: ObjectStore, target: ObjectStore, owner: str) -> None:
        self.source, self.target, self.owner = source, target, owner
        self.num_read = 0
        self.digests: dict[str, Digests] = {}  # of the blocks of what was reduced

    def copy(self, ref: ObjectRef) -> bool:
        """Bring an object over unless a good copy is there. Always true."""
        try:
            check_object(self.target.get(ref.key)[0], ref, self.owner)
        except (ObjectNotFound, StorageError):
            self.target.put(ref.key, get_object(self.source, ref, self.owner))
            self.num_read += 1
        return True

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

    def table(self, entry: TableEntry, columns: tuple[Column, ...], models: list[int]) -> TableEntry:
        """A table with the rows of ``models`` only, written to the target."""
        data = get_object(self.source, entry.ref, self.owner)
        values = table_values(decode_table(data, entry.ref.key, columns), columns)
        rows = np.flatnonzero(np.isin(values["model"].data, models))
        kept = {name: column.take(rows) for name, column in values.items()}
        ref = put_object(self.target, encode_table(columns, kept), "parquet")
        return TableEntry(ref, len(rows), values_digest(columns, kept))
