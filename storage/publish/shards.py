"""Builds canonical shards from parts and earlier shards. The bytes of a shard depend on its values alone."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..canonical import sha256_hex
from ..errors import FormatError, IncompleteRun
from ..formats.blocks import Digests, block_digests, digests_array
from ..formats.compression import Compression, decode_shard, encode_shard, packed_in
from ..formats.manifest import FieldEntry
from ..formats.shards import ShardEntry, TensorEntry, group_rows
from ..formats.tensors import encode_pieces, parse_header, parse_tensor_name, tensor_name
from ..stores.objects import ObjectRef, get_object, put_object, put_pieces
from ..stores.protocol import ObjectStore
from ..stores.threads import run_in_thread

MEMORY_BYTES = 512 * 2**20
NUM_READERS = 4

Block = tuple[int, int]  # (first model, first epoch)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows ``rows`` of the tensors of ``epoch`` in object ``ref`` are the states of ``models``."""

    ref: ObjectRef
    owner: str
    epoch: int
    models: NDArray[np.int64]
    rows: NDArray[np.int64]
    state_bytes: int
    whole: bool = False  # the object holds exactly this one state


@dataclass
class ShardPlan:
    """The pieces that fill each block; no two pieces give the same state."""

    shape: tuple[int, int]
    blocks: dict[Block, list[Piece]] = field(default_factory=dict)
    compression: Compression | None = None

    def add(self, piece: Piece) -> None:
        num_models, num_epochs = self.shape
        first_epoch = piece.epoch - piece.epoch % num_epochs
        starts = piece.models - piece.models % num_models
        for start in np.unique(starts):
            chosen = starts == start
            part = Piece(
                piece.ref,
                piece.owner,
                piece.epoch,
                piece.models[chosen],
                piece.rows[chosen],
                piece.state_bytes,
                piece.whole,
            )
            self.blocks.setdefault((int(start), first_epoch), []).append(part)

    def models_by_epoch(self, block: Block) -> dict[int, list[int]]:
        """Ascending models per epoch. Raises FormatError if a state comes twice."""
        by_epoch: dict[int, list[int]] = {}
        for piece in self.blocks[block]:
            by_epoch.setdefault(piece.epoch, []).extend(piece.models.tolist())
        for epoch, models in by_epoch.items():
            models.sort()
            if len(set(models)) != len(models):
                raise FormatError(f"epoch {epoch} of block {block}: a model comes from two objects")
        return dict(sorted(by_epoch.items()))


def build_shards(
    store: ObjectStore,
    plan: ShardPlan,
    reuse: Mapping[Block, ShardEntry],
    memory_bytes: int = MEMORY_BYTES,
) -> tuple[list[ShardEntry], dict[str, FieldEntry], dict[str, Digests]]:
    """Write the shards of the plan that do not exist yet.

    Args:
        reuse: shards of the current version; one that has the rows of the plan is taken as it is.
        memory_bytes: bound on the values held at once; exceeded only where one shard is larger.

    Returns:
        All entries by block, the fields of new shards, and the block digests of new shards by their SHA-256.
    """
    entries: dict[Block, ShardEntry] = {}
    todo: list[Block] = []
    for block in sorted(plan.blocks):
        old = reuse.get(block)
        if old is not None and old.rows == group_rows(plan.models_by_epoch(block)):
            entries[block] = old
        else:
            todo.append(block)
    fields: dict[str, FieldEntry] = {}
    digests: dict[str, Digests] = {}
    for group in _groups(plan, todo, memory_bytes):
        single = plan.blocks[group[0]][0] if len(group) == 1 and len(plan.blocks[group[0]]) == 1 else None
        if single is not None and single.whole and plan.shape == (1, 1) and fields:
            entries[group[0]] = _entry(group[0], single.ref, plan.models_by_epoch(group[0]), {})
            continue
        for block, tensors in _fill(store, plan, group).items():
            _agree(fields, tensors, block)
            ordered = {name: tensors[name] for name in _order(tensors)}
            written = write_shard(store, ordered, plan.compression, listed=plan.shape != (1, 1))
            entries[block] = _entry(block, written.ref, plan.models_by_epoch(block), written.tensors)
            if written.digests is not None:
                digests[written.ref.sha256] = written.digests
    return [entries[block] for block in sorted(entries)], fields, digests


@dataclass(frozen=True, slots=True)
class Written:
    """A shard that was put: its tensors as a manifest lists them, and the digests of its blocks if they are listed."""

    ref: ObjectRef
    tensors: dict[str, TensorEntry]
    digests: Digests | None = None


def write_shard(
    store: ObjectStore,
    tensors: Mapping[str, NDArray[Any]],
    compression: Compression | None = None,
    *,
    listed: bool = True,
    blocks: bool = True,
) -> Written:
    """Put a shard of ``tensors``, which are in their order.

    Args:
        listed: whether a manifest lists its tensors, as it does unless shards hold one state.
        blocks: whether a tensor's digest is that over the digests of its blocks; ignored for a compressed shard.
    """
    if compression is not None or not (listed and blocks):
        data = encode_shard(tensors, compression)
        ref = put_object(store, data, "safetensors")
        return Written(ref, tensor_entries(data, ref) if listed else {})
    pieces = encode_pieces(tensors)
    # Blocks are hashed while the whole object is hashed and written.
    hashing = run_in_thread(lambda: [block_digests(piece) for piece in pieces[1:]])
    ref = put_pieces(store, pieces, "safetensors")
    by_tensor = hashing()
    infos = parse_header(pieces[0], ref.bytes, ref.key).tensors.values()
    entries = {
        info.name: TensorEntry(info.start, info.stop, sha256_hex(own))
        for info, own in zip(infos, by_tensor, strict=True)
    }
    return Written(ref, entries, digests_array(by_tensor))


