"""The contents of a data set's file, in any packing: finds them in other packings, and packs them as we read them.

A gzip file of one stream holds one content, called by the file's name without ``.gz``. A tar archive holds one per
member, called by the last part of the member's name.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from .registry import LockedFile

CHUNK_BYTES = 1 << 20
SEARCH_DEPTH = 6  # NAME of an unpacked Debian package is five levels down, usr/share/datasets/fashion-mnist/NAME
SEARCH_ENTRIES = 20_000


class Readable(Protocol):
    """An open file, or the contents of a packed one."""

    def read(self, size: int, /) -> bytes: ...


def is_resource_fork(name: str) -> bool:
    """True if macOS added this file or member (AppleDouble): it has the name of a file, but none of its bytes."""
    return "__MACOSX" in name.split("/") or name.rpartition("/")[2].startswith("._")


def holds_contents(file: LockedFile, path: Path) -> bool:
    """True if ``path`` is ``file`` packed again: it has every content that the registry knows, with its digest."""
    if not file.contents:
        return False
    seen: set[str] = set()
    try:
        for name, stream in _unpacked(path, file):
            if not _has_digest(stream, file.contents[name]):
                return False
            seen.add(name)
    except (OSError, EOFError, zlib.error, tarfile.TarError, TypeError):  # TypeError: a gzip header that ends early
        return False
    return seen == set(file.contents)


def unpacked_files(file: LockedFile, folder: Path) -> dict[str, Path] | None:
    """Paths below ``folder`` of all contents of ``file``, each with its digest; None if one is missing."""
    paths: dict[str, Path] = {}
    for path in files_called(set(file.contents) - {file.name}, folder):
        if path.name not in paths:
            with path.open("rb") as stream:
                if _has_digest(stream, file.contents[path.name]):
                    paths[path.name] = path
    return paths if file.contents and set(paths) == set(file.contents) else None


def pack(file: LockedFile, paths: Mapping[str, Path], to: Path) -> None:
    """Write the contents to ``to`` in the packing of ``file``; equal contents give equal bytes."""
    with to.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as out:
        if not file.name.endswith(".tar.gz"):
            (path,) = paths.values()
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    out.write(chunk)
            return
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, path in sorted(paths.items()):
                member = tarfile.TarInfo(name)
                member.size = path.stat().st_size
                with path.open("rb") as stream:
                    archive.addfile(member, stream)


def files_called(names: Collection[str], folder: Path) -> Iterator[Path]:
    """Files below ``folder`` with one of these names, those nearest to the folder first."""
    return (path for path in _below(folder) if path.name in names)


def listing(folder: Path) -> str:
    """The first files below ``folder``, for a message."""
    names = [str(path.relative_to(folder)) for path in _below(folder)]
    if not names:
        if not folder.is_dir():
            return "there is no such folder"
        deep = any(entry.is_dir() for entry in folder.iterdir())
        return "the folder has no files" + (f" in its first {SEARCH_DEPTH} levels" if deep else "")
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the folder has {', '.join(names[:5])}{more}"


def _below(folder: Path) -> Iterator[Path]:
    """Files of a folder tree, level by level and by name, without AppleDouble; bounded in depth and number."""
    level, count = [folder], 0
    for _ in range(SEARCH_DEPTH):
        deeper: list[Path] = []
        for place in level:
            try:
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                count += 1
                if count > SEARCH_ENTRIES:
                    return
                if is_resource_fork(entry.name) or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    deeper.append(Path(entry.path))
                elif entry.is_file():
                    yield Path(entry.path)
        level = deeper


def _unpacked(path: Path, file: LockedFile) -> Iterator[tuple[str, Readable]]:
    if not file.name.endswith(".tar.gz"):
        with gzip.open(path, "rb") as stream:
            yield next(iter(file.contents)), stream
        return
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in file.contents and not is_resource_fork(member.name):
                content = archive.extractfile(member)
                if content is not None:
                    yield name, content


def _has_digest(stream: Readable, digest: str) -> bool:
    """``digest`` is ``md5:HEX`` or ``sha256:HEX``."""
    kind, _, expected = digest.partition(":")
    total = hashlib.new(kind, usedforsecurity=False)
    while chunk := stream.read(CHUNK_BYTES):
        total.update(chunk)
    return total.hexdigest() == expected
