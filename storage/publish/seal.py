"""Seals a version of a zoo: writes shards, tables, manifest, copies and HEAD, in this order.

A version holds the request and all that the current version of the same run holds, so it never shrinks. It is a
function of spec and weights: a run without disturbances and a run with many publish the same manifest bytes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..canonical import sha256_hex
from ..errors import FormatError, IncompleteRun, ObjectMissing, StorageError
from ..formats.blocks import read_blocks, write_blocks
from ..formats.compression import Compression, CompressionName
from ..formats.labels import Values, model_columns, part_columns
from ..formats.manifest import DTYPES, FieldEntry, Manifest
from ..formats.record import PartRecord
from ..formats.shards import ShardEntry, shard_shape, to_ranges
from ..formats.tables import decode_part, decode_table, table_values
from ..keys import RecordKey
from ..runs.ledger import Ledger, read_ledger
from ..runs.run_files import read_pin
from ..stores.objects import ObjectRef, get_object, put_object
from ..stores.protocol import ObjectStore
from .cards import write_copies
from .description import ZooDescription
from .head import read_current, read_head, require_publishing, seal_manifest
from .shards import MEMORY_BYTES, Block, Piece, ShardPlan, build_shards
from .zoo_tables import Tables, later_names, write_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """Models (None: all that are committed) and last epoch (None: all epochs) that a version must hold."""

    models: Sequence[int] | None = None
    epochs: int | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A published version. ``new`` is false if the current version already had the same bytes."""

    zoo: str
    number: int
    new: bool
    manifest: Manifest
    manifest_sha256: str


