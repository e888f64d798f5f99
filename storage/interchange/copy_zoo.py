"""Copy a published zoo from one store, or from a zip file, into another store under the same manifest."""

from collections.abc import Callable
from dataclasses import dataclass

from ..canonical import sha256_hex
from ..errors import StorageError, StorageUsageError
from ..formats.manifest import Manifest, from_ranges
from ..keys import copy_key, manifest_key
from ..publish.head import Head, read_head, read_manifest_bytes, read_spec, seal_manifest
from ..stores.objects import get_object, put_object
from ..stores.protocol import ObjectStore
from ..zoo import Zoo
from .zip import copies_of


@dataclass(frozen=True, slots=True)
class CopiedZoo:
    """The version that holds the copy. ``new`` is false if the store had that version already."""

    number: int
    new: bool
    num_objects: int
    num_bytes: int


def import_zoo(zoo: Zoo, target: ObjectStore, *, progress: Callable[[int], None] | None = None) -> CopiedZoo:
    """Publish ``zoo`` in ``target`` with the same manifest, byte for byte; every object is checked on its way.

    Objects are written first, then the manifest, its copies and HEAD. Running it again continues where it stopped.

    Args:
        progress: called with the size of each object in bytes.

    Raises:
        StorageUsageError: ``target`` has another zoo of this name, or a version that holds more; nothing was written.
    """
    manifest = zoo.manifest
    data = manifest.to_json()
    sha256 = sha256_hex(data)
    head = read_head(target, zoo.name)
    num_bytes = sum(ref.bytes for ref in manifest.refs)
    if head is not None and head.manifest_sha256 == sha256:
        return CopiedZoo(head.number, False, len(manifest.refs), num_bytes)
    _check(target, zoo, head)
    for ref in manifest.refs:
        put_object(target, get_object(zoo.store, ref, f"zoo {zoo.name!r}"), ref.kind)
        if progress is not None:
            progress(ref.bytes)
    copies = copies_of(zoo)

    def write_copies(number: int) -> None:
        for name, content in copies.items():
            target.put(copy_key(zoo.name, number, name), content)

    for _ in range(64):
        head = read_head(target, zoo.name)
        _check(target, zoo, head)
        number = seal_manifest(target, zoo.name, head, data, write_copies)
        if number is not None:
            return CopiedZoo(number, True, len(manifest.refs), num_bytes)
    raise StorageError(f"zoo {zoo.name!r}: others keep sealing versions in {target.url}; try again")


def _check(target: ObjectStore, zoo: Zoo, head: Head | None) -> None:
    """Refuse a target where the name belongs to another run, or whose current version holds more states."""
    if head is None:
        spec = read_spec(target, zoo.name)
        if spec is not None and spec.content.get("run") not in (None, zoo.manifest.run):
            raise StorageUsageError(f"{target.url}: zoo {zoo.name!r} is being trained there; import into another store")
        return
    number, data = read_manifest_bytes(target, zoo.name)
    there = Manifest.from_json(data, manifest_key(zoo.name, number))
    if there.run != zoo.manifest.run:
        raise StorageUsageError(
            f"{target.url}: zoo {zoo.name!r} there is of run {there.run[:8]}, this one of {zoo.manifest.run[:8]}; "
            "import into another store"
        )
    more = set(from_ranges(there.models)) - set(zoo.models)
    if more or there.num_states > zoo.manifest.num_states:
        raise StorageUsageError(
            f"{target.url}: zoo {zoo.name!r} there holds more ({there.describe()}; {there.num_states:,} states) than "
            f"this one ({zoo.manifest.describe()}; {zoo.manifest.num_states:,} states)"
        )
