"""Tensors of shards: one at a time from a directory, by coalesced ranges elsewhere, checked either way."""

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cache import ContentCache, open_cache
from .canonical import sha256_hex
from .errors import DigestMismatch, FormatError, ObjectMissing, ObjectNotFound
from .local import LocalStore
from .manifest import DTYPES, Manifest, ShardEntry
from .object_store import ObjectStore
from .objects import get_object
from .tensors import TensorInfo, coalesce, decode, tensor_name

MAX_MAPS = 256
RECENT_BYTES = 32 * 2**20
RELEASE_BYTES = 8 * 2**20


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
        # Single states of a remote store come with their neighbours, whose digest is one: the last ones are kept.
        self._recent: OrderedDict[tuple[str, str], NDArray[Any]] = OrderedDict()
        self._recent_bytes = 0
        self._lock = threading.Lock()
        self._cache: ContentCache | None = None
        if cache is not None and not isinstance(store, LocalStore):
            self._cache = open_cache(cache, cache_bytes)

    @property
    def local(self) -> bool:
        """Whether reading waits for no network; it then holds one tensor per thread."""
        return isinstance(self._store, LocalStore)

    def tensor_bytes(self, shard: ShardEntry, field: str, epoch: int) -> int:
        """What reading a tensor fetches."""
        entry = shard.tensors.get(tensor_name(epoch, field))
        return shard.ref.bytes if entry is None else entry.stop - entry.start

    def row(self, shard: ShardEntry, field: str, epoch: int, row: int) -> NDArray[Any]:
        """One row [values] of a tensor, a copy. Raises as ``read`` does."""
        name = (shard.ref.sha256, tensor_name(epoch, field))
        if self.local and shard.tensors and name in self._sound:
            entry, described = shard.tensors[name[1]], self._manifest.fields[field]
            dtype: np.dtype[Any] = np.dtype(DTYPES[described.dtype])
            view = self._map(shard)
            place = entry.start + row * described.values * dtype.itemsize
            self._store.traffic.add(read=described.values * dtype.itemsize, requests=0)
            return np.frombuffer(view, dtype, described.values, place).copy()
        with self._lock:
            found = self._recent.get(name)
            if found is not None:
                self._recent.move_to_end(name)
        if found is None:
            ((_, found),) = self.read(shard, field, [epoch])
            if not self.local:
                self._keep(name, found)
        return np.array(found[row])

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
        if not shard.tensors:
            data = self._whole(shard)
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
                yield self._epoch_of(info), self._verified(shard, info, own)

    def _local(self, shard: ShardEntry, field: str, epochs: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        # Into one buffer, not mapped: a tensor is hashed and taken apart while it is in the processor's cache.
        infos = [self._info(shard, field, epoch) for epoch in epochs]
        buffer = np.empty(max(info.stop - info.start for info in infos), np.uint8).data
        file = self._open(shard)
        try:
            for epoch, info in zip(epochs, infos, strict=True):
                own = buffer[: info.stop - info.start]
                if _read_into(file, own, info.start) != len(own):
                    raise DigestMismatch(
                        f"{self._owner}: object {shard.ref.key} ends before byte {info.stop}; it is truncated"
                    )
                known = (shard.ref.sha256, info.name)
                if known in self._sound:
                    yield epoch, info.array(own)
                else:
                    yield epoch, self._verified(shard, info, own)
                    self._sound.add(known)
                self._store.traffic.add(read=len(own), requests=0)
        finally:
            os.close(file)

    def _open(self, shard: ShardEntry) -> int:
        assert isinstance(self._store, LocalStore)
        try:
            file = os.open(self._store.path(shard.ref.key), os.O_RDONLY)
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
        self._maps[shard.ref.sha256] = view
        return view

    def _whole(self, shard: ShardEntry) -> bytes:
        if self._cache is not None:
            data = self._cache.get(shard.ref.sha256)
            if data is not None:
                return data
        data = get_object(self._store, shard.ref, self._owner)
        if self._cache is not None:
            self._cache.put(shard.ref.sha256, data)
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

    def _verified(self, shard: ShardEntry, info: TensorInfo, data: memoryview) -> NDArray[Any]:
        expected = shard.tensors[info.name].sha256
        found = sha256_hex(data)
        if found != expected:
            raise DigestMismatch(
                f"{self._owner}: tensor {info.name} of object {shard.ref.key} has SHA-256 {found[:12]}, the "
                f"manifest says {expected[:12]}; it changed after publication. `zoo store verify` names every "
                "bad object"
            )
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
        epoch = int(name.partition(".")[0].removeprefix("epoch_"))
        expected = sum(stop - start for start, stop in shard.models_at(epoch))
        if rows != expected:
            raise FormatError(f"{shard.ref.key}: tensor {name} has {rows} rows, the manifest names {expected} models")

    def _epoch_of(self, info: TensorInfo) -> int:
        return int(info.name.partition(".")[0].removeprefix("epoch_"))


def _read_into(file: int, target: memoryview, start: int) -> int:
    """Bytes read from ``start`` on; fewer than ``target`` holds at the end of the file."""
    done = 0
    while done < len(target) and (count := os.preadv(file, [target[done:]], start + done)):
        done += count
    return done
