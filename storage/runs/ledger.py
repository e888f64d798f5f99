"""The ledger: what a run has committed, read by one LIST and one GET per folder."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, ObjectMissing, ObjectNotFound, Superseded
from ..formats.record import Faulty, PartRecord, Totals
from ..formats.tensors import decode, tensor_name
from ..keys import RecordKey, parse_record_key, parts_prefix
from ..stores.objects import get_object
from ..stores.protocol import ObjectStore
from .commit import refuse_conflict

NUM_READERS = 16


@dataclass(frozen=True)
class Folder:
    """The records of one member set. ``last`` is the one with the largest part."""

    name: str
    unit: int
    parts: tuple[int, ...]
    refills: tuple[int, ...]
    last: PartRecord

    @property
    def members(self) -> tuple[int, ...]:
        return self.last.members

    def key(self, part: int, refill: bool = False) -> RecordKey:
        return RecordKey(self.last.run, self.unit, self.name.partition("-")[2], part, refill)


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Sums over a run. Models, epochs and faulty models count once; samples, seconds and bytes as often as spent."""

    num_models: int
    model_epochs: int
    num_faulty: int
    samples: int
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class LoadedState:
    """The newest state that some models have in common.

    Attributes:
        part: after which they have it.
        epoch: the last epoch of that part.
        arrays: each [M, ...], in the order of the requested models.
        parents: keys of the records that the rows came from.
    """

    part: int
    epoch: int
    arrays: dict[str, NDArray[Any]]
    parents: tuple[str, ...]


class Ledger:
    """A snapshot of the committed parts. Later commits are not in it; no commit is ever taken back."""

    def __init__(self, store: ObjectStore, run: str, folders: dict[str, Folder], known: dict[str, PartRecord]) -> None:
        self.store = store
        self.run = run
        self.folders = folders
        self._records = known
        self._by_model: dict[int, list[Folder]] = {}
        self._held: dict[int, int] = {}  # bit p: part p
        for name in sorted(folders):
            folder = folders[name]
            bits = sum(1 << part for part in folder.parts)
            for model in folder.members:
                self._by_model.setdefault(model, []).append(folder)
                self._held[model] = self._held.get(model, 0) | bits
        self._chains: dict[int, list[RecordKey]] = {}
        self._compare_overlaps()

    @property
    def models(self) -> list[int]:
        """Models with at least one part, ascending."""
        return sorted(self._held)

    def next_part(self, model: int) -> int:
        """The first part that is not committed; parts count from 0."""
        if model in self._chains:
            return len(self._chains[model])
        held = self._held.get(model, 0)
        return (~held & (held + 1)).bit_length() - 1

    def holder(self, model: int, part: int) -> RecordKey | None:
        """The record to read ``model``'s ``part`` from: the smallest key that holds it; None if no record does."""
        if model in self._chains:
            chain = self._chains[model]
            return chain[part] if part < len(chain) else None
        for folder in self._by_model.get(model, ()):
            if part in folder.parts:
                return folder.key(part)
        return None

    def refills(self, model: int) -> list[RecordKey]:
        """Records with weights of epochs of ``model`` that were not kept at first."""
        return [f.key(part, refill=True) for f in self._by_model.get(model, ()) for part in f.refills]

    def record(self, key: RecordKey) -> PartRecord:
        """The record under ``key``; each is read once."""
        text = str(key)
        if text not in self._records:
            self._records[text] = _read_record(self.store, key)
        return self._records[text]

    def records(self, keys: Iterable[RecordKey]) -> list[PartRecord]:
        """The records under ``keys``, read in parallel."""
        wanted = list(keys)
        missing = [key for key in dict.fromkeys(wanted) if str(key) not in self._records]
        self._records.update(_read_records(self.store, missing))
        return [self._records[str(key)] for key in wanted]

    def last_record(self, unit: int, members: Sequence[int]) -> PartRecord | None:
        """The last record of exactly these members: what ``commit_part`` takes as ``after``."""
        for folder in self._by_model.get(members[0], ()) if len(members) else ():
            if folder.unit == unit and folder.members == tuple(members):
                return folder.last
        return None

    @property
    def faulty(self) -> dict[int, Faulty]:
        """Models that are faulty in their newest state, by index."""
        by_model: dict[int, Faulty] = {}
        for folder in self.folders.values():
            for faulty in folder.last.faulty:
                by_model.setdefault(faulty.model, faulty)
        return dict(sorted(by_model.items()))

    @property
    def totals(self) -> RunTotals:
        sums = Totals()
        for folder in self.folders.values():
            sums = sums + folder.last.totals
        return RunTotals(
            num_models=len(self._held),
            model_epochs=sum(self.num_epochs(model) for model in self._held),
            num_faulty=len(self.faulty),
            samples=sums.samples,
            seconds=sums.seconds,
            bytes=sums.bytes,
        )

    @property
    def commit_every(self) -> int:
        """Epochs per part after part 0, as the records show it; 1 if there is only part 0."""
        for folder in self.folders.values():
            if folder.last.part > 0:
                return folder.last.epochs[1] - folder.last.epochs[0]
        return 1

    def num_epochs(self, model: int) -> int:
        """States of ``model`` that are committed without a gap, epoch 0 included."""
        next_part = self.next_part(model)
        return 0 if next_part == 0 else 1 + (next_part - 1) * self.commit_every

    def load_state(self, models: Sequence[int]) -> LoadedState:
        """Newest state of ``models``, whose next part must be the same; it may come from several records.

        Raises:
            Superseded: other drivers have committed later parts, and dropped the state that this ledger names.
            ObjectMissing, DigestMismatch: the store lost or changed something.
        """
        parts = {self.next_part(model) for model in models}
        if len(parts) != 1 or parts == {0}:
            raise ValueError(f"models have {sorted(parts)} as their next parts, expected one, after part 0")
        part = parts.pop() - 1
        rows: dict[RecordKey, list[int]] = {}
        for position, model in enumerate(models):
            key = self.holder(model, part)
            assert key is not None
            rows.setdefault(key, []).append(position)
        arrays: dict[str, NDArray[Any]] = {}
        epoch = -1
        for record in self.records(rows):
            state = self._state_of(record, models)
            index = {model: row for row, model in enumerate(record.members)}
            positions = rows[record.key]
            source = [index[models[p]] for p in positions]
            for name, values in state.items():
                if name not in arrays:
                    if epoch >= 0:
                        raise FormatError(f"{record.key}: its state has {name!r}, that of other records has not")
                    arrays[name] = np.empty((len(models), *values.shape[1:]), values.dtype)
                arrays[name][positions] = values[source]
            if set(state) != set(arrays):
                raise FormatError(f"{record.key}: its state holds {sorted(state)}, expected {sorted(arrays)}")
            epoch = record.epochs[1] - 1
        return LoadedState(part, epoch, arrays, tuple(sorted(str(key) for key in rows)))

    def _state_of(self, record: PartRecord, models: Sequence[int]) -> dict[str, NDArray[Any]]:
        if record.state is None:
            raise ObjectMissing(f"{record.key}: the record names no state from which training can continue")
        try:
            data = get_object(self.store, record.state, str(record.key))
            kept = b""
            if record.state_fields and record.weights is not None:
                kept = get_object(self.store, record.weights, str(record.key))
        except ObjectMissing:
            newer = read_ledger(self.store, self.run)
            if any(newer.next_part(model) > record.part + 1 for model in models):
                raise Superseded(
                    f"{record.key}: other drivers continued from its state; read the ledger again"
                ) from None
            raise
        arrays, provenance = decode(data, record.state.key)
        if not isinstance(provenance, dict) or provenance.get("members") != list(record.members):
            raise FormatError(f"{record.state.key}: not the state that {record.key} names")
        if record.state_fields and record.weights is not None:
            fields, _ = decode(kept, record.weights.key)
            for name, field in record.state_fields.items():
                tensor = fields.get(tensor_name(record.epochs[1] - 1, field))
                if tensor is None or name in arrays:
                    raise FormatError(f"{record.key}: {record.weights.key} does not hold its {name}, as it says")
                arrays[name] = tensor
        return arrays

    def _compare_overlaps(self) -> None:
        """Several records of the same part of a model must agree, unless the engine chains its records."""
        pairs: set[tuple[str, str]] = set()
        for folders in self._by_model.values():
            if len(folders) > 1:
                pairs.update(combinations([folder.name for folder in folders], 2))
        chained: set[int] = set()
        for left, right in sorted(pairs):
            a, b = self.folders[left], self.folders[right]
            common = sorted(set(a.parts) & set(b.parts))
            if not common:
                continue
            ours = self.records([a.key(part) for part in common])
            theirs = self.records([b.key(part) for part in common])
            for one, other in zip(ours, theirs, strict=True):
                if one.parents or other.parents:
                    chained.update(set(a.members) & set(b.members))
                else:
                    refuse_conflict(one, other)
        for model in chained:
            self._chains[model] = self._chain(model)

    def _chain(self, model: int) -> list[RecordKey]:
        chain: list[RecordKey] = []
        while True:
            part = len(chain)
            keys = [f.key(part) for f in self._by_model[model] if part in f.parts]
            if chain:
                keys = [key for key in keys if str(chain[-1]) in self.record(key).parents]
            if not keys:
                return chain
            chain.append(keys[0])


