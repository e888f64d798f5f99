"""Copy a published zoo from one store, or from a zip file, into another store under the same manifest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..canonical import sha256_hex
from ..errors import DigestMismatch, ObjectMissing, StorageError
from ..keys import copy_key
from ..publish.head import check_copy, read_current, require_publishing, seal_manifest, states_of
from ..stores.objects import ObjectRef, get_object, put_object
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


def import_zoo(
    zoo: Zoo,
    target: ObjectStore,
    *,
    papers: Callable[[int], Mapping[str, bytes]] | None = None,
    read_back: bool = False,
    progress: Callable[[int], None] | None = None,
) -> CopiedZoo:
    """Publish ``zoo`` in ``target`` with the same manifest, byte for byte; every object is checked on its way.

    Objects are written first, then the manifest, its copies and HEAD. Running it again continues where it stopped.

    Args:
        papers: function from the number of the version to its additional files, by name; None: those of ``zoo``.
        read_back: read each object back before the manifest is written; good objects that exist are not written again.
        progress: called with the size of each object in bytes.

    Raises:
        StorageUsageError: ``target`` has another zoo of this name, or a version that holds more; nothing was written.
        DigestMismatch: what was read back is not what was written; HEAD was not moved.
    """
    manifest = zoo.manifest
    sha256 = sha256_hex(manifest.to_json())
    num_bytes = sum(ref.bytes for ref in manifest.refs)
    states = states_of(manifest)

    def write_copies(number: int) -> None:
        for name, content in (copies_of(zoo) if papers is None else papers(number)).items():
            target.put(copy_key(zoo.name, number, name), content)

    for attempt in range(64):
        head, current = read_current(target, zoo.name)
        if head is not None and head.manifest_sha256 == sha256:
            return CopiedZoo(head.number, False, len(manifest.refs), num_bytes)
        check_copy(target, manifest, states, zoo.models, current, "import into another store")
        if attempt == 0:
            require_publishing(target)
        for ref in manifest.refs:
            # A later attempt means that a collection, or another publisher, was faster: then all are written again.
            if not (read_back and attempt == 0 and _is_good(target, ref)):
                put_object(target, get_object(zoo.store, ref, f"zoo {zoo.name!r}"), ref.kind)
                if read_back:
                    get_object(target, ref, f"{target.url}, read back")
            if progress is not None:
                progress(ref.bytes)
        number = seal_manifest(target, head, current, manifest, write_copies)
        if number is not None:
            return CopiedZoo(number, True, len(manifest.refs), num_bytes)
    raise StorageError(f"zoo {zoo.name!r}: others keep sealing versions in {target.url}; try again")


def _is_good(target: ObjectStore, ref: ObjectRef) -> bool:
    stat = target.stat(ref.key)
    if stat is None or stat.size != ref.bytes:
        return False
    try:
        get_object(target, ref, target.url)
    except (ObjectMissing, DigestMismatch):
        return False
    return True
