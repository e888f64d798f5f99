"""`zoo store verify`: compares every object of a published version with its manifest."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from ..canonical import sha256_hex
from ..errors import DigestMismatch, FormatError, ObjectMissing
from ..formats.blocks import BlockTable, read_blocks, tensor_digest
from ..formats.compression import decode_shard, packed_tensors
from ..formats.images import check_images
from ..formats.labels import Column, Values, derive
from ..formats.manifest import DTYPES, Manifest
from ..formats.norms import weight_norms
from ..formats.shards import ShardEntry, from_ranges
from ..formats.splits import SPLITS, assign_splits
from ..formats.tables import decode_table, table_values, values_digest
from ..formats.tensors import decode, tensor_name
from ..keys import manifest_key
from ..publish.head import read_manifest_bytes
from ..stores.objects import ObjectRef, get_object
from ..stores.protocol import ObjectStore
from ..zoo import Zoo

NUM_READERS = 4


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference from the manifest. ``name`` is the key of the object, or the name of a file."""

    name: str
    what: str

    def __str__(self) -> str:
        return self.what if self.name in self.what else f"{self.name}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The amount that was read, and every problem."""

    zoo: str
    version: int
    num_objects: int
    num_bytes: int
    num_states: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_zoo(zoo: Zoo, shards: Sequence[ShardEntry] | None = None) -> Verification:
    """Read every object that the manifest names and check digests, shapes, rows, finiteness and splits.

    Args:
        shards: the shards to read, besides the tables; None: all shards.
    """
    manifest, store = zoo.manifest, zoo.store
    chosen = manifest.shards if shards is None else shards
    problems: list[Problem] = []
    tables = _tables(store, manifest, problems)
    faulty = _faulty_epochs(tables)
    norms = None if tables is None or "weight_norm" not in tables[0] else tables[0]
    if tables is not None:
        problems += _check_labels(manifest, *tables)
    problems += _check_blocks(store, manifest)
    problems += _check_images(store, manifest)
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for shard_problems in pool.map(lambda shard: _check_shard(store, manifest, shard, faulty, norms), chosen):
            problems += shard_problems
    return Verification(
        zoo=manifest.zoo,
        version=zoo.version,
        num_objects=len(manifest.refs) - len(manifest.shards) + len(chosen),
        num_bytes=sum(ref.bytes for ref in manifest.refs) - _num_bytes(manifest.shards) + _num_bytes(chosen),
        num_states=sum(len(models) for shard in chosen for models in shard.models_by_epoch().values()),
        problems=tuple(problems),
    )


def added_shards(zoo: Zoo, max_bytes: int) -> list[ShardEntry]:
    """The shards that the previous version did not have. If they exceed ``max_bytes`` together, a sample of them.

    The sample is at most ``max_bytes`` large, but has at least one shard. It takes shards in the order of their
    digests, which does not depend on models or epochs.
    """
    known: set[str] = set()
    if zoo.version > 1:
        _, data = read_manifest_bytes(zoo.store, zoo.manifest.zoo, zoo.version - 1)
        before = Manifest.from_json(data, manifest_key(zoo.manifest.zoo, zoo.version - 1))
        known = {shard.ref.key for shard in before.shards}
    new = sorted((s for s in zoo.manifest.shards if s.ref.key not in known), key=lambda shard: shard.ref.sha256)
    ends = accumulate(shard.ref.bytes for shard in new)
    return [shard for shard, end in zip(new, ends, strict=True) if end <= max_bytes] or new[:1]


def _num_bytes(shards: Sequence[ShardEntry]) -> int:
    return sum(shard.ref.bytes for shard in shards)


Tables = tuple[dict[str, Values], dict[str, Values]]


def _tables(store: ObjectStore, manifest: Manifest, problems: list[Problem]) -> Tables | None:
    tables = []
    for entry, columns in (
        (manifest.labels, manifest.label_columns),
        (manifest.model_table, manifest.model_columns),
    ):
        try:
            values = _table(store, manifest, entry.ref, columns)
        except (ObjectMissing, DigestMismatch, FormatError) as error:
            problems.append(Problem(entry.ref.key, str(error)))
            continue
        num_rows = len(values[columns[0].name].data)
        if num_rows != entry.rows:
            problems.append(Problem(entry.ref.key, f"has {num_rows} rows, the manifest says {entry.rows}"))
        elif values_digest(columns, values) != entry.values_sha256:
            problems.append(Problem(entry.ref.key, "its values have another digest than the manifest says"))
        else:
            tables.append(values)
    return (tables[0], tables[1]) if len(tables) == 2 else None


