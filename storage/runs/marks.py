"""Marks: lists of objects that a collection will delete, and how a writer takes its objects off them.

docs/format.md ("Collection") states the rule and proves that no object that a record or manifest names is deleted.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

from ..canonical import canonical_json, parse_json
from ..errors import FormatError, PreconditionFailed
from ..keys import GC_PREFIX, gc_key
from ..stores.clock import StoreClock
from ..stores.objects import ObjectRef
from ..stores.protocol import ObjectStore, get_or_none

SWEEP_VOID_SECONDS = 600.0
"""Seconds after a sweep's last sign of life. After this time, none of its requests can still be in progress."""
POLL_SECONDS = 2.0
NUM_READERS = 16

State = Literal["marked", "sweeping"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Keys that nothing named at ``marked_seconds``; a sweep may delete them once it has made the mark ``sweeping``.

    Both times are the store's. ``written_seconds`` is when the object was written last: a sweep's last sign of life.
    """

    key: str
    etag: str
    state: State
    keys: frozenset[str]
    marked_seconds: float
    written_seconds: float = field(compare=False)


# Marks by key, and the tag that a listing gave them: a mark of many objects is read once, not at each commit.
_known: WeakKeyDictionary[Any, dict[str, tuple[str, Mark]]] = WeakKeyDictionary()


def read_marks(store: ObjectStore) -> list[Mark]:
    """All marks. Raises FormatError."""
    known = _known.get(store, {})
    marks: dict[str, tuple[str, Mark]] = {}
    for stat in store.list(GC_PREFIX):
        tag, mark = known.get(stat.key, ("", None))
        if mark is None or tag != stat.etag:
            content = get_or_none(store, stat.key)
            if content is None:
                continue
            mark = _parse(stat.key, content[0], content[1], stat.modified_seconds)
        marks[stat.key] = (stat.etag, replace(mark, written_seconds=stat.modified_seconds))
    _known[store] = marks
    return [mark for _, mark in marks.values()]


def create_mark(store: ObjectStore, keys: Iterable[str], marked_seconds: float) -> None:
    """Write a mark under the first free number from ``marked_seconds`` on."""
    data = _content("marked", keys, marked_seconds)
    for number in range(int(marked_seconds), int(marked_seconds) + 10**6):
        try:
            store.put(gc_key(number), data, if_absent=True)
        except PreconditionFailed:
            if store.get(gc_key(number))[0] != data:
                continue
        return


def rewrite_mark(store: ObjectStore, mark: Mark, state: State, keys: Iterable[str]) -> Mark | None:
    """Replace ``mark`` if it is still as it was read. None if it is not."""
    data = _content(state, keys, mark.marked_seconds)
    try:
        etag = store.put(mark.key, data, if_match=mark.etag)
    except PreconditionFailed:
        content = get_or_none(store, mark.key)
        if content is None or content[0] != data:
            return None
        etag = content[1]  # written, and the reply was lost
    return replace(mark, etag=etag, state=state, keys=frozenset(keys))


def unmark(
    store: ObjectStore,
    refs: Sequence[ObjectRef],
    clock: StoreClock | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> list[ObjectRef]:
    """Take objects off every mark, and wait for the sweeps that may delete them.

    Call this when all objects are written: once before and once after writing the record or manifest that names them.

    Returns:
        The objects that do not exist. Write them again; after that no collection deletes them.
    """
    keys = {ref.key for ref in refs}
    while True:
        marks = [mark for mark in read_marks(store) if not keys.isdisjoint(mark.keys)]
        for mark in marks:
            if mark.state == "sweeping":
                clock = clock or StoreClock(store)
                if not is_void(mark, clock.now()):
                    wait(POLL_SECONDS)
                    break
            rewrite_mark(store, mark, "marked", mark.keys - keys)  # if it has changed, it is read again
        if not marks:
            return _missing(store, refs)


def _missing(store: ObjectStore, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
    if store.root is not None or len(refs) <= NUM_READERS:
        return [ref for ref in refs if store.stat(ref.key) is None]
    with ThreadPoolExecutor(NUM_READERS) as pool:
        stats = pool.map(lambda ref: store.stat(ref.key), refs)
        return [ref for ref, stat in zip(refs, stats, strict=True) if stat is None]


def put_missing(store: ObjectStore, puts: Mapping[ObjectRef, Callable[[], Any]]) -> None:
    """``unmark`` the objects, and call the function of each that is not there: it writes the object again."""
    for ref in unmark(store, list(puts)):
        puts[ref]()


def is_void(mark: Mark, now_seconds: float) -> bool:
    """True if the sweep that took ``mark`` has crashed, and its last request has been answered or dropped."""
    return now_seconds - mark.written_seconds > SWEEP_VOID_SECONDS


def _content(state: State, keys: Iterable[str], marked_seconds: float) -> bytes:
    value = {"state": state, "objects": sorted(keys), "marked_seconds": marked_seconds}
    return canonical_json({**value, "write": secrets.token_hex(8)})  # no two contents, and so no two tags, are equal


def _parse(key: str, data: bytes, etag: str, written_seconds: float) -> Mark:
    value = parse_json(data, key)
    if isinstance(value, list):  # written by an earlier version
        value = {"state": "marked", "objects": value, "marked_seconds": written_seconds}
    objects = value.get("objects") if isinstance(value, dict) else None
    if not isinstance(objects, list) or not all(isinstance(name, str) for name in objects):
        raise FormatError(f"{key}: not a list of keys")
    if value.get("state") not in ("marked", "sweeping") or not isinstance(value.get("marked_seconds"), int | float):
        raise FormatError(f"{key}: expected the state marked or sweeping, and the time of the mark")
    return Mark(key, etag, value["state"], frozenset(objects), float(value["marked_seconds"]), written_seconds)
