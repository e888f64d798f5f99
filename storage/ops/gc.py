"""Collecting what nothing names any more: in two phases a day apart, roots read again before every batch.

Roots: what manifests name; weights and labels of records whose states are not all in a manifest of their run; the
newest state of every model. Records and manifests are never deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ..canonical import canonical_json, parse_json
from ..errors import FormatError
from ..formats.manifest import Manifest, from_ranges
from ..formats.record import PartRecord
from ..keys import (
    GC_PREFIX,
    OBJECTS_PREFIX,
    RUNS_PREFIX,
    ZOOS_PREFIX,
    gc_key,
    parse_manifest_key,
    parse_object_key,
    parse_run,
)
from ..runs.ledger import Ledger, read_ledger
from ..stores.clock import StoreClock
from ..stores.protocol import ObjectStore, get_or_none

MIN_AGE_SECONDS = 24 * 3600.0
BATCH = 500


@dataclass(frozen=True, slots=True)
class Collection:
    """What a phase found or did."""

    num_objects: int
    num_bytes: int
    phase: str  # "marked", "swept" or "would be marked", "would be swept"

    def to_json(self) -> dict[str, object]:
        return {"phase": self.phase, "objects": self.num_objects, "bytes": self.num_bytes}


def collect(
    store: ObjectStore,
    *,
    dry_run: bool = True,
    min_age_seconds: float = MIN_AGE_SECONDS,
    progress: Callable[[int], None] | None = None,
) -> Collection:
    """Sweep what was marked at least ``min_age_seconds`` ago by the store's clock; without such a mark, make one.

    An object put again since the mark is somebody's, and stays.
    """
    now = StoreClock(store).now()
    marks = list(store.list(GC_PREFIX))
    due = [mark for mark in marks if now - mark.modified_seconds >= min_age_seconds]
    if not due:
        return _mark(store, now, min_age_seconds, dry_run)
    num_objects = num_bytes = 0
    seen: set[str] = set()
    for mark in due:
        found_mark = get_or_none(store, mark.key)
        if found_mark is None:
            continue  # another collection was faster
        listed = parse_json(found_mark[0], mark.key)
        if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
            raise FormatError(f"{mark.key}: not a list of keys")
        new = [key for key in listed if key not in seen and parse_object_key(key) is not None]
        seen.update(new)  # two marks may list one object
        for batch in _batches(new):
            named = roots(store)
            for key in batch:
                found = store.stat(key)
                if found is None or key in named or found.modified_seconds >= mark.modified_seconds:
                    continue
                if not dry_run:
                    store.delete(key)
                num_objects += 1
                num_bytes += found.size
            if progress is not None:
                progress(len(batch))
        if not dry_run:
            store.delete(mark.key)
    return Collection(num_objects, num_bytes, "would be swept" if dry_run else "swept")


def roots(store: ObjectStore) -> set[str]:
    """Keys of all objects that something names."""
    named: set[str] = set()
    published: dict[str, tuple[dict[int, set[int]], dict[int, int]]] = {}
    for manifest in _manifests(store):
        named.update(ref.key for ref in manifest.refs)
        states, lasts = published.setdefault(manifest.run, ({}, {}))
        for shard in manifest.shards:
            for epoch, models in shard.models_by_epoch().items():
                states.setdefault(epoch, set()).update(models)
        complete = manifest.labels.rows == manifest.num_models * (manifest.num_epochs + 1)
        for model in from_ranges(manifest.models):
            if complete:  # otherwise models end at different epochs, and labels of parts stay
                lasts[model] = max(lasts.get(model, -1), manifest.num_epochs)
    for run in _runs(store):
        ledger = read_ledger(store, run)
        states, lasts = published.get(run, ({}, {}))
        named |= _of_run(ledger, states, lasts)
    return named


def _of_run(ledger: Ledger, states: dict[int, set[int]], lasts: dict[int, int]) -> set[str]:
    named: set[str] = set()
    newest = {model: ledger.next_part(model) - 1 for model in ledger.models}
    keys = [f.key(part) for f in ledger.folders.values() for part in f.parts]
    keys += [f.key(part, refill=True) for f in ledger.folders.values() for part in f.refills]
    for record in ledger.records(keys):
        if not _is_published(record, states, lasts):
            named.update(ref.key for ref in (record.weights, record.labels) if ref is not None)
        if record.state is not None and any(record.part >= newest.get(model, 0) for model in record.members):
            named.add(record.state.key)
            if record.state_fields and record.weights is not None:  # a part of that state
                named.add(record.weights.key)
    return named


def _is_published(record: PartRecord, states: dict[int, set[int]], lasts: dict[int, int]) -> bool:
    members = set(record.members)
    if any(lasts.get(model, -1) < record.epochs[1] - 1 for model in members):
        return False
    return all(members <= states.get(epoch, set()) for epoch in record.kept)


def _mark(store: ObjectStore, now: float, min_age_seconds: float, dry_run: bool) -> Collection:
    old = [s for s in store.list(OBJECTS_PREFIX) if now - s.modified_seconds >= min_age_seconds]
    named = roots(store)
    garbage = [s for s in old if s.key not in named and parse_object_key(s.key) is not None]
    if garbage and not dry_run:
        store.put(gc_key(int(now)), canonical_json([s.key for s in garbage]))
    phase = "would be marked" if dry_run else "marked"
    return Collection(len(garbage), sum(s.size for s in garbage), phase)


def _manifests(store: ObjectStore) -> Iterator[Manifest]:
    for stat in list(store.list(ZOOS_PREFIX)):
        if parse_manifest_key(stat.key) is not None:
            yield Manifest.from_json(store.get(stat.key)[0], stat.key)


def _runs(store: ObjectStore) -> list[str]:
    return sorted({run for stat in store.list(RUNS_PREFIX) if (run := parse_run(stat.key)) is not None})


def _batches(keys: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, BATCH)):
        yield batch
