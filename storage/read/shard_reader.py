"""Tensors of shards, every byte checked: from a directory, by ranges of a remote store, or out of compressed shards.

``shard_reader`` chooses the class for a store and a manifest; a ``ShardReader`` knows how what is read is checked.
"""

import hashlib
import mmap
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DigestMismatch, FormatError, ObjectMissing, ObjectNotFound
from ..formats.blocks import BLOCK_BYTES, BlockTable, tensor_digest
from ..formats.compression import check_values, unpack
from ..formats.manifest import DTYPES, Manifest
from ..formats.shards import ShardEntry
from ..formats.tensors import TensorInfo, coalesce, decode, parse_tensor_name, tensor_name
from ..stores.cache import ContentCache, open_cache
from ..stores.objects import ObjectRef, get_object
from ..stores.protocol import ObjectStore

MAX_MAPS = 256
RECENT_BYTES = 32 * 2**20
WHOLE_BYTES = 128 * 2**20  # whole shards that are kept if a server ignores ranges
JOIN_BYTES = 4 * 2**20  # largest read that joins neighbouring compressed tensors

Tensors = Iterator[tuple[int, NDArray[Any]]]


def shard_reader(
    store: ObjectStore, manifest: Manifest, cache: str | None = None, cache_bytes: int | None = None
) -> "ShardReader":
    """The reader for the shards of ``manifest`` in ``store``.

    Args:
        cache: folder for what was read from a remote store; a directory is not cached.
        cache_bytes: limit on that folder.
    """
    if store.root is not None:
        return CompressedShards(store, manifest) if manifest.compression else DirectoryShards(store, manifest)
    kind = CompressedShards if manifest.compression else RemoteShards
    return kind(store, manifest, None if cache is None else open_cache(cache, cache_bytes))