def _table(store: ObjectStore, manifest: Manifest, ref: ObjectRef, columns: tuple[Column, ...]) -> dict[str, Values]:
    data = get_object(store, ref, f"zoo {manifest.zoo!r}")
    return table_values(decode_table(data, ref.key, columns), columns)


def _faulty_epochs(tables: Tables | None) -> dict[int, int] | None:
    """The first faulty epoch of each model that has one; None if the tables cannot be read."""
    if tables is None:
        return None
    models = tables[1]
    column = models["faulty_epoch"]
    valid = np.ones(len(column.data), np.bool_) if column.valid is None else column.valid
    return dict(zip(models["model"].data[valid].tolist(), column.data[valid].tolist(), strict=True))


def _check_labels(manifest: Manifest, labels: dict[str, Values], models: dict[str, Values]) -> Iterator[Problem]:
    key, model_key = manifest.labels.ref.key, manifest.model_table.ref.key
    indices = models["model"].data
    if indices.tolist() != from_ranges(manifest.models):
        yield Problem(model_key, "names other models than the manifest")
        return
    counts = models["num_epochs"].data.astype(np.int64) + 1
    starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
    if not np.array_equal(labels["model"].data, np.repeat(indices, counts)) or not np.array_equal(
        labels["epoch"].data, np.arange(counts.sum()) - np.repeat(starts, counts)
    ):
        yield Problem(key, "does not have one row per model and epoch, in order")
        return
    derived = derive(labels)
    columns = [column for column in manifest.label_columns if column.name in derived]
    stored = {column.name: labels[column.name] for column in columns}
    if values_digest(columns, derived) != values_digest(columns, stored):
        yield Problem(key, "accuracies do not follow from its counts")
    for split in SPLITS:
        for name, total in (("class_correct", "correct"), ("class_predicted", "count")):
            listed = labels.get(f"{split}_{name}")
            if listed is not None and not _sums_agree(listed, labels[f"{split}_{total}"]):
                yield Problem(key, f"column {split}_{name} does not add up to {split}_{total}")
    repeat = np.repeat(np.arange(len(indices)), counts)
    for name in ("row_digest", "seed", "split"):
        if not np.array_equal(labels[name].data, models[name].data[repeat]):
            yield Problem(key, f"column {name} is not that of the models")
    yield from _check_splits(manifest, models)


def _sums_agree(listed: Values, total: Values) -> bool:
    one, other = (np.ones(len(v.data), np.bool_) if v.valid is None else v.valid for v in (listed, total))
    return np.array_equal(one, other) and np.array_equal(listed.data.sum(axis=1)[one], total.data[one])


def _check_splits(manifest: Manifest, models: dict[str, Values]) -> Iterator[Problem]:
    key = manifest.model_table.ref.key
    splits = models["split"].data.tolist()
    counts = {name: splits.count(name) for name in manifest.split_counts}
    if counts != manifest.split_counts or sum(counts.values()) != len(splits):
        yield Problem(key, f"splits count {counts}, the manifest says {manifest.split_counts}")
    rule = manifest.split
    parents = models["parent_model"]
    roots = models["model"].data
    descends = manifest.parent is not None or manifest.root_zoo != manifest.zoo
    if manifest.task is not None:  # a model has the split of its image
        roots = models["image"].data
    elif descends and parents.valid is None:
        if set(models["parent_zoo"].data.tolist()) != {manifest.root_zoo}:
            return  # only the specs of the parents know the roots
        roots = parents.data
    if rule.kind == "recorded" or rule.group is not None or (rule.kind == "reference" and descends):
        return  # only the spec of the root knows the groups, and how many models it has
    expected = assign_splits(rule, manifest.root_zoo, roots.tolist(), {}, manifest.planned_models)
    for model, split, wanted in zip(models["model"].data.tolist(), splits, expected, strict=True):
        if split != wanted:
            yield Problem(key, f"model {model} is in split {split}, the rule says {wanted}")
            return


def _check_blocks(store: ObjectStore, manifest: Manifest) -> Iterator[Problem]:
    if manifest.blocks is None:
        return
    key = manifest.blocks.key
    try:
        table = BlockTable(read_blocks(store, manifest), manifest.shards, key)
    except (ObjectMissing, DigestMismatch, FormatError) as error:
        yield Problem(key, str(error))
        return
    for shard in manifest.shards:
        for name, entry in shard.tensors.items():
            if sha256_hex(table.of_tensor(shard, entry.start)) != entry.sha256:
                yield Problem(key, f"digests of the blocks of tensor {name} of {shard.ref.key} are not its own")


