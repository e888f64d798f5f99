"""The spec of a zoo and HEAD, the pointer to its current version: the two objects of a zoo that are ever replaced."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..canonical import canonical_json, parse_json, sha256_hex
from ..errors import (
    FormatError,
    NotPublished,
    PreconditionFailed,
    SpecChanged,
    StorageError,
    StorageUsageError,
    StoreURLError,
    training_advice,
)
from ..formats.manifest import Manifest
from ..formats.record import check_format
from ..formats.shards import from_ranges
from ..keys import ZOOS_PREFIX, head_key, manifest_key, parse_zoo_key, parse_zoo_url, spec_key
from ..runs.marks import unmark
from ..stores.environment import check_no_credentials
from ..stores.hub import default_zoo, hub_address
from ..stores.open import require_existing
from ..stores.probe import probe, require
from ..stores.protocol import ObjectStore, create, get_or_none

HEAD_FORMAT = "zooforge.head"
HEAD_VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredSpec:
    """``content`` is the whole spec as its room wrote it, with its run id; ``etag`` allows one swap."""

    content: dict[str, Any]
    etag: str


def read_spec(store: ObjectStore, zoo: str) -> StoredSpec | None:
    content = get_or_none(store, spec_key(zoo))
    if content is None:
        return None
    value = parse_json(content[0], spec_key(zoo))
    if not isinstance(value, dict):
        raise FormatError(f"{spec_key(zoo)}: expected a JSON object")
    return StoredSpec(value, content[1])


def create_spec(store: ObjectStore, zoo: str, content: Mapping[str, Any]) -> StoredSpec:
    """The spec that is there now: ``content`` if the zoo is new, else what it was before; compare the two."""
    data = canonical_json(dict(content))
    try:
        etag = store.put(spec_key(zoo), data, if_absent=True)
    except PreconditionFailed:
        stored = read_spec(store, zoo)
        if stored is None:
            raise
        return stored
    return StoredSpec(dict(content), etag)


def swap_spec(store: ObjectStore, zoo: str, content: Mapping[str, Any], old: StoredSpec) -> StoredSpec:
    """Replace ``old``. The caller has checked that the rows of ``old`` are the same in ``content``.

    Raises:
        SpecChanged: another user replaced it meanwhile.
    """
    data = canonical_json(dict(content))
    try:
        etag = store.put(spec_key(zoo), data, if_match=old.etag)
    except PreconditionFailed:
        now = get_or_none(store, spec_key(zoo))
        if now is None or now[0] != data:
            raise SpecChanged(f"{store.url}: {spec_key(zoo)} was changed by another user; run again") from None
        etag = now[1]
    return StoredSpec(dict(content), etag)


@dataclass(frozen=True, slots=True)
class Head:
    """The current version of a zoo."""

    number: int
    manifest_sha256: str
    etag: str


def read_head(store: ObjectStore, zoo: str) -> Head | None:
    content = get_or_none(store, head_key(zoo))
    if content is None:
        return None
    value = parse_json(content[0], head_key(zoo))
    check_format(value, HEAD_FORMAT, HEAD_VERSION, head_key(zoo))
    if not isinstance(value.get("number"), int) or not isinstance(value.get("manifest_sha256"), str):
        raise FormatError(f"{head_key(zoo)}: names no version")
    return Head(value["number"], value["manifest_sha256"], content[1])


def move_head(store: ObjectStore, zoo: str, number: int, manifest: bytes, old: Head | None) -> bool:
    """Point HEAD at version ``number``. False if another user moved it meanwhile; it never goes back."""
    value = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "number": number,
        "manifest_sha256": sha256_hex(manifest),
    }
    try:
        if old is None:
            store.put(head_key(zoo), canonical_json(value), if_absent=True)
        else:
            store.put(head_key(zoo), canonical_json(value), if_match=old.etag)
    except PreconditionFailed:
        now = read_head(store, zoo)
        return now is not None and (now.number, now.manifest_sha256) == (number, value["manifest_sha256"])
    return True


def require_publishing(store: ObjectStore) -> None:
    """Raises StoreRefused if the store's conditional writes are not atomic: two publishers could both win."""
    require(probe(store), store.url, publishing=True)


def read_current(store: ObjectStore, zoo: str) -> tuple[Head | None, Manifest | None]:
    """HEAD and the manifest that it names; both None if no version is published."""
    head = read_head(store, zoo)
    if head is None:
        return None, None
    _, data = read_manifest_bytes(store, zoo, head.number)
    return head, Manifest.from_json(data, manifest_key(zoo, head.number))


def states_of(manifest: Manifest) -> dict[int, set[int]]:
    """Epoch to the models whose weights the version holds then."""
    states: dict[int, set[int]] = {}
    for shard in manifest.shards:
        for epoch, models in shard.models_by_epoch().items():
            states.setdefault(epoch, set()).update(models)
    return states


def holds_all(states: Mapping[int, Collection[int]], models: Collection[int], current: Manifest) -> bool:
    """True if a version with these states and models holds all that ``current`` does."""
    here = states_of(current)
    kept = all(have <= set(states.get(epoch, ())) for epoch, have in here.items())
    return kept and set(from_ranges(current.models)) <= set(models)


