"""Publish into a folder or a bucket: objects, each read back; then manifest, metadata and HEAD; then root files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..interchange.copy_zoo import import_zoo
from ..keys import version_prefix, zoo_url
from ..publish.head import list_published, read_manifest_bytes
from ..stores.protocol import ObjectStore, get_or_none
from .parcel import Parcel


@dataclass(frozen=True, slots=True)
class Published:
    """The place of a published zoo. ``new`` is false if it was there before. A ``draft`` is not visible to others."""

    address: str
    number: int
    new: bool
    num_bytes: int
    doi: str = ""
    draft: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "address": self.address, "version": self.number, "new": self.new, "bytes": self.num_bytes,
            "doi": self.doi, "draft": self.draft,
        }  # fmt: skip

    def lines(self) -> list[str]:
        state = "a draft that only you see" if self.draft else "published" if self.new else "was published already"
        return [f"{self.address} version {self.number}: {state}, every byte read back", *self.notes]


def publish_to_store(
    parcel: Parcel, target: ObjectStore, address: str, *, progress: Callable[[int], None] = lambda size: None
) -> Published:
    """Publish in ``target``. After a kill the next call continues. Readers see a version only when it is complete.

    Args:
        address: of the target, as it was given.
        progress: called with the size of each object in bytes.

    Raises:
        StorageUsageError: another zoo has the name there, or a version that holds more; nothing was written.
        DigestMismatch: the store returned other bytes than were written; HEAD was not moved.
    """
    zoo = parcel.zoo
    copied = import_zoo(zoo, target, papers=parcel.papers, read_back=True, progress=progress)
    read_manifest_bytes(target, zoo.name)  # raises unless it is the manifest that HEAD names
    notes: tuple[str, ...] = ()
    others = [name for name in list_published(target) if name != zoo.name]
    if others:
        where = f"{address}/{version_prefix(zoo.name, copied.number)}README.md"
        notes = (f"the store has other zoos too; the card is {where}",)
    else:
        for name, data in parcel.root_files(copied.number).items():
            stored = get_or_none(target, name)
            if stored is None or stored[0] != data:
                target.put(name, data)
    return Published(zoo_url(address, zoo.name), copied.number, copied.new, copied.num_bytes, notes=notes)


def store_sizes(parcel: Parcel, version: int, repository: str | None = None) -> dict[str, int]:
    """Path and bytes of every file of a store with this version, with the papers of its root."""
    sizes = {ref.key: ref.bytes for ref in parcel.manifest.refs}
    sizes |= {key: len(data) for key, data in parcel.files(version)}
    return sizes | {name: len(data) for name, data in parcel.root_files(version, repository).items()}
