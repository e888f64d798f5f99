"""Reads states out of shards: finds the shard and row of each, and puts the rows together in one array."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.manifest import DTYPES, Manifest
from ..formats.shards import Ranges, ShardEntry, from_ranges
from .progress import LARGE_READ_BYTES, progress_bar
from .selection import Selection
from .shard_reader import ShardReader

NUM_READERS = 8
JOB_BYTES = 4 * 2**20  # read at once from a remote store by one thread; eight of them stay below 100 MB

Gathered = tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]


class Gatherer:
    """Finds and reads the states of one manifest. Safe between threads."""

    def __init__(self, manifest: Manifest, reader: ShardReader, progress: bool = True) -> None:
        """
        Args:
            progress: whether reads above 100 MB draw a bar on stderr, if that is a terminal.
        """
        self._progress = progress
        self._manifest = manifest
        self._reader = reader
        self._expanded: dict[Ranges, NDArray[np.int64]] = {}
        self._block_models = manifest.shard_shape[0]

    @cached_property
    def shards_by_epoch(self) -> dict[int, list[ShardEntry]]:
        """Epoch to the shards that hold states of it, by ascending models."""
        shards: dict[int, list[ShardEntry]] = {}
        for shard in self._manifest.shards:
            for epoch in shard.epochs:
                shards.setdefault(epoch, []).append(shard)
        return shards

    @cached_property
    def _shard_at(self) -> dict[tuple[int, int], ShardEntry]:
        return {(shard.first_model, shard.first_epoch): shard for shard in self._manifest.shards}

    def models_at(self, epoch: int) -> list[int]:
        """Models whose state at ``epoch`` is here, ascending."""
        models: list[int] = np.sort(
            np.concatenate([self.rows(shard, epoch) for shard in self.shards_by_epoch[epoch]])
        ).tolist()
        return models

    def rows(self, shard: ShardEntry, epoch: int) -> NDArray[np.int64]:
        """Models of the shard's rows at ``epoch``."""
        ranges = shard.models_at(epoch)
        models = self._expanded.get(ranges)
        if models is None:
            models = self._expanded[ranges] = np.asarray(from_ranges(ranges), np.int64)
        return models

    def one(self, model: int, epoch: int, field: str) -> NDArray[Any] | None:
        """Field [values] of one state, a copy; None if it is not here."""
        num_models, num_epochs = self._manifest.shard_shape
        shard = self._shard_at.get((model - model % num_models, epoch - epoch % num_epochs))
        if shard is None:
            return None
        here = self.rows(shard, epoch)
        row = int(np.searchsorted(here, model))
        if row == len(here) or here[row] != model:
            return None
        return self._reader.row(shard, field, epoch, row)

    def read(self, selection: Selection, field: str, columns: NDArray[np.intp] | None = None) -> Gathered:
        """Field of the selected states, row by row: values [N, ...], models [N], epochs [N].

        Args:
            selection: states that are all here, in any order and as often as wanted.
            columns: which values of a row; None: all.
        """
        keys = selection.keys
        values, models, epochs = self.gather(selection.by_epoch(), field, columns)
        if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
            rows = np.unique(keys, return_inverse=True)[1]
            values, models, epochs = values[rows], models[rows], epochs[rows]
        return values, models, epochs

    def gather(self, wanted: dict[int, list[int]], field: str, columns: NDArray[np.intp] | None = None) -> Gathered:
        """Like ``read``, with rows by ascending model and epoch.

        Args:
            wanted: epoch to ascending models, all of which are here.
            columns: which values of a row; None: all.
        """
        epochs = np.concatenate([np.full(len(m), e, np.int32) for e, m in wanted.items()] or [np.zeros(0, np.int32)])
        models = np.concatenate([np.asarray(m, np.int32) for m in wanted.values()] or [np.zeros(0, np.int32)])
        order = np.lexsort((epochs, models))
        place = np.empty(len(order), np.intp)
        place[order] = np.arange(len(order))
        starts = dict(zip(wanted, np.cumsum([0, *(len(m) for m in wanted.values())]).tolist(), strict=False))
        entry = self._manifest.fields[field]
        width = entry.values if columns is None else len(columns)
        out = np.empty((len(models), width), DTYPES[entry.dtype])

        def fill(shard: ShardEntry, epoch: int, mine: NDArray[np.int64]) -> bool:
            """Read a whole tensor straight into ``out``, if its rows are one piece of it. False: nothing was read."""
            low = starts[epoch] + int(np.searchsorted(wanted[epoch], mine[0]))
            target = place[low : low + len(mine)]
            if len(mine) != len(self.rows(shard, epoch)) or target[-1] - target[0] != len(target) - 1:
                return False
            return self._reader.fill(shard, field, epoch, out[target[0] : target[-1] + 1])

        def take(job: tuple[ShardEntry, dict[int, NDArray[np.int64]]]) -> int:
            """Read a job into ``out``. Returns its number of bytes there."""
            shard, chosen = job
            num_bytes = sum(len(mine) for mine in chosen.values()) * width * out.itemsize
            if len(chosen) == 1 and columns is None and fill(shard, *next(iter(chosen.items()))):
                return num_bytes
            for epoch, array in self._reader.read(shard, field, list(chosen)):
                mine = chosen[epoch]
                low = int(np.searchsorted(wanted[epoch], mine[0]))
                target = place[starts[epoch] + low : starts[epoch] + low + len(mine)]
                here = self.rows(shard, epoch)
                picked = array if len(mine) == len(here) else array[np.searchsorted(here, mine)]
                out[target] = picked.reshape(len(picked), -1) if columns is None else picked[:, columns]
            return num_bytes

        # More threads than cores help only if they wait for a network and unpack little.
        busy = not self._reader.remote or self._manifest.compression is not None
        show = self._progress and out.nbytes > LARGE_READ_BYTES
        with progress_bar(f"reading {self._manifest.zoo}", out.nbytes, show) as progress:
            for num_bytes in each(take, self._jobs(wanted, field), num_cores() if busy else NUM_READERS):
                progress(num_bytes)
        return out, models[order], epochs[order]

    def _jobs(
        self, wanted: dict[int, list[int]], field: str
    ) -> Iterator[tuple[ShardEntry, dict[int, NDArray[np.int64]]]]:
        """Shards with the wanted models by epoch; a shard of a remote store comes in pieces of ``JOB_BYTES``."""
        chosen: dict[int, tuple[ShardEntry, dict[int, NDArray[np.int64]]]] = {}
        for epoch, models in wanted.items():
            all_models = np.asarray(models, np.int64)
            for shard in self.shards_by_epoch[epoch] if models else ():
                span = (shard.first_model, shard.first_model + self._block_models)
                low, high = np.searchsorted(all_models, span)
                if low < high:
                    chosen.setdefault(id(shard), (shard, {}))[1][epoch] = all_models[low:high]
        for shard, by_epoch in chosen.values():
            sizes = [self._reader.tensor_bytes(shard, field, epoch) for epoch in by_epoch]
            piece: dict[int, NDArray[np.int64]] = {}
            held = 0
            for (epoch, mine), size in zip(by_epoch.items(), sizes, strict=True):
                if (
                    piece
                    and held + size > JOB_BYTES
                    and self._reader.remote
                    and self._stands_alone(shard, field, epoch)
                ):
                    yield shard, piece
                    piece, held = {}, 0
                piece[epoch] = mine
                held += size
            yield shard, piece

    def _stands_alone(self, shard: ShardEntry, field: str, epoch: int) -> bool:
        """True if a tensor can be read without those of earlier epochs."""
        return self._manifest.compression is None or self._reader.needed_epochs(shard, field, epoch) == [epoch]


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(take: Callable[[Any], int], jobs: Iterable[Any], num_threads: int) -> Iterator[int]:
    """Yield ``take(job)`` for all jobs, in order. It uses threads if there are several jobs and several threads."""
    todo = list(jobs)
    if len(todo) == 1 or num_threads == 1:
        yield from map(take, todo)
    elif todo:
        with ThreadPoolExecutor(min(num_threads, len(todo))) as pool:
            yield from pool.map(take, todo)
