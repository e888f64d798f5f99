"""Write a zoo as one zip file. The extracted file is a store like any other."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..canonical import canonical_json, sha256_hex
from ..formats.manifest import Manifest
from ..keys import copy_key, head_key, manifest_key
from ..publish.cards import (
    CARRIED,
    CITATION,
    FIGURES,
    LICENSE,
    RECORD,
    WEIGHTS_TABLE,
    card,
    carried_files,
    checksums,
    croissant,
    pretty,
)
from ..publish.description import ZooDescription
from ..publish.head import HEAD_FORMAT, HEAD_VERSION
from ..quantities import human_bytes
from ..stores.objects import get_object
from ..zoo import Zoo
from .folders import Report, fresh_file

NUMBER = 1  # every zip file calls its version so, and equal zoos give equal bytes
COPIES = (
    *CARRIED,
    CITATION,
    RECORD,
    "LICENSE",
    "README.md",
    "croissant.json",
    "index_dict.json",
    WEIGHTS_TABLE,
    *FIGURES,
)


@dataclass(frozen=True, slots=True)
class ZipFile(Report):
    """The file that was written."""

    num_files: int
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"files": self.num_files, "bytes": self.num_bytes}

    def summary(self) -> str:
        return f"{self.num_files:,} files, {human_bytes(self.num_bytes)}"


def zip_zoo(
    zoo: Zoo,
    path: str | PathLike[str],
    *,
    files: Iterable[tuple[str, bytes]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ZipFile:
    """Write all of ``zoo`` and check every object: without compression, in a fixed order, with fixed times.

    The file uses ZIP64 where its size requires it.

    Args:
        files: names and bytes of the members; None: ``contents``.
        progress: called with the size of each member in bytes.

    Raises:
        StorageUsageError: ``path`` exists already; nothing was written. ObjectMissing, DigestMismatch.
    """
    count = 0
    with fresh_file(Path(path)) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, data in contents(zoo) if files is None else files:
                info = zipfile.ZipInfo(name)  # its time is 1980-01-01
                info.create_system = 3
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)
                count += 1
                if progress is not None:
                    progress(len(data))
        num_bytes = part.stat().st_size
    return ZipFile(count, num_bytes)


def head_of(number: int, manifest: bytes) -> dict[str, Any]:
    """HEAD of a store whose only version this is."""
    return {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "number": number,
        "manifest_sha256": sha256_hex(manifest),
    }


def contents(zoo: Zoo) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of a store that holds only this version of the zoo: HEAD and manifest first, objects last."""
    manifest = zoo.manifest
    data = manifest.to_json()
    yield head_key(zoo.name), canonical_json(head_of(NUMBER, data))
    yield manifest_key(zoo.name, NUMBER), data
    copies = copies_of(zoo)
    for name, content in copies.items():
        yield copy_key(zoo.name, NUMBER, name), content
    for ref in sorted(manifest.refs, key=lambda ref: ref.key):
        yield ref.key, get_object(zoo.store, ref, f"zoo {zoo.name!r}")


def copies_of(zoo: Zoo) -> dict[str, bytes]:
    """The additional files of the version (card, licence, tables, checksums), or new ones if it has none."""
    manifest = zoo.manifest
    description = described(manifest)
    copies = carried_files(zoo.store, zoo.name, zoo.version, COPIES)
    copies.setdefault("LICENSE", LICENSE.encode())
    copies.setdefault("README.md", card(description, manifest).encode())
    copies.setdefault("croissant.json", pretty(croissant(description, manifest)))
    copies["labels.parquet"] = get_object(zoo.store, manifest.labels.ref, f"zoo {zoo.name!r}")
    copies["models.parquet"] = get_object(zoo.store, manifest.model_table.ref, f"zoo {zoo.name!r}")
    copies["SHA256SUMS"] = checksums(manifest, copies).encode()
    return dict(sorted(copies.items()))


def described(manifest: Manifest) -> ZooDescription:
    """The zoo's description for its card, from the manifest; it has no rows of models."""
    architecture = manifest.architecture
    return ZooDescription(
        name=manifest.zoo,
        title=manifest.title,
        source=manifest.source,
        dataset=manifest.dataset,
        architecture=architecture["name"],
        in_channels=architecture["in_channels"],
        image_size=architecture["image_size"],
        num_classes=architecture["num_classes"],
        num_models=manifest.planned_models,
        num_epochs=manifest.planned_epochs,
        layout=manifest.layout,
        rows={},
        state_dict_names=manifest.state_dict_names,
        notes=manifest.notes,
    )
