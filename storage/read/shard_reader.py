"""Tensors of shards: one at a time from a directory, by coalesced ranges elsewhere, checked either way."""

import hashlib
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DigestMismatch, FormatError, ObjectMissing, ObjectNotFound
from ..formats.blocks import BLOCK_BYTES, BlockTable, tensor_digest
from ..formats.compression import check_values, unpack
from ..formats.manifest import DTYPES, Manifest, ShardEntry
from ..formats.tensors import TensorInfo, coalesce, decode, parse_tensor_name, tensor_name
from ..stores.cache import ContentCache, open_cache
from ..stores.objects import ObjectRef, get_object
from ..stores.protocol import ObjectStore

MAX_MAPS = 256
RECENT_BYTES = 32 * 2**20
JOIN_BYTES = 4 * 2**20  # of compressed tensors that one read brings


class ShardReader:
    """Reads single fields of single epochs of the shards that a manifest names.

    What is read of a shard is compared with the digests in the manifest: of the whole object where all of it is read,
    of each tensor where only some are.
    """

    def __init__(
        self, store: ObjectStore, manifest: Manifest, cache: str | None = None, cache_bytes: int | None = None
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._owner = f"zoo {manifest.zoo!r}"
        # A tensor of a mapped file is hashed when it is first read; later reads of one state are then a copy of a row.
        self._maps: dict[str, memoryview] = {}
        self._sound: set[tuple[str, str]] = set()
        self._sound_blocks: set[tuple[str, str, int]] = set()
        self._touched: set[tuple[str, str]] = set()
        # Single states of a remote store come with their neighbours, whose digest is one: the last ones are kept.
        self._recent: OrderedDict[tuple[str, str], NDArray[Any]] = OrderedDict()
        self._recent_bytes = 0
        self._lock = threading.Lock()
        self._cache: ContentCache | None = None
        if cache is not None and store.root is None:
            self._cache = open_cache(cache, cache_bytes)

    @property
    def local(self) -> bool:
        """Whether reading waits for no network; it then holds one tensor per thread."""
        return self._store.root is not None

    def tensor_bytes(self, shard: ShardEntry, field: str, epoch: int) -> int:
        """What reading a tensor fetches."""
        entry = shard.tensors.get(tensor_name(epoch, field))
        return shard.ref.bytes if entry is None else entry.stop - entry.start

    def row(self, shard: ShardEntry, field: str, epoch: int, row: int) -> NDArray[Any]:
        """One row [values] of a tensor, a copy. Raises as ``read`` does."""
        name = (shard.ref.sha256, tensor_name(epoch, field))
        if self.local and name in self._sound:
            return self._block_row(shard, field, name[1], row)
        with self._lock:
            found = self._recent.get(name)
            if found is not None:
                self._recent.move_to_end(name)
        if found is None:
            # Whoever reads a second state of a tensor is likely to read them all, and a request costs more than bytes.
            if self._manifest.blocks is not None and (self.local or name not in self._touched):
                self._touched.add(name)
                return self._block_row(shard, field, name[1], row)
            ((_, found),) = self.read(shard, field, [epoch])
            if not self.local or self._manifest.compression is not None:
                self._keep(name, found)
        return np.array(found[row])

    def _block_row(self, shard: ShardEntry, field: str, name: str, row: int) -> NDArray[Any]:
        """A row out of the blocks around it, those hashed that were not before."""
        described = self._manifest.fields[field]
        dtype: np.dtype[Any] = np.dtype(DTYPES[described.dtype])
        info = self._info(shard, field, self._epoch(name))
        row_bytes = dtype.itemsize * described.values
        own = (info.start + row * row_bytes, info.start + (row + 1) * row_bytes)
        first, stop = row * row_bytes // BLOCK_BYTES, -(-(row + 1) * row_bytes // BLOCK_BYTES)
        begin, end = info.start + first * BLOCK_BYTES, min(info.start + stop * BLOCK_BYTES, info.stop)
        if self.local:
            view, base = self._map(shard), 0
            self._store.traffic.add(read=row_bytes, requests=0)
        else:
            view, base = memoryview(self._range(shard, begin, end)), begin
        if (shard.ref.sha256, name) not in self._sound:
            self._check_rows(shard, name, info.shape[0])
            for block in range(first, stop):
                known = (shard.ref.sha256, name, block)
                if known in self._sound_blocks:
                    continue
                place = info.start + block * BLOCK_BYTES
                data = view[place - base : min(place + BLOCK_BYTES, info.stop) - base]
                found, expected = hashlib.sha256(data).digest(), self._blocks.digest(shard, info.start, block)
                if found != expected:
                    raise self._mismatch(shard, f"block {block} of tensor {name}", found.hex(), expected.hex())
                if self.local:
                    self._sound_blocks.add(known)
        return np.frombuffer(view, dtype, described.values, own[0] - base).copy()

    @cached_property
    def _blocks(self) -> BlockTable:
        ref = self._manifest.blocks
        assert ref is not None
        data = self._object(ref)
        return BlockTable(decode(data, ref.key)[0], self._manifest.shards, ref.key)

    def _keep(self, name: tuple[str, str], array: NDArray[Any]) -> None:
        if array.nbytes > RECENT_BYTES:
            return
        with self._lock:
            if name not in self._recent:
                self._recent_bytes += array.nbytes
            self._recent[name] = array
            while self._recent_bytes > RECENT_BYTES:
                self._recent_bytes -= self._recent.popitem(last=False)[1].nbytes

    def read(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        """(epoch, [rows, values]) for each of ``epochs``; an array is valid until the next one is asked for.

        Raises ObjectMissing, DigestMismatch, FormatError.
        """
        if not epochs:
            return
        if self._manifest.compression is not None:
            yield from self._unpacked(shard, field, epochs)
            return
        if not shard.tensors:
            data = self._object(shard.ref)
            arrays, _ = decode(data, shard.ref.key)
            for epoch in epochs:
                yield epoch, self._checked(shard, field, epoch, arrays)
            return
        if self.local:
            yield from self._local(shard, field, epochs)
            return
        for group in coalesce(self._info(shard, field, epoch) for epoch in sorted(epochs)):
            start, stop = group[0].start, group[-1].stop
            data = self._range(shard, start, stop)
            view = memoryview(data)
            for info in group:
                own = view[info.start - start : info.stop - start]
                yield self._epoch(info.name), self._verified(shard, info, own)

    def chain(self, shard: ShardEntry, field: str, epoch: int) -> list[int]:
        """Epochs that have to be read, in order, for that of ``epoch``: more than it where the shard is compressed."""
        found = [epoch]
        while (entry := shard.tensors.get(tensor_name(found[-1], field))) is not None and entry.base is not None:
            found.append(entry.base)
        return found[::-1]

    def _unpacked(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        wanted = set(epochs)
        needed = sorted({link for epoch in wanted for link in self.chain(shard, field, epoch)})
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
        """Checked bytes of compressed tensors, neighbours by one read as long as that is a small one."""
        places = [shard.tensors[tensor_name(epoch, field)] for epoch in epochs]
        done = 0
        while done < len(places):
            stop = done + 1
            while (
                stop < len(places)
                and places[stop].start == places[stop - 1].stop
                and places[stop].stop - places[done].start <= JOIN_BYTES
            ):
                stop += 1
            begin = places[done].start
            view = memoryview(self._range(shard, begin, places[stop - 1].stop))
            for epoch, entry in zip(epochs[done:stop], places[done:stop], strict=True):
                own = view[entry.start - begin : entry.stop - begin]
                self._check_digest(shard, tensor_name(epoch, field), own)
                yield epoch, own
            done = stop

    def _local(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        # Into one buffer, not mapped: a tensor is hashed and taken apart while it is in the processor's cache.
        infos = [self._info(shard, field, epoch) for epoch in epochs]
        buffer = np.empty(max(info.stop - info.start for info in infos), np.uint8).data
        file = self._open(shard)
        try:
            for epoch, info in zip(epochs, infos, strict=True):
                yield epoch, self._fetch(file, shard, info, buffer[: info.stop - info.start])
        finally:
            os.close(file)

    def fill(self, shard: ShardEntry, field: str, epoch: int, out: NDArray[Any]) -> bool:
        """Read a tensor of a directory into ``out``, all of its rows, row-major. False: it has to be read another way.

        Raises as ``read`` does.
        """
        if not self.local or not shard.tensors or self._manifest.compression is not None:
            return False
        info = self._info(shard, field, epoch)
        file = self._open(shard)
        try:
            self._fetch(file, shard, info, out.reshape(-1).view(np.uint8).data)
        finally:
            os.close(file)
        return True

    def _fetch(self, file: int, shard: ShardEntry, info: TensorInfo, own: memoryview) -> NDArray[Any]:
        if _read_into(file, own, info.start) != len(own):
            raise DigestMismatch(f"{self._owner}: object {shard.ref.key} ends before byte {info.stop}; it is truncated")
        self._store.traffic.add(read=len(own), requests=0)
        known = (shard.ref.sha256, info.name)
        if known in self._sound:
            return info.array(own)
        array = self._verified(shard, info, own)
        self._sound.add(known)
        return array

    def _open(self, shard: ShardEntry) -> int:
        assert self._store.root is not None
        try:
            file = os.open(self._store.root / shard.ref.key, os.O_RDONLY)
        except FileNotFoundError:
            raise ObjectMissing(f"{self._owner}: object {shard.ref.key} is not in {self._store.url}") from None
        size = os.fstat(file).st_size
        if size != shard.ref.bytes:
            os.close(file)
            raise DigestMismatch(f"{self._owner}: object {shard.ref.key} has {size} bytes, expected {shard.ref.bytes}")
        return file

    def _map(self, shard: ShardEntry) -> memoryview:
        view = self._maps.get(shard.ref.sha256)
        if view is not None:
            return view
        file = self._open(shard)
        try:
            view = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(file)
        if len(self._maps) >= MAX_MAPS:
            self._maps.clear()
            self._sound.clear()
            self._sound_blocks.clear()
        self._maps[shard.ref.sha256] = view
        return view

    def _object(self, ref: ObjectRef) -> bytes:
        if self._cache is not None:
            data = self._cache.get(ref.sha256)
            if data is not None:
                return data
        data = get_object(self._store, ref, self._owner)
        if self._cache is not None:
            self._cache.put(ref.sha256, data)
        return data

    def _range(self, shard: ShardEntry, start: int, stop: int) -> bytes:
        name = f"{shard.ref.sha256}-{start}-{stop}"
        if self._cache is not None:
            data = self._cache.get(name)
            if data is not None:
                return data
        try:
            data, _ = self._store.get(shard.ref.key, (start, stop))
        except ObjectNotFound:
            raise ObjectMissing(f"{self._owner}: object {shard.ref.key} is not in {self._store.url}") from None
        if len(data) != stop - start:
            raise DigestMismatch(f"{self._owner}: object {shard.ref.key} ends before byte {stop}; it is truncated")
        if self._cache is not None:
            self._cache.put(name, data)
        return data

    def _info(self, shard: ShardEntry, field: str, epoch: int) -> TensorInfo:
        name = tensor_name(epoch, field)
        entry = shard.tensors[name]
        described = self._manifest.fields[field]
        dtype: np.dtype[Any] = np.dtype(DTYPES[described.dtype])
        row_bytes = dtype.itemsize * described.values
        rows, rest = divmod(entry.stop - entry.start, row_bytes) if row_bytes else (0, 0)
        if rest:
            raise FormatError(f"{shard.ref.key}: tensor {name} has no whole number of rows")
        return TensorInfo(name, dtype, (rows, described.values), entry.start, entry.stop)

    def _check_digest(self, shard: ShardEntry, name: str, data: memoryview) -> None:
        expected = shard.tensors[name].sha256
        found = tensor_digest(data, self._manifest)
        if found != expected:
            raise self._mismatch(shard, f"tensor {name}", found, expected)

    def _mismatch(self, shard: ShardEntry, what: str, found: str, expected: str) -> DigestMismatch:
        return DigestMismatch(
            f"{self._owner}: {what} of object {shard.ref.key} has SHA-256 {found[:12]}, the manifest says "
            f"{expected[:12]}; it changed after publication. `zoo store verify` names every bad object"
        )

    def _verified(self, shard: ShardEntry, info: TensorInfo, data: memoryview) -> NDArray[Any]:
        self._check_digest(shard, info.name, data)
        array = info.array(data)
        self._check_rows(shard, info.name, len(array))
        return array

    def _checked(self, shard: ShardEntry, field: str, epoch: int, arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
        name = tensor_name(epoch, field)
        described = self._manifest.fields[field]
        array = arrays.get(name)
        if array is None or array.dtype != np.dtype(DTYPES[described.dtype]):
            raise FormatError(f"{shard.ref.key}: no tensor {name} of type {described.dtype}")
        if array.shape[1:] != (described.values,):
            raise FormatError(f"{shard.ref.key}: tensor {name} has shape {array.shape}, not [., {described.values}]")
        self._check_rows(shard, name, len(array))
        return array

    def _check_rows(self, shard: ShardEntry, name: str, rows: int) -> None:
        expected = sum(stop - start for start, stop in shard.models_at(self._epoch(name)))
        if rows != expected:
            raise FormatError(f"{shard.ref.key}: tensor {name} has {rows} rows, the manifest names {expected} models")

    def _epoch(self, name: str) -> int:
        return parse_tensor_name(name)[0]


def _read_into(file: int, target: memoryview, start: int) -> int:
    """Bytes read from ``start`` on; fewer than ``target`` holds at the end of the file."""
    done = 0
    while done < len(target) and (count := os.preadv(file, [target[done:]], start + done)):
        done += count
    return done