def vectorize(
    store: ObjectStore,
    description: ZooDescription,
    run: str,
    request: Request | None = None,
    *,
    compression: CompressionName | None = None,
    images: memoryview | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Version:
    """Seal a version of the zoo from what ``run`` has committed.

    Args:
        compression: of the shards; None: what the description says, else what the current version has.
        images: the images that the models saw, from ``encode_images``; None: those of the current version, if any.

    Returns:
        The new version, or the current one if it holds the same.

    Raises:
        IncompleteRun: nothing is committed yet. ConflictingRecords, DigestMismatch, ObjectMissing.
    """
    ledger = read_ledger(store, run)
    asked = request or Request()
    named = compression or description.compression

    def build(base: Manifest | None) -> Manifest:
        base = base if base and base.run == run else None
        kept = None if base is None else base.compression
        chosen = kept if named is None else Compression.named(named)
        return _build(store, description, ledger, asked, base, chosen, images, memory_bytes)

    return seal(store, description, build)


def seal(store: ObjectStore, description: ZooDescription, build: Callable[[Manifest | None], Manifest]) -> Version:
    """Publish a version.

    Args:
        build: from the current version's manifest (None: there is none) makes the new one, and writes its objects. It
            is called again when others seal a version meanwhile, or a collection deletes an object.

    Raises:
        StoreRefused: the store's conditional writes are not atomic.
    """
    require_publishing(store)
    for _ in range(64):
        head, current = read_current(store, description.name)
        try:
            manifest = build(current)
        except ObjectMissing:
            if read_head(store, description.name) == head:
                raise
            continue  # parts were dropped, because others published what they held
        sha256 = sha256_hex(manifest.to_json())
        if head is not None and head.manifest_sha256 == sha256:
            return Version(description.name, head.number, False, manifest, sha256)
        number = seal_manifest(store, head, current, manifest, partial(write_copies, store, description, manifest))
        if number is not None:
            logger.info("version sealed", extra={"zoo": description.name, "version": number})
            return Version(description.name, number, True, manifest, sha256)
    raise StorageError(f"zoo {description.name!r}: others keep sealing versions; try again")


def _build(
    store: ObjectStore,
    description: ZooDescription,
    ledger: Ledger,
    request: Request,
    base: Manifest | None,
    compression: Compression | None,
    images: memoryview | None,
    memory_bytes: int,
) -> Manifest:
    base_lasts, base_labels = _base_labels(store, base)
    asked = ledger.models if request.models is None else request.models
    lasts = dict(base_lasts)
    for model in asked:
        done = ledger.num_epochs(model) - 1
        if request.epochs is not None:
            done = min(done, request.epochs)
        if done >= 0:
            lasts[model] = max(done, lasts.get(model, -1))
    if not lasts:
        parent = description.parent
        first = f"train {description.name}" if parent is None else f"sparsify {parent.zoo}"
        raise IncompleteRun(f"zoo {description.name!r}: nothing is committed yet; `zoo {first}` comes first")
    chosen = _records(ledger, lasts, base_lasts)
    parts = [] if base_labels is None else [base_labels]
    twin = base.twin if base is not None else False
    for record, models in chosen:
        twin = record.twin
        if not record.refill:
            parts.append(_part_labels(store, record, models, lasts, base_lasts))
    shape = shard_shape(description.shard_shape, description.layout.size, compression is not None)
    plan = ShardPlan(shape, compression=compression)
    reuse: dict[Block, ShardEntry] = {}
    present: dict[int, set[int]] = {}
    if base is not None:
        for shard in base.shards:
            if base.compression == compression and (base.blocks is not None or compression or not shard.tensors):
                reuse[shard.first_model, shard.first_epoch] = shard
            _add_shard(plan, base, shard, present)
    for record, models in chosen:
        _add_record(plan, record, models, lasts, present)
    shards, fields, digests = build_shards(store, plan, reuse, memory_bytes)
    known = read_blocks(store, base) if base is not None and reuse else {}
    blocks = write_blocks(store, {**known, **digests}, shards)
    fields = _fields(description, fields, base)
    tables = write_tables(store, description, parts, lasts)
    pictures = None if base is None else base.images
    if images is not None:
        pictures = put_object(store, images, "safetensors")
    data = _data(store, description, ledger.run)
    return assemble(description, ledger.run, lasts, shards, fields, tables, twin, compression, blocks, data, pictures)


def _data(store: ObjectStore, description: ZooDescription, run: str) -> dict[str, Any] | None:
    """The manifest's ``data``: the facts of the description, the digest of the images, and the counts by class."""
    pin = read_pin(store, run) or {}
    fixed = {"digest": pin.get("data"), "class_counts": pin.get("class_counts")}
    return None if description.data is None else {**description.data, **fixed}


def assemble(
    description: ZooDescription,
    run: str,
    lasts: Mapping[int, int],
    shards: Sequence[ShardEntry],
    fields: dict[str, FieldEntry],
    tables: Tables,
    twin: bool,
    compression: Compression | None = None,
    blocks: ObjectRef | None = None,
    data: dict[str, Any] | None = None,
    images: ObjectRef | None = None,
) -> Manifest:
    """The manifest of a version, whose objects are written.

    Args:
        lasts: model to its last epoch.
        data, images: as in ``Manifest``.
    """
    manifest = Manifest(
        zoo=description.name,
        run=run,
        title=description.title,
        source=description.source,
        dataset=description.dataset,
        architecture=description.architecture_json(),
        planned_models=description.num_models,
        planned_epochs=description.num_epochs,
        models=to_ranges(sorted(lasts)),
        num_epochs=max(lasts.values()),
        num_states=sum(len(models) for shard in shards for models in shard.models_by_epoch().values()),
        absent=tuple(sorted(description.absent.items())),
        root_zoo=description.root,
        parent=description.parent,
        layout=description.layout,
        noisy_layout=description.noisy_layout,
        layers={variant: list(layers) for variant, layers in description.layers.items()},
        state_dict_names={variant: dict(names) for variant, names in description.state_dict_names.items()},
        symmetries=description.symmetries,
        fields=fields,
        split=description.split,
        split_counts=tables.split_counts,
        shard_shape=shard_shape(description.shard_shape, description.layout.size, compression is not None),
        shards=tuple(shards),
        labels=tables.labels,
        model_table=tables.models,
        twin=twin,
        compression=compression,
        blocks=blocks,
        notes=tuple(description.notes),
        label_columns=tables.label_columns,
        model_columns=model_columns(later_names(description)),
        task=None if description.task is None else dict(description.task),
        data=data,
        images=images,
    )
    manifest.check(f"zoo {description.name!r}")
    return manifest


def _records(ledger: Ledger, lasts: dict[int, int], base_lasts: dict[int, int]) -> list[tuple[PartRecord, list[int]]]:
    """Records to read in addition to the current version, each with the models that it is read for."""
    wanted: dict[RecordKey, list[int]] = {}
    every = ledger.commit_every
    for model in sorted(lasts):
        first = base_lasts.get(model, -1) + 1
        for part in range(-(-first // every), ledger.next_part(model)):
            if part and (part - 1) * every + 1 > lasts[model]:
                break
            key = ledger.holder(model, part)
            if key is not None:
                wanted.setdefault(key, []).append(model)
        for key in ledger.refills(model):
            wanted.setdefault(key, []).append(model)
    keys = sorted(wanted, key=str)
    return [(record, wanted[key]) for key, record in zip(keys, ledger.records(keys), strict=True)]


def _part_labels(
    store: ObjectStore,
    record: PartRecord,
    models: list[int],
    lasts: dict[int, int],
    base_lasts: dict[int, int],
) -> dict[str, Values]:
    """Label rows of ``models`` that the version needs and the current one does not have."""
    values = decode_part(get_object(store, record.labels, str(record.key)), record.labels.key)
    size = max(record.members) + 1
    low, high = np.full(size, 0, np.int64), np.full(size, -1, np.int64)
    for model in models:
        low[model], high[model] = base_lasts.get(model, -1) + 1, lasts[model]
    model_of, epoch_of = values["model"].data, values["epoch"].data
    rows = np.flatnonzero((epoch_of >= low[model_of]) & (epoch_of <= high[model_of]))
    return {name: column.take(rows) for name, column in values.items()}


def _base_labels(store: ObjectStore, base: Manifest | None) -> tuple[dict[int, int], dict[str, Values] | None]:
    if base is None:
        return {}, None
    columns = part_columns([column.name for column in base.label_columns])
    data = get_object(store, base.labels.ref, f"zoo {base.zoo!r}")
    values = table_values(decode_table(data, base.labels.ref.key), columns)
    models, first = np.unique(values["model"].data[::-1], return_index=True)
    lasts = values["epoch"].data[::-1][first]
    return dict(zip(models.tolist(), lasts.tolist(), strict=True)), values


def _add_shard(plan: ShardPlan, base: Manifest, shard: ShardEntry, present: dict[int, set[int]]) -> None:
    size = sum(entry.values * np.dtype(DTYPES[entry.dtype]).itemsize for entry in base.fields.values())
    by_epoch = shard.models_by_epoch()
    num_states = sum(len(models) for models in by_epoch.values())
    for epoch, models in by_epoch.items():
        present.setdefault(epoch, set()).update(models)
        rows = np.arange(len(models))
        owner = f"shard of model {shard.first_model}, epoch {shard.first_epoch}"
        whole = num_states == 1 and base.compression is None
        plan.add(Piece(shard.ref, owner, epoch, np.array(models), rows, size, whole))


def _add_record(
    plan: ShardPlan, record: PartRecord, models: list[int], lasts: dict[int, int], present: dict[int, set[int]]
) -> None:
    if record.weights is None:
        return
    row_of = {model: row for row, model in enumerate(record.members)}
    num_states = len(record.members) * len(record.kept)
    for epoch in record.kept:
        there = present.setdefault(epoch, set())
        taken = [model for model in models if epoch <= lasts[model] and model not in there]
        if not taken:
            continue
        there.update(taken)
        rows = np.array([row_of[model] for model in taken])
        size = record.weights.bytes // num_states
        plan.add(Piece(record.weights, str(record.key), epoch, np.array(taken), rows, size, num_states == 1))


def _fields(description: ZooDescription, fields: dict[str, FieldEntry], base: Manifest | None) -> dict[str, FieldEntry]:
    if base is not None:
        if fields and fields != base.fields:
            raise FormatError(f"zoo {description.name!r}: states have fields {fields}, the version {base.fields}")
        return base.fields
    return fields or {"": FieldEntry("F32", description.layout.size)}
