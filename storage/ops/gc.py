"""Garbage collection: objects that nothing names are marked, and deleted by a sweep a day later.

Roots are what manifests name; weights and labels of records whose states are not all in the current manifest of their
run; the newest state of every model. Records and manifests are deleted only by
`remove.py`, with all of their zoo. docs/format.md ("Collection") proves that
sweeps and writers may run at the same time.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import PreconditionFailed, StorageError
from ..formats.manifest import Manifest
from ..formats.record import PartRecord
from ..formats.shards import from_ranges
from ..keys import (
    OBJECTS_PREFIX,
    RUNS_PREFIX,
    ZOOS_PREFIX,
    manifest_key,
    parse_manifest_key,
    parse_object_key,
    parse_run,
)
from ..publish.head import read_head
from ..runs.ledger import Ledger, read_ledger
from ..runs.marks import Mark, create_mark, is_void, read_marks, rewrite_mark
from ..stores.clock import StoreClock
from ..stores.open import require_existing
from ..stores.protocol import ObjectStore, Stat, get_or_none

logger = logging.getLogger(__name__)

MIN_AGE_SECONDS = 24 * 3600.0
MARK_OBJECTS = 500  # per mark: writers wait for the sweep of one mark, not of all
SIGN_OF_LIFE_SECONDS = 120.0  # with the budgets of a stat and a delete far below marks.SWEEP_VOID_SECONDS


@runtime_checkable
class HoldsUploads(Protocol):
    """A store whose server keeps incomplete multipart uploads."""

    def abort_stale_uploads(self, older_than_seconds: float, now_seconds: float) -> int: ...


@dataclass(frozen=True, slots=True)
class Collection:
    """The objects that one call of ``collect`` marked or deleted."""

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
    clock: StoreClock | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Collection:
    """Delete what was marked at least ``min_age_seconds`` ago by the store's clock; without such a mark, make marks.

    An object that was written again after it was marked stays. Multipart uploads of that age are aborted.

    Raises:
        StoreURLError: there is no store.
    """
    require_existing(store)
    clock = clock or StoreClock(store)
    now = clock.now()
    if not dry_run and isinstance(store, HoldsUploads):
        _abort_uploads(store, min_age_seconds, now)
    marks = read_marks(store)
    if not dry_run:
        for mark in marks:
            if not mark.keys and mark.state == "marked":  # writers have taken all objects off it; none is ever added
                store.delete(mark.key)
    marks = [mark for mark in marks if mark.keys]
    due = [mark for mark in marks if _is_due(mark, now, min_age_seconds)]
    if not due:
        marked = {key for mark in marks for key in mark.keys}
        return _mark(store, now, min_age_seconds, marked, dry_run)
    if dry_run:
        named = roots(store)
        unnamed = {key: mark for mark in due for key in mark.keys - named}  # two marks may list one object
        garbage = [stat for key, mark in unnamed.items() if (stat := _garbage(store, mark, key)) is not None]
        return Collection(len(garbage), sum(stat.size for stat in garbage), "would be swept")
    ledgers: dict[str, Ledger] = {}
    sizes = [size for mark in due for size in _sweep(store, mark, ledgers, monotonic)]
    return Collection(len(sizes), sum(sizes), "swept")


def _is_due(mark: Mark, now: float, min_age_seconds: float) -> bool:
    if mark.state == "sweeping":  # another collection is sweeping it, unless that one has crashed
        return is_void(mark, now)
    return now - mark.marked_seconds >= min_age_seconds


def _sweep(store: ObjectStore, mark: Mark, ledgers: dict[str, Ledger], monotonic: Callable[[], float]) -> Iterator[int]:
    """Delete the objects of one mark that nothing names. Yields their sizes."""
    num_retries = store.traffic.num_retries
    alive = monotonic()
    taken = rewrite_mark(store, mark, "sweeping", mark.keys)
    if taken is None:
        return  # a writer took its objects off the mark, or another collection was faster
    named = roots(store, ledgers)
    for key in sorted(mark.keys - named):
        if monotonic() - alive > SIGN_OF_LIFE_SECONDS:
            alive = monotonic()
            taken = rewrite_mark(store, taken, "sweeping", taken.keys)
            if taken is None:
                return  # a writer believed that this sweep had crashed
        stat = _garbage(store, mark, key)
        if stat is None:
            continue
        try:
            store.delete(key, if_match=stat.etag)
        except PreconditionFailed:  # written again
            continue
        yield stat.size
    if store.traffic.num_retries == num_retries:
        store.delete(taken.key)
    # Otherwise the first attempt of a delete may still be under way, so the mark stays until it is void.


def _garbage(store: ObjectStore, mark: Mark, key: str) -> Stat | None:
    """The object, unless it is gone or was written again after it was marked."""
    stat = None if parse_object_key(key) is None else store.stat(key)
    return None if stat is None or stat.modified_seconds >= mark.marked_seconds else stat


@dataclass(frozen=True, slots=True)
class Named:
    """Keys of all objects that something names: manifests, by zoo, and records, by run."""

    by_zoo: dict[str, set[str]]
    by_run: dict[str, set[str]]


def roots(store: ObjectStore, ledgers: dict[str, Ledger] | None = None) -> set[str]:
    """Keys of all objects that something names.

    Args:
        ledgers: by run, of an earlier call, whose records are not read again; they are replaced.
    """
    named = named_objects(store, ledgers)
    return set().union(*named.by_zoo.values(), *named.by_run.values())


def named_objects(store: ObjectStore, ledgers: dict[str, Ledger] | None = None) -> Named:
    """Like ``roots``, grouped by the zoo or run that names the objects. Several may name one object."""
    known = {} if ledgers is None else ledgers
    named = Named({}, {})
    published: dict[str, tuple[dict[int, set[int]], dict[int, int]]] = {}
    for zoo, manifest, is_current in _manifests(store):
        named.by_zoo.setdefault(zoo, set()).update(ref.key for ref in manifest.refs)
        if not is_current:  # HEAD may never move to it, and then the next version is made from the records again
            continue
        states, lasts = published.setdefault(manifest.run, ({}, {}))
        for shard in manifest.shards:
            for epoch, models in shard.models_by_epoch().items():
                states.setdefault(epoch, set()).update(models)
        complete = manifest.labels.rows == manifest.num_models * (manifest.num_epochs + 1)
        for model in from_ranges(manifest.models):
            if complete:  # otherwise models end at different epochs, and labels of parts stay
                lasts[model] = max(lasts.get(model, -1), manifest.num_epochs)
    for run in sorted({run for stat in store.list(RUNS_PREFIX) if (run := parse_run(stat.key)) is not None}):
        known[run] = read_ledger(store, run, known.get(run))
        states, lasts = published.get(run, ({}, {}))
        named.by_run[run] = _of_run(known[run], states, lasts)
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


def _mark(store: ObjectStore, now: float, min_age_seconds: float, marked: set[str], dry_run: bool) -> Collection:
    old = [s for s in store.list(OBJECTS_PREFIX) if now - s.modified_seconds >= min_age_seconds and s.key not in marked]
    named = roots(store) if old else set()
    garbage = [s for s in old if s.key not in named and parse_object_key(s.key) is not None]
    if not dry_run:
        for start in range(0, len(garbage), MARK_OBJECTS):
            create_mark(store, [s.key for s in garbage[start : start + MARK_OBJECTS]], now)
    phase = "would be marked" if dry_run else "marked"
    return Collection(len(garbage), sum(s.size for s in garbage), phase)


def _manifests(store: ObjectStore) -> Iterator[tuple[str, Manifest, bool]]:
    """All manifests, each with its zoo and whether HEAD names it. HEAD's manifest holds all states of earlier ones."""
    keys = [key for stat in store.list(ZOOS_PREFIX) if (key := parse_manifest_key(stat.key)) is not None]
    heads = {zoo: read_head(store, zoo) for zoo in dict.fromkeys(zoo for zoo, _ in keys)}
    for zoo, number in keys:
        head, what = heads[zoo], manifest_key(zoo, number)
        content = get_or_none(store, what)
        if content is not None:  # otherwise the zoo was removed after the listing
            yield zoo, Manifest.from_json(content[0], what), head is not None and head.number == number


def _abort_uploads(store: HoldsUploads, min_age_seconds: float, now: float) -> None:
    try:
        num_uploads = store.abort_stale_uploads(min_age_seconds, now)
    except StorageError as error:  # some servers lack multipart uploads, and some credentials may not list them
        logger.warning("stale multipart uploads could not be aborted", extra={"error": str(error)})
        return
    if num_uploads:
        logger.info("stale multipart uploads were aborted", extra={"uploads": num_uploads})
