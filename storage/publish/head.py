"""The two objects of a zoo that are ever replaced: its spec, and the pointer to its current version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..canonical import canonical_json, parse_json, sha256_hex
from ..errors import FormatError, NotPublished, PreconditionFailed, SpecChanged, StoreURLError
from ..formats.record import check_format
from ..keys import ZOOS_PREFIX, head_key, manifest_key, parse_zoo_key, parse_zoo_url, spec_key
from ..stores.hub import default_zoo
from ..stores.protocol import ObjectStore, get_or_none

HEAD_FORMAT = "zooforge.head"
HEAD_VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredSpec:
    """``content`` is the whole spec as its room wrote it, with its run id; ``etag`` allows one swap."""

    content: dict[str, Any]
    etag: str


def read_spec(store: ObjectStore, zoo: str) -> StoredSpec | None:
    found = get_or_none(store, spec_key(zoo))
    if found is None:
        return None
    value = parse_json(found[0], spec_key(zoo))
    if not isinstance(value, dict):
        raise FormatError(f"{spec_key(zoo)}: expected a JSON object")
    return StoredSpec(value, found[1])


def create_spec(store: ObjectStore, zoo: str, content: Mapping[str, Any]) -> StoredSpec:
    """The spec that is there now: ``content`` if the zoo is new, else what it was before; compare the two."""
    data = canonical_json(dict(content))
    try:
        etag = store.put(spec_key(zoo), data, if_absent=True)
    except PreconditionFailed:
        found = read_spec(store, zoo)
        if found is None:
            raise
        return found
    return StoredSpec(dict(content), etag)


def swap_spec(store: ObjectStore, zoo: str, content: Mapping[str, Any], old: StoredSpec) -> StoredSpec:
    """Replace ``old``, whose existing rows the caller has found equal to ``content``'s.

    Raises:
        SpecChanged: somebody else replaced it meanwhile.
    """
    data = canonical_json(dict(content))
    try:
        etag = store.put(spec_key(zoo), data, if_match=old.etag)
    except PreconditionFailed:
        now = get_or_none(store, spec_key(zoo))
        if now is None or now[0] != data:
            raise SpecChanged(f"{store.url}: {spec_key(zoo)} was changed by somebody else; run again") from None
        etag = now[1]
    return StoredSpec(dict(content), etag)


@dataclass(frozen=True, slots=True)
class Head:
    """The current version of a zoo."""

    number: int
    manifest_sha256: str
    etag: str


def read_head(store: ObjectStore, zoo: str) -> Head | None:
    found = get_or_none(store, head_key(zoo))
    if found is None:
        return None
    value = parse_json(found[0], head_key(zoo))
    check_format(value, HEAD_FORMAT, HEAD_VERSION, head_key(zoo))
    if not isinstance(value.get("number"), int) or not isinstance(value.get("manifest_sha256"), str):
        raise FormatError(f"{head_key(zoo)}: names no version")
    return Head(value["number"], value["manifest_sha256"], found[1])


def move_head(store: ObjectStore, zoo: str, number: int, manifest: bytes, old: Head | None) -> bool:
    """Point HEAD at version ``number``. False if somebody else moved it meanwhile; it never goes back."""
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


def seal_manifest(
    store: ObjectStore, zoo: str, head: Head | None, manifest: bytes, write_copies: Callable[[int], None]
) -> int | None:
    """Write manifest, copies and HEAD of the version behind ``head``; its number, or None if others were first.

    ``write_copies`` gets the number.
    """
    number = 1 if head is None else head.number + 1
    key = manifest_key(zoo, number)
    try:
        store.put(key, manifest, if_absent=True)
    except PreconditionFailed:
        found, _ = store.get(key)
        if found != manifest:  # sealed by others who have not moved HEAD yet, or never will
            move_head(store, zoo, number, found, head)
            return None
    write_copies(number)
    return number if move_head(store, zoo, number, manifest, head) else None


def read_manifest_bytes(store: ObjectStore, zoo: str, number: int | None = None) -> tuple[int, bytes]:
    """Number and manifest of a version, by default of the current one.

    Raises:
        NotPublished: no such zoo or version. FormatError: HEAD names another manifest than is there.
    """
    head = None
    if number is None:
        head = read_head(store, zoo)
        if head is None:
            raise NotPublished(f"{store.url}: zoo {zoo!r} has no published version; `zoo vectorize {zoo}` makes one")
        number = head.number
    found = get_or_none(store, manifest_key(zoo, number))
    if found is None:
        raise NotPublished(f"{store.url}: zoo {zoo!r} has no version {number}")
    if head is not None and sha256_hex(found[0]) != head.manifest_sha256:
        raise FormatError(f"{manifest_key(zoo, number)}: not the manifest that HEAD names; it is truncated or damaged")
    return number, found[0]


def list_zoos(store: ObjectStore) -> list[str]:
    """Names of all zoos with a spec or a published version, sorted. This lists; readers of a zoo never do."""
    return sorted({zoo for stat in store.list(ZOOS_PREFIX) if (zoo := parse_zoo_key(stat.key)) is not None})


def split_zoo_url(url: str) -> tuple[str, str, int | None]:
    """(store, zoo name, version or None) of an address. Raises StoreURLError."""
    if url.startswith("hf://"):
        url = default_zoo(url)
    parsed = parse_zoo_url(url)
    if parsed is None:
        raise StoreURLError(
            f"{url}: no zoo's address; expected STORE/zoos/NAME, e.g. s3://bucket/prefix/zoos/mnist-cnn-s-seed"
        )
    return parsed
