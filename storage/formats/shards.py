"""The entries of a manifest that describe shards, the shape of shards, and ranges of models and epochs. Pure."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..canonical import json_integer, json_text
from ..errors import FormatError
from ..stores.objects import ObjectRef, is_sha256
from .compression import KEY_EPOCHS
from .tensors import parse_tensor_name

Ranges = tuple[tuple[int, int], ...]  # ascending half-open ranges

SHARD_EPOCHS = 64
MAX_SHARD_BYTES = 64 * 2**20


def shard_shape(stated: tuple[int, int] | None, num_values: int, compressed: bool = False) -> tuple[int, int]:
    """(models, epochs) per shard: as stated, or the largest power of two of models that gives at most 64 MiB.

    A compressed shard holds at least the epochs of one chain of differences.
    """
    if compressed:
        models, epochs = shard_shape(stated, num_values)
        return models, max(epochs, KEY_EPOCHS)
    if stated is not None:
        return stated
    per_model = SHARD_EPOCHS * 4 * max(1, num_values)
    if per_model > MAX_SHARD_BYTES:
        return 1, 1
    return 2 ** int(math.log2(MAX_SHARD_BYTES // per_model)), SHARD_EPOCHS


def to_ranges(values: Iterable[int]) -> Ranges:
    """Ascending integers as half-open ranges."""
    ranges: list[tuple[int, int]] = []
    for value in values:
        if ranges and ranges[-1][1] == value:
            ranges[-1] = (ranges[-1][0], value + 1)
        else:
            ranges.append((value, value + 1))
    return tuple(ranges)


def from_ranges(ranges: Ranges) -> list[int]:
    return [value for start, stop in ranges for value in range(start, stop)]


def count_ranges(ranges: Ranges) -> int:
    """Number of integers in the ranges."""
    return sum(stop - start for start, stop in ranges)


def first_outside(ranges: Ranges, within: Ranges) -> int | None:
    """The first number of ``ranges`` that is not in ``within``; None if all are. Both ascend."""
    starts = [start for start, _ in within]
    for start, stop in ranges:
        place = bisect_right(starts, start) - 1
        while start < stop:
            if not (0 <= place < len(within) and within[place][0] <= start < within[place][1]):
                return start
            start = min(stop, within[place][1])
            place += 1
    return None


def ranges_to_json(ranges: Ranges) -> list[list[int]]:
    return [[start, stop] for start, stop in ranges]


def ranges_from_json(value: Sequence[Sequence[int]]) -> Ranges:
    """Read what ``ranges_to_json`` writes. Raises ValueError unless the ranges ascend and end at 10**7 at most."""
    ranges = tuple((json_integer(start), json_integer(stop)) for start, stop in value)
    end = 0
    for start, stop in ranges:
        if not end <= start < stop <= 10**7:
            raise ValueError(f"ranges {value} do not ascend")
        end = stop
    return ranges


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The place of a tensor in its shard, in bytes, and its digest.

    The digest is that of the bytes or, in a manifest with ``blocks``, that over the digests of its blocks
    (storage/formats/blocks.py). A compressed tensor also has ``base``, the epoch that it is the difference from (None:
    it is stored as it is), and the digest of its values.
    """

    start: int
    stop: int
    sha256: str
    base: int | None = None
    values_sha256: str = ""

    def to_json(self) -> list[Any]:
        place = [self.start, self.stop, self.sha256]
        return [*place, self.base, self.values_sha256] if self.values_sha256 else place

    @classmethod
    def from_json(cls, start: Any, stop: Any, sha256: Any, base: Any = None, values_sha256: Any = "") -> "TensorEntry":
        """Read the items of the list that ``to_json`` writes. Raises ValueError."""
        epoch = None if base is None else json_integer(base)
        return cls(json_integer(start), json_integer(stop), sha256, epoch, json_text(values_sha256))


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One object of weights: a block of models by a block of epochs.

    ``rows`` gives the models that are in the shard at each range of epochs, which are the rows of the tensors.
    ``tensors`` is empty where a shard holds one state and is always read whole.
    """

    ref: ObjectRef
    first_model: int
    first_epoch: int
    rows: tuple[tuple[Ranges, Ranges], ...]  # (epochs, models)
    tensors: dict[str, TensorEntry]

    @property
    def epochs(self) -> list[int]:
        """Ascending."""
        return sorted(epoch for epochs, _ in self.rows for epoch in from_ranges(epochs))

    def models_at(self, epoch: int) -> Ranges:
        """Models of the rows at ``epoch``; none if it is not here."""
        for epochs, models in self.rows:
            if any(start <= epoch < stop for start, stop in epochs):
                return models
        return ()

    def models_by_epoch(self) -> dict[int, list[int]]:
        by_epoch = {}
        for epochs, models in self.rows:
            expanded = from_ranges(models)
            for epoch in from_ranges(epochs):
                by_epoch[epoch] = expanded
        return dict(sorted(by_epoch.items()))

    def to_json(self) -> dict[str, Any]:
        return {
            **self.ref.to_json(),
            "first_model": self.first_model,
            "first_epoch": self.first_epoch,
            "rows": [
                {"epochs": ranges_to_json(epochs), "models": ranges_to_json(models)} for epochs, models in self.rows
            ],
            "tensors": {name: tensor.to_json() for name, tensor in self.tensors.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], what: str) -> "ShardEntry":
        """Read what ``to_json`` writes. Raises ValueError, KeyError or TypeError, and FormatError for the object."""
        ref = ObjectRef.from_json({name: value[name] for name in ("sha256", "bytes", "kind")}, what)
        tensors = {name: TensorEntry.from_json(*place) for name, place in value["tensors"].items()}
        rows = tuple((ranges_from_json(row["epochs"]), ranges_from_json(row["models"])) for row in value["rows"])
        return cls(ref, json_integer(value["first_model"]), json_integer(value["first_epoch"]), rows, tensors)


def group_rows(models_by_epoch: dict[int, list[int]]) -> tuple[tuple[Ranges, Ranges], ...]:
    """``ShardEntry.rows`` for epoch to models: one entry per different set of models, ordered by its first epoch."""
    groups: dict[Ranges, list[int]] = {}
    for epoch in sorted(models_by_epoch):
        groups.setdefault(to_ranges(models_by_epoch[epoch]), []).append(epoch)
    return tuple((to_ranges(epochs), models) for models, epochs in groups.items())


def check_chains(shard: ShardEntry, held: list[int], what: str) -> None:
    """Raises FormatError unless each compressed tensor has no base, or the epoch before it with as many rows."""
    rows = {epoch: count_ranges(shard.models_at(epoch)) for epoch in held}
    follows = set(pairwise(sorted(held)))
    for name, tensor in shard.tensors.items():
        epoch, base = parse_tensor_name(name)[0], tensor.base
        if not is_sha256(tensor.values_sha256):
            raise FormatError(f"{what}: tensor {name} of object {shard.ref.key} has no digest of its values")
        if base is not None and ((base, epoch) not in follows or rows[base] != rows[epoch]):
            raise FormatError(f"{what}: tensor {name} of object {shard.ref.key} cannot follow epoch {base}")
