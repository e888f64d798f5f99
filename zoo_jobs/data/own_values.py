"""Values of a user's own images: read once from their files, then kept by digest in the cache and in stores of zoos.

The first decoding of pictures is the truth. The cache remembers by the digest of the files which values they gave.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from zooforge.storage.keys import dataset_key
from zooforge.storage.stores.protocol import ObjectStore

from ..errors import InputError
from .mirror import receive, send
from .own import ImageFile, OwnImages, values_digest
from .own_files import files_digest, read_folder, read_npz
from .raw import RawDataset, RawImages
from .registry import DATASETS
from .sources import cache_errors, partial_file, save_tensors

STORE_FOLDER = "own"  # below datasets/, for all images that no registry knows
FILE_NAME = "images.safetensors"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def read_file(source: ImageFile, base: Path, cache: Path) -> tuple[OwnImages, RawDataset | None]:
    """Facts and values of the images that ``source`` names.

    Args:
        base: folder from which relative paths start.

    Returns:
        None instead of the values if the cache has them.

    Raises:
        InputError: the files cannot be read in the stated form.
    """
    if source.npz is not None and source.folder is None and source.test_folder is None:
        return read_npz(base / source.npz, source.num_classes)
    if source.folder is None or source.npz is not None:
        raise InputError("give npz, or folder and perhaps test_folder")
    if source.num_classes is not None:
        raise InputError("num_classes belongs to npz; a folder has as many classes as folders")
    folder, test_folder = base / source.folder, None if source.test_folder is None else base / source.test_folder
    note = _decoding(cache, files_digest(folder, test_folder))
    known = _facts_in(note)
    if known is not None and kept(known, cache) is not None:
        return known, None
    return read_folder(folder, test_folder)


def keep(facts: OwnImages, raw: RawDataset | None, cache: Path, source: ImageFile, base: Path) -> None:
    """Keep in the cache what ``read_file`` returned."""
    if raw is None:
        return
    with cache_errors(cache):
        if kept(facts, cache) is None:
            _write(facts, raw, _path(facts, cache))
        if source.folder is not None:
            test_folder = None if source.test_folder is None else base / source.test_folder
            _write_facts(_decoding(cache, files_digest(base / source.folder, test_folder)), facts)


def values(facts: OwnImages, cache: Path, store: ObjectStore | None = None) -> RawDataset:
    """The images from the cache, else from ``store``.

    Raises:
        InputError: neither has them, or those of the store have another digest.
    """
    raw = kept(facts, cache)
    if raw is None and store is not None:
        path = _path(facts, cache)
        with cache_errors(cache):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(path) as partial:
                if receive(store, store_key(facts), partial):
                    raw = _read(facts, partial)
                    if raw is None:
                        raise InputError(f"{store.url}/{store_key(facts)} does not hold the images of its digest")
                    partial.replace(path)
    if raw is None:
        where = "" if store is None else f", nor in {store.url}"
        raise InputError(
            f"{facts.name}: the images are not in the cache {cache}{where}; use the spec whose `dataset` names their "
            "file, where that file is"
        )
    return raw


def kept(facts: OwnImages, cache: Path) -> RawDataset | None:
    """The images in the cache; None if they are not there or damaged."""
    return _read(facts, _path(facts, cache))


def send_values(facts: OwnImages, cache: Path, store: ObjectStore) -> int:
    """Put the images into ``store``, if it lacks them, and return the bytes sent.

    Raises:
        InputError: neither the store nor the cache has them.
    """
    if store.stat(store_key(facts)) is not None:
        return 0
    values(facts, cache)
    return send(store, store_key(facts), _path(facts, cache))


def store_key(facts: OwnImages) -> str:
    return dataset_key(STORE_FOLDER, facts.digest, FILE_NAME)


def add(name: str, facts: OwnImages, cache: Path) -> None:
    """Give ``name`` to images in the cache, so that specs can use it as `dataset`. Raises as ``check_name``."""
    check_name(name, facts, cache)
    with cache_errors(cache):
        _write_facts(_named(name, cache), facts)


def check_name(name: str, facts: OwnImages, cache: Path) -> None:
    """Raises InputError: ``name`` is not a name, or other images have it."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r}: a name is lower-case words joined by hyphens")
    if name in DATASETS:
        raise InputError(f"{name} is a data set of the registry; choose another name")
    path = _named(name, cache)
    there = _facts_in(path)
    if there is not None and there.digest != facts.digest:
        raise InputError(
            f"{name} is {there.name} already, these are {facts.name}; choose another name, or delete {path}"
        )


def added(cache: Path) -> Mapping[str, OwnImages]:
    """Images that `zoo data add` named on this machine, by name."""
    named = {path.stem: _facts_in(path) for path in sorted((cache / "images" / "named").glob("*.json"))}
    return {name: facts for name, facts in named.items() if facts is not None}


def _path(facts: OwnImages, cache: Path) -> Path:
    return cache / "images" / f"{facts.digest}.safetensors"


def _named(name: str, cache: Path) -> Path:
    return cache / "images" / "named" / f"{name}.json"


def _decoding(cache: Path, digest: str) -> Path:
    return cache / "images" / "decoded" / f"{digest}.json"


def _facts_in(path: Path) -> OwnImages | None:
    """The facts in a file of the cache; None if it is missing or damaged."""
    with suppress(FileNotFoundError, ValidationError, UnicodeDecodeError):
        return OwnImages.model_validate_json(path.read_text(encoding="utf-8"))
    return None


def _write_facts(path: Path, facts: OwnImages) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path) as partial:
        partial.write_text(json.dumps(facts.model_dump(mode="json")), encoding="utf-8")
        partial.replace(path)


def _write(facts: OwnImages, raw: RawDataset, path: Path) -> None:
    arrays = {"images": raw.train.images, "labels": raw.train.labels}
    if raw.test is not None:
        arrays |= {"test_images": raw.test.images, "test_labels": raw.test.labels}
    save_tensors(path, arrays, {"num_classes": str(facts.num_classes)})


def _read(facts: OwnImages, path: Path) -> RawDataset | None:
    try:
        arrays = load_file(path)
        train = RawImages(arrays["images"], arrays["labels"])
        test = RawImages(arrays["test_images"], arrays["test_labels"]) if "test_images" in arrays else None
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    raw = RawDataset(train, test)
    return raw if values_digest(raw, facts.num_classes) == facts.digest else None