def read_ledger(store: ObjectStore, run: str, known: Ledger | None = None) -> Ledger:
    """The committed parts as of now.

    Args:
        known: an earlier ledger of the same run, whose records are not read again.

    Raises:
        ConflictingRecords: two records hold a model's part with different values.
    """
    parts: dict[str, list[RecordKey]] = {}
    for stat in store.list(parts_prefix(run)):
        key = parse_record_key(stat.key)
        if key is not None:
            parts.setdefault(key.folder, []).append(key)
    records = dict(known._records) if known is not None and known.run == run else {}
    lasts = {}
    for name, keys in parts.items():
        lasts[name] = max(keys, key=lambda key: (not key.refill, key.part))
    missing = [key for key in lasts.values() if str(key) not in records]
    records.update(_read_records(store, missing))
    folders = {
        name: Folder(
            name,
            key.unit,
            tuple(sorted(k.part for k in parts[name] if not k.refill)),
            tuple(sorted(k.part for k in parts[name] if k.refill)),
            records[str(key)],
        )
        for name, key in lasts.items()
    }
    return Ledger(store, run, folders, records)


def _read_records(store: ObjectStore, keys: Sequence[RecordKey]) -> dict[str, PartRecord]:
    """Records by key. Each thread gets its share at the start: a future per record would cost too much."""

    def take(share: Sequence[RecordKey]) -> list[tuple[str, PartRecord]]:
        return [(str(key), _read_record(store, key)) for key in share]

    num_readers = min(NUM_READERS, len(keys))
    if num_readers < 2:
        return dict(take(keys))
    with ThreadPoolExecutor(num_readers) as pool:
        return {
            key: record
            for share in pool.map(take, [keys[i::num_readers] for i in range(num_readers)])
            for key, record in share
        }


def _read_record(store: ObjectStore, key: RecordKey) -> PartRecord:
    try:
        data, _ = store.get(str(key))
    except ObjectNotFound:
        raise ObjectMissing(f"{store.url}: record {key} was listed and is gone; was its zoo removed?") from None
    return PartRecord.from_json(data, key)