def check_copy(
    target: ObjectStore,
    manifest: Manifest,
    states: Mapping[int, Collection[int]],
    models: Collection[int],
    current: Manifest | None,
    advice: str,
) -> None:
    """Refuse to copy a version, or a part of it, over another run's, or over one that holds more.

    Args:
        manifest: of the version that is copied from.
        states: epoch to models, of what the copy will hold.
        advice: ends the message.

    Raises:
        StorageUsageError
    """
    zoo, run = manifest.zoo, manifest.run
    if current is None:
        spec = read_spec(target, zoo)
        if spec is not None and spec.content.get("run") not in (None, run):
            raise StorageUsageError(f"{target.url}: zoo {zoo!r} is being trained there; {advice}")
        return
    if current.run != run:
        raise StorageUsageError(
            f"{target.url}: zoo {zoo!r} there is of run {current.run[:8]}, this one of {run[:8]}; {advice}"
        )
    if not holds_all(states, models, current):
        num_states = sum(len(here) for here in states.values())
        raise StorageUsageError(
            f"{target.url}: zoo {zoo!r} there holds more, or other states ({current.describe()}; "
            f"{current.num_states:,} states) than what was asked for ({len(models):,} models; {num_states:,} states); "
            f"{advice}"
        )


def seal_manifest(
    store: ObjectStore,
    head: Head | None,
    current: Manifest | None,
    manifest: Manifest,
    write_copies: Callable[[int], None],
) -> int | None:
    """Write manifest, copies and HEAD of the version after ``head``. Every object of ``manifest`` is written.

    A collection may be about to delete objects that a dead publisher wrote before; HEAD moves when all are there.

    Args:
        head, current: as ``read_current`` gave them before the objects were written.
        write_copies: gets the version's number.

    Returns:
        The number. None if others were first, or a collection was faster: read HEAD and write the objects again.
    """
    zoo, data = manifest.zoo, manifest.to_json()
    known = set() if current is None else set(current.refs)  # named by HEAD, so never deleted
    new = [ref for ref in manifest.refs if ref not in known]
    if unmark(store, new):
        return None
    number = 1 if head is None else head.number + 1
    while not create(store, manifest_key(zoo, number), data):
        other, _ = store.get(manifest_key(zoo, number))
        if _may_follow(store, Manifest.from_json(other, manifest_key(zoo, number)), manifest, current):
            move_head(store, zoo, number, other, head)  # its publisher has not moved HEAD yet, or never will
            return None
        number += 1
    if unmark(store, new):
        return None
    write_copies(number)
    return number if move_head(store, zoo, number, data, head) else None


def _may_follow(store: ObjectStore, other: Manifest, ours: Manifest, current: Manifest | None) -> bool:
    """True if HEAD may move to a manifest that another publisher sealed: it shrinks nothing, and is all there."""
    if other.run != ours.run:
        return False
    if current is not None and not (
        current.run == other.run and holds_all(states_of(other), from_ranges(other.models), current)
    ):
        return False
    return not unmark(store, other.refs)


def read_manifest_bytes(store: ObjectStore, zoo: str, number: int | None = None) -> tuple[int, bytes]:
    """Number and manifest of a version, by default of the current one.

    Raises:
        NotPublished: no such zoo or version.
        StoreURLError: no such store.
        FormatError: HEAD names another manifest than is there.
    """
    head = None
    if number is None:
        head = read_head(store, zoo)
        if head is None:
            require_existing(store)
            raise NotPublished(f"{store.url}: zoo {zoo!r} has no published version{_what_there_is(store, zoo)}")
        number = head.number
    content = get_or_none(store, manifest_key(zoo, number))
    if content is None:
        require_existing(store)
        raise NotPublished(f"{store.url}: zoo {zoo!r} has no version {number}")
    if head is not None and sha256_hex(content[0]) != head.manifest_sha256:
        raise FormatError(f"{manifest_key(zoo, number)}: not the manifest that HEAD names; it is truncated or damaged")
    return number, content[0]


def list_zoos(store: ObjectStore) -> list[str]:
    """Names of all zoos with a spec or a published version, sorted. This lists; readers of a zoo never do."""
    return sorted({zoo for stat in store.list(ZOOS_PREFIX) if (zoo := parse_zoo_key(stat.key)) is not None})


def list_published(store: ObjectStore) -> list[str]:
    """Names of the zoos that have a published version, sorted. Raises StoreRefused where a store cannot be listed."""
    keys = {stat.key for stat in store.list(ZOOS_PREFIX)}
    return sorted({zoo for key in keys if (zoo := parse_zoo_key(key)) is not None and key.endswith(f"/{zoo}/HEAD")})


def _what_there_is(store: ObjectStore, zoo: str) -> str:
    """The end of the message that a zoo is not published: it lists the published zoos, the nearest name first."""
    try:
        names = list_published(store)
    except StorageError:
        names = []
    if close := difflib.get_close_matches(zoo, names, 1):
        return f"; did you mean {close[0]}?"
    holds = f"; the store holds {some_names(names)}" if names else ""
    return holds + training_advice(f"`zoo vectorize {zoo}` makes one")


def some_names(names: Sequence[str], limit: int = 12) -> str:
    """At most ``limit`` of ``names``, in words."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def split_zoo_url(url: str) -> tuple[str, str, int | None]:
    """(store, zoo name, version or None) of an address. Raises StoreURLError."""
    check_no_credentials(url, "the address of a zoo")
    url = hub_address(url)
    if url.startswith("hf://"):
        url = default_zoo(url)
    parsed = parse_zoo_url(url)
    if parsed is None:
        raise StoreURLError(
            f"{url}: no zoo's address; expected STORE/zoos/NAME, e.g. s3://bucket/prefix/zoos/mnist-cnn-s-seed"
        )
    return parsed