def _check_images(store: ObjectStore, manifest: Manifest) -> Iterator[Problem]:
    if manifest.images is None:
        return
    try:
        check_images(get_object(store, manifest.images, f"zoo {manifest.zoo!r}, images"), manifest.images.key)
    except (ObjectMissing, DigestMismatch, FormatError) as error:
        yield Problem(manifest.images.key, str(error))


def _check_shard(
    store: ObjectStore,
    manifest: Manifest,
    shard: ShardEntry,
    faulty: dict[int, int] | None,
    labels: dict[str, Values] | None,
) -> list[Problem]:
    """Problems of one shard. Norms in ``labels`` are compared with those of its weights; None: there are no norms."""
    key = shard.ref.key
    try:
        data = get_object(store, shard.ref, f"zoo {manifest.zoo!r}")
        _, provenance = decode(data, key)
        packed = packed_tensors(provenance, key)
        arrays = decode_shard(data, key)
    except (ObjectMissing, DigestMismatch, FormatError) as error:
        return [Problem(key, str(error))]
    problems = []
    if provenance is not None and packed is None:
        problems.append(Problem(key, "holds more than values"))
    if (None if packed is None else packed[0]) != manifest.compression:
        problems.append(Problem(key, "is compressed in another way than the manifest says"))
    by_epoch = shard.models_by_epoch()
    expected: dict[str, tuple[Any, tuple[int, int]]] = {
        tensor_name(epoch, field): (np.dtype(DTYPES[entry.dtype]), (len(models), entry.values))
        for epoch, models in by_epoch.items()
        for field, entry in manifest.fields.items()
    }
    if set(arrays) != set(expected):
        odd = sorted(set(arrays) ^ set(expected))[0]
        problems.append(Problem(key, f"tensor {odd} is {'missing' if odd in expected else 'not in the manifest'}"))
    view = memoryview(data)
    for name, (dtype, shape) in expected.items():
        array = arrays.get(name)
        if array is not None and (array.dtype != dtype or array.shape != shape):
            problems.append(Problem(key, f"tensor {name} is {array.dtype} {array.shape}, expected {dtype} {shape}"))
        entry = shard.tensors.get(name)
        if entry is not None and tensor_digest(view[entry.start : entry.stop], manifest) != entry.sha256:
            problems.append(Problem(key, f"tensor {name} does not lie where the manifest says"))
        elif entry is not None and packed is not None and name in packed[1]:
            said = packed[1][name]
            if (said.base, said.values_sha256) != (entry.base, entry.values_sha256):
                problems.append(Problem(key, f"tensor {name} is another one than the manifest says"))
    if not problems and faulty is not None:
        problems += _check_finite(key, arrays, by_epoch, faulty)
    if not problems and labels is not None:
        problems += _check_norms(key, arrays, by_epoch, labels)
    return problems


def _check_norms(
    key: str, arrays: dict[str, Any], by_epoch: dict[int, list[int]], labels: dict[str, Values]
) -> Iterator[Problem]:
    models = labels["model"].data
    for epoch, here in by_epoch.items():
        rows = np.searchsorted(models, here) + epoch  # every model has a row per epoch from 0 on
        for name, measured in zip(
            ("weight_norm", "max_abs_weight"), weight_norms(arrays[tensor_name(epoch)]), strict=True
        ):
            stored = labels[name].take(rows)
            wrong = np.where(np.isfinite(measured), measured, 0) != stored.data
            if wrong.any():
                yield Problem(key, f"{name} of model {here[int(np.argmax(wrong))]} at epoch {epoch} is not its label")


def _check_finite(
    key: str, arrays: dict[str, Any], by_epoch: dict[int, list[int]], faulty: dict[int, int]
) -> Iterator[Problem]:
    for epoch, models in by_epoch.items():
        finite = np.isfinite(arrays[tensor_name(epoch)]).all(axis=1)
        for row, model in enumerate(models):
            labelled = faulty.get(model, epoch + 1) <= epoch
            if finite[row] == labelled:
                state = "finite" if finite[row] else "not finite"
                says = "faulty" if labelled else "not faulty"
                yield Problem(key, f"model {model} at epoch {epoch} is {state}, its labels say {says}")