def _entry(
    block: Block, ref: ObjectRef, models_by_epoch: dict[int, list[int]], tensors: dict[str, TensorEntry]
) -> ShardEntry:
    return ShardEntry(ref, block[0], block[1], group_rows(models_by_epoch), tensors)


def _groups(plan: ShardPlan, todo: Iterable[Block], memory_bytes: int) -> Iterator[list[Block]]:
    """Blocks that are filled together: blocks of one range of epochs read the same objects."""
    group: list[Block] = []
    size = 0
    alone = plan.shape == (1, 1)
    for block in sorted(todo, key=lambda b: (b[1], b[0])):
        bytes_here = sum(piece.state_bytes * len(piece.models) for piece in plan.blocks[block])
        if group and (alone or size + bytes_here > memory_bytes or block[1] != group[0][1]):
            yield group
            group, size = [], 0
        group.append(block)
        size += bytes_here
    if group:
        yield group


def _fill(store: ObjectStore, plan: ShardPlan, group: list[Block]) -> dict[Block, dict[str, NDArray[Any]]]:
    rows_of = {
        block: {
            epoch: {model: row for row, model in enumerate(models)}
            for epoch, models in plan.models_by_epoch(block).items()
        }
        for block in group
    }
    by_object: dict[ObjectRef, list[tuple[Block, Piece]]] = {}
    for block in group:
        for piece in plan.blocks[block]:
            by_object.setdefault(piece.ref, []).append((block, piece))
    filled: dict[Block, dict[str, NDArray[Any]]] = {block: {} for block in group}
    counts: dict[tuple[Block, str], int] = {}
    lock = threading.Lock()

    def take(item: tuple[ObjectRef, list[tuple[Block, Piece]]]) -> None:
        ref, uses = item
        arrays = decode_shard(get_object(store, ref, uses[0][1].owner), ref.key)
        by_epoch: dict[int, list[tuple[str, NDArray[Any]]]] = {}
        for name, array in arrays.items():
            by_epoch.setdefault(parse_tensor_name(name)[0], []).append((name, array))
        for block, piece in uses:
            rows = rows_of[block][piece.epoch]
            positions = [rows[model] for model in piece.models.tolist()]
            for name, array in by_epoch.get(piece.epoch, ()):
                with lock:
                    target = filled[block].get(name)
                    if target is None:
                        target = filled[block][name] = np.empty((len(rows), *array.shape[1:]), array.dtype)
                    counts[block, name] = counts.get((block, name), 0) + len(positions)
                if target.shape[1:] != array.shape[1:] or target.dtype != array.dtype:
                    raise FormatError(f"{ref.key}: tensor {name} has shape {array.shape}, others {target.shape}")
                target[positions] = array[piece.rows]

    with ThreadPoolExecutor(NUM_READERS) as pool:
        for _ in pool.map(take, by_object.items()):
            pass
    for block in group:
        for name, array in filled[block].items():
            if counts[block, name] != len(array):
                raise IncompleteRun(f"block {block}: tensor {name} is there for {counts[block, name]} of {len(array)}")
        for epoch in rows_of[block]:
            if tensor_name(epoch) not in filled[block]:
                raise FormatError(f"block {block}: no object holds weights of epoch {epoch}, as records say")
    return filled


def _order(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """Names ordered by field, then epoch, so that a slice of epochs is one range of bytes."""
    parsed = {name: parse_tensor_name(name) for name in tensors}
    return sorted(tensors, key=lambda name: (parsed[name][1], parsed[name][0]))


def _agree(fields: dict[str, FieldEntry], tensors: Mapping[str, NDArray[Any]], block: Block) -> None:
    codes = {"<f4": "F32", "<i8": "I64", "|u1": "U8", "<f8": "F64"}
    for name, array in tensors.items():
        _, field_name = parse_tensor_name(name)
        values = int(np.prod(array.shape[1:], dtype=np.int64))
        entry = FieldEntry(codes.get(array.dtype.newbyteorder("<").str, array.dtype.str), values)
        if fields.setdefault(field_name, entry) != entry:
            raise FormatError(f"block {block}: tensor {name} is {entry}, others are {fields[field_name]}")


def tensor_entries(data: memoryview, ref: ObjectRef) -> dict[str, TensorEntry]:
    """The tensors of the shard with bytes ``data``, as a manifest without block digests lists them."""
    infos, packed = parse_header(data, len(data), ref.key).tensors, packed_in(data, ref.key)
    entries = {}
    for name, info in infos.items():
        sha256 = sha256_hex(data[info.start : info.stop])
        chained = (packed[name].base, packed[name].values_sha256) if packed else ()
        entries[name] = TensorEntry(info.start, info.stop, sha256, *chained)
    return entries