class ShardReader(ABC):
    """Reads one field at one epoch of the shards that a manifest names. Safe between threads.

    Each byte is compared with a digest in the manifest: of the whole object where all of it is read, of the tensor or
    of the blocks around a row where only they are.
    """

    remote = True
    """True if a read waits for a network."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._owner = f"zoo {manifest.zoo!r}"

    @abstractmethod
    def row(self, shard: ShardEntry, field: str, epoch: int, row: int) -> NDArray[Any]:
        """One row [values] of a tensor, a copy. Raises as ``read`` does."""

    @abstractmethod
    def read(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Tensors:
        """(epoch, [rows, values]) for each of ``epochs``; an array is valid until the next one is requested.

        Raises ObjectMissing, DigestMismatch, FormatError.
        """

    def fill(self, shard: ShardEntry, field: str, epoch: int, out: NDArray[Any]) -> bool:
        """Read a whole tensor into ``out`` [rows, values]. False: this reader cannot; use ``read``."""
        return False

    def tensor_bytes(self, shard: ShardEntry, field: str, epoch: int) -> int:
        """Number of bytes that a read of the tensor fetches."""
        entry = shard.tensors.get(tensor_name(epoch, field))
        return shard.ref.bytes if entry is None else entry.stop - entry.start

    def needed_epochs(self, shard: ShardEntry, field: str, epoch: int) -> list[int]:
        """Epochs, ascending, whose tensors have to be read for that of ``epoch``: several in a compressed shard."""
        needed = [epoch]
        while (entry := shard.tensors.get(tensor_name(needed[-1], field))) is not None and entry.base is not None:
            needed.append(entry.base)
        return needed[::-1]

    def _object(self, ref: ObjectRef) -> bytes:
        return get_object(self._store, ref, self._owner)

    def _whole_object(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Tensors:
        """Like ``read``, for a shard of one state, whose tensors the manifest does not list."""
        described = self._manifest.fields[field]
        arrays, _ = decode(self._object(shard.ref), shard.ref.key)
        for epoch in epochs:
            name = tensor_name(epoch, field)
            array = arrays.get(name)
            if array is None or array.dtype != np.dtype(DTYPES[described.dtype]):
                raise FormatError(f"{shard.ref.key}: no tensor {name} of type {described.dtype}")
            if array.shape[1:] != (described.values,):
                raise FormatError(
                    f"{shard.ref.key}: tensor {name} has shape {array.shape}, not [., {described.values}]"
                )
            _check_rows(shard, name, len(array))
            yield epoch, array

    def _info(self, shard: ShardEntry, field: str, epoch: int) -> TensorInfo:
        """The place of a tensor in its shard. Raises FormatError unless its rows are those that the manifest names."""
        name = tensor_name(epoch, field)
        entry = shard.tensors[name]
        described = self._manifest.fields[field]
        dtype: np.dtype[Any] = np.dtype(DTYPES[described.dtype])
        row_bytes = dtype.itemsize * described.values
        rows, rest = divmod(entry.stop - entry.start, row_bytes) if row_bytes else (0, 0)
        if rest:
            raise FormatError(f"{shard.ref.key}: tensor {name} has no whole number of rows")
        _check_rows(shard, name, rows)
        return TensorInfo(name, dtype, (rows, described.values), entry.start, entry.stop)

    def _check_tensor(self, shard: ShardEntry, name: str, data: memoryview) -> None:
        expected = shard.tensors[name].sha256
        actual = tensor_digest(data, self._manifest)
        if actual != expected:
            raise self._mismatch(shard, f"tensor {name}", actual, expected)

    def _check_block(self, shard: ShardEntry, info: TensorInfo, block: int, data: memoryview) -> None:
        actual, expected = hashlib.sha256(data).digest(), self._block_table.digest(shard, info.start, block)
        if actual != expected:
            raise self._mismatch(shard, f"block {block} of tensor {info.name}", actual.hex(), expected.hex())

    @cached_property
    def _block_table(self) -> BlockTable:
        ref = self._manifest.blocks
        assert ref is not None
        return BlockTable(decode(self._object(ref), ref.key)[0], self._manifest.shards, ref.key)

    def _mismatch(self, shard: ShardEntry, what: str, actual: str, expected: str) -> DigestMismatch:
        return DigestMismatch(
            f"{self._owner}: {what} of object {shard.ref.key} has SHA-256 {actual[:12]}, the manifest says "
            f"{expected[:12]}; it changed after publication. `zoo store verify` names every bad object"
        )

    def _truncated(self, shard: ShardEntry, stop: int) -> DigestMismatch:
        return DigestMismatch(f"{self._owner}: object {shard.ref.key} ends before byte {stop}; it is truncated")

    def _missing(self, shard: ShardEntry) -> ObjectMissing:
        return ObjectMissing(f"{self._owner}: object {shard.ref.key} is not in {self._store.url}")


class DirectoryShards(ShardReader):
    """Shards of a directory, not compressed. Bytes whose digest was compared once are not hashed again."""

    remote = False

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        super().__init__(store, manifest)
        self._checked: set[tuple[str, int]] = set()
        """Blocks whose digest was compared: SHA-256 of the shard, first byte of the block in it."""
        self._maps: dict[str, memoryview] = {}
        """Mapped files by SHA-256. A row of a mapped file takes 25 us, of one that is opened for it 43 us."""

    def row(self, shard: ShardEntry, field: str, epoch: int, row: int) -> NDArray[Any]:
        if not shard.tensors:
            ((_, tensor),) = self._whole_object(shard, field, [epoch])
            return np.array(tensor[row])
        info = self._info(shard, field, epoch)
        row_bytes = info.dtype.itemsize * info.shape[1]
        start, stop = info.start + row * row_bytes, info.start + (row + 1) * row_bytes
        blocks = _blocks_of(info, start, stop)
        unchecked = [b for b in blocks if (shard.ref.sha256, info.start + b * BLOCK_BYTES) not in self._checked]
        if unchecked and self._manifest.blocks is None:
            ((_, tensor),) = self.read(shard, field, [epoch])
            return np.array(tensor[row])
        view = self._map(shard)
        for block in unchecked:
            begin = info.start + block * BLOCK_BYTES
            self._check_block(shard, info, block, view[begin : min(begin + BLOCK_BYTES, info.stop)])
            self._checked.add((shard.ref.sha256, begin))
        self._store.traffic.add(read=row_bytes, requests=0)
        return np.frombuffer(view, info.dtype, info.shape[1], start).copy()

    def read(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Tensors:
        if not shard.tensors:
            yield from self._whole_object(shard, field, epochs)
            return
        infos = [self._info(shard, field, epoch) for epoch in epochs]
        # One buffer for all epochs, so that a tensor is hashed and unpacked while it is in the processor's cache.
        buffer = np.empty(max((info.stop - info.start for info in infos), default=0), np.uint8).data
        with self._open(shard) as file:
            for epoch, info in zip(epochs, infos, strict=True):
                own = buffer[: info.stop - info.start]
                self._read_tensor(file, shard, info, own)
                yield epoch, info.array(own)

    def fill(self, shard: ShardEntry, field: str, epoch: int, out: NDArray[Any]) -> bool:
        if not shard.tensors:
            return False
        with self._open(shard) as file:
            self._read_tensor(file, shard, self._info(shard, field, epoch), out.reshape(-1).view(np.uint8).data)
        return True

    def _read_tensor(self, file: FileIO, shard: ShardEntry, info: TensorInfo, own: memoryview) -> None:
        self._read_into(file, shard, info.start, own)
        blocks = {(shard.ref.sha256, start) for start in range(info.start, info.stop, BLOCK_BYTES)}
        if not blocks <= self._checked:
            self._check_tensor(shard, info.name, own)
            self._checked |= blocks

    def _map(self, shard: ShardEntry) -> memoryview:
        view = self._maps.get(shard.ref.sha256)
        if view is None:
            with self._open(shard) as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if len(self._maps) >= MAX_MAPS:
                self._maps.clear()
            self._maps[shard.ref.sha256] = view
        return view

    def _open(self, shard: ShardEntry) -> FileIO:
        assert self._store.root is not None
        try:
            file = FileIO(self._store.root / shard.ref.key)
        except FileNotFoundError:
            raise self._missing(shard) from None
        size = file.seek(0, 2)
        if size != shard.ref.bytes:
            file.close()
            raise DigestMismatch(f"{self._owner}: object {shard.ref.key} has {size} bytes, expected {shard.ref.bytes}")
        return file

    def _read_into(self, file: FileIO, shard: ShardEntry, start: int, target: memoryview) -> None:
        file.seek(start)
        done = 0
        while done < len(target):
            count = file.readinto(target[done:])
            if not count:
                raise self._truncated(shard, start + len(target))
            done += count
        self._store.traffic.add(read=len(target), requests=0)


class RemoteShards(ShardReader):
    """Shards read by ranges: neighbouring tensors by one request, and kept on disk where there is a cache."""

    def __init__(self, store: ObjectStore, manifest: Manifest, cache: ContentCache | None = None) -> None:
        super().__init__(store, manifest)
        self._cache = cache
        self._read_once: set[tuple[str, str]] = set()
        self._recent = _RecentTensors(RECENT_BYTES)
        self._whole = _RecentTensors(WHOLE_BYTES)
        self._reading_whole = threading.Lock()

    def row(self, shard: ShardEntry, field: str, epoch: int, row: int) -> NDArray[Any]:
        name = (shard.ref.sha256, tensor_name(epoch, field))
        tensor = self._recent.get(name)
        if tensor is None:
            # A request costs more than its bytes, and a caller who reads a second row of a tensor is likely to read
            # all of them: the first row is read with the blocks around it, the second with the whole tensor.
            if self._manifest.blocks is not None and name not in self._read_once:
                self._read_once.add(name)
                return self._row_of_blocks(shard, self._info(shard, field, epoch), row)
            ((_, tensor),) = self.read(shard, field, [epoch])
            self._recent.put(name, tensor)
        return np.array(tensor[row])

    def read(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Tensors:
        if not shard.tensors:
            yield from self._whole_object(shard, field, epochs)
            return
        for group in coalesce(self._info(shard, field, epoch) for epoch in sorted(epochs)):
            start, stop = group[0].start, group[-1].stop
            view = memoryview(self._range(shard, start, stop))
            for info in group:
                own = view[info.start - start : info.stop - start]
                self._check_tensor(shard, info.name, own)
                yield parse_tensor_name(info.name)[0], info.array(own)

    def _row_of_blocks(self, shard: ShardEntry, info: TensorInfo, row: int) -> NDArray[Any]:
        row_bytes = info.dtype.itemsize * info.shape[1]
        start, stop = info.start + row * row_bytes, info.start + (row + 1) * row_bytes
        blocks = _blocks_of(info, start, stop)
        first = info.start + blocks[0] * BLOCK_BYTES
        view = memoryview(self._range(shard, first, min(info.start + (blocks[-1] + 1) * BLOCK_BYTES, info.stop)))
        for block in blocks:
            begin = info.start + block * BLOCK_BYTES - first
            self._check_block(shard, info, block, view[begin : begin + BLOCK_BYTES])
        return np.frombuffer(view, info.dtype, info.shape[1], start - first).copy()

    def _object(self, ref: ObjectRef) -> bytes:
        data = None if self._cache is None else self._cache.get(ref.sha256)
        if data is None:
            data = super()._object(ref)
            if self._cache is not None:
                self._cache.put(ref.sha256, data)
        return data

    def _range(self, shard: ShardEntry, start: int, stop: int) -> bytes:
        name = f"{shard.ref.sha256}-{start}-{stop}"
        data = None if self._cache is None else self._cache.get(name)
        if data is not None:
            return data
        if getattr(self._store, "ignores_ranges", False):  # each range would cost all bytes before its end
            return self._part_of_whole(shard, start, stop)
        try:
            data, _ = self._store.get(shard.ref.key, (start, stop))
        except ObjectNotFound:
            raise self._missing(shard) from None
        if len(data) != stop - start:
            raise self._truncated(shard, stop)
        if self._cache is not None:
            self._cache.put(name, data)
        return data

    def _part_of_whole(self, shard: ShardEntry, start: int, stop: int) -> bytes:
        """Bytes of a shard that is read whole. The last few shards are kept, so that each is read once."""
        name = (shard.ref.sha256, "")
        with self._reading_whole:
            whole = self._whole.get(name)
            if whole is None:
                whole = np.frombuffer(self._object(shard.ref), np.uint8)
                self._whole.put(name, whole)
        return whole[start:stop].tobytes()


class CompressedShards(RemoteShards):
    """Compressed shards of any store: the tensors of a chain of differences are read and unpacked in order."""

    def __init__(self, store: ObjectStore, manifest: Manifest, cache: ContentCache | None = None) -> None:
        super().__init__(store, manifest, cache)
        self.remote = store.root is None

    def read(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Tensors:
        wanted = set(epochs)
        needed = sorted({link for epoch in wanted for link in self.needed_epochs(shard, field, epoch)})
        described = self._manifest.fields[field]
        last: NDArray[Any] | None = None
        for epoch, data in self._packed(shard, field, needed):
            name = tensor_name(epoch, field)
            entry, what = shard.tensors[name], f"{self._owner}: tensor {name} of object {shard.ref.key}"
            rows = sum(stop - start for start, stop in shard.models_at(epoch))
            base = None if entry.base is None else last
            last = unpack(data, np.dtype(DTYPES[described.dtype]), (rows, described.values), base, what)
            if epoch in wanted:
                check_values(last, entry.values_sha256, what)
                yield epoch, last

    def _packed(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
        """Checked bytes of compressed tensors; neighbours are read together, up to ``JOIN_BYTES``."""
        groups: list[list[int]] = []
        for epoch in epochs:
            entry = shard.tensors[tensor_name(epoch, field)]
            if groups:
                first, last = (shard.tensors[tensor_name(e, field)] for e in (groups[-1][0], groups[-1][-1]))
                if last.stop == entry.start and entry.stop - first.start <= JOIN_BYTES:
                    groups[-1].append(epoch)
                    continue
            groups.append([epoch])
        for group in groups:
            places = [shard.tensors[tensor_name(epoch, field)] for epoch in group]
            start = places[0].start
            view = memoryview(self._range(shard, start, places[-1].stop))
            for epoch, place in zip(group, places, strict=True):
                own = view[place.start - start : place.stop - start]
                self._check_tensor(shard, tensor_name(epoch, field), own)
                yield epoch, own


class _RecentTensors:
    """The most recently used tensors, up to ``max_bytes``: several states of a tensor are often read in turn."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._tensors: OrderedDict[tuple[str, str], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: tuple[str, str]) -> NDArray[Any] | None:
        with self._lock:
            tensor = self._tensors.get(name)
            if tensor is not None:
                self._tensors.move_to_end(name)
            return tensor

    def put(self, name: tuple[str, str], tensor: NDArray[Any]) -> None:
        with self._lock:
            self._tensors[name] = tensor
            excess = sum(one.nbytes for one in self._tensors.values()) - self._max_bytes
            while excess > 0:
                excess -= self._tensors.popitem(last=False)[1].nbytes


def _blocks_of(info: TensorInfo, start: int, stop: int) -> range:
    """Numbers of the tensor's blocks that bytes ``start`` to ``stop`` of its object touch."""
    return range((start - info.start) // BLOCK_BYTES, -(-(stop - info.start) // BLOCK_BYTES))


def _check_rows(shard: ShardEntry, name: str, rows: int) -> None:
    expected = sum(stop - start for start, stop in shard.models_at(parse_tensor_name(name)[0]))
    if rows != expected:
        raise FormatError(f"{shard.ref.key}: tensor {name} has {rows} rows, the manifest names {expected} models")
