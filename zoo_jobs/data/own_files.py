"""Read a user's own images from an npz file or a folder of pictures, within the reading budget, without guessing."""

import hashlib
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zooforge.storage import budget
from zooforge.storage.budget import Meter
from zooforge.storage.errors import BudgetExceeded

from ..errors import InputError, nearest
from .own import MAX_CLASSES, OwnImages, facts
from .raw import RawDataset, RawImages

ARRAYS = ("images", "labels", "test_images", "test_labels")
SUFFIXES = (".png", ".jpg", ".jpeg")
CHANNELS = {"L": 1, "1": 1, "RGB": 3, "P": 3}  # by Pillow's mode; palettes are resolved, which loses nothing
ORIENTATION = 0x0112  # EXIF tag

Pictures = list[tuple[int, Path]]  # label and file


def read_npz(path: Path, num_classes: int | None = None) -> tuple[OwnImages, RawDataset]:
    """Images and labels of an npz file; no pickle is ever loaded.

    Args:
        num_classes: None: the largest label plus 1, every class having an image.

    Raises:
        InputError: the file is not one, or its arrays are not uint8 square images with labels 0 to 255.
    """
    meter = budget.IMAGES.meter(str(path))
    with _refusal(path), path.open("rb") as file:
        meter.add(num_bytes=os.fstat(file.fileno()).st_size)
        with zipfile.ZipFile(file) as archive:
            arrays = _arrays(archive, meter)
        train = _images(arrays, "")
        test = _images(arrays, "test_") if "test_images" in arrays else None
        raw = RawDataset(train, test)
        if test is not None and test.images.shape[1:] != train.images.shape[1:]:
            raise ValueError(
                f"test_images have the shape {test.images.shape[1:]}, images {train.images.shape[1:]} (side, side, "
                "channels)"
            )
        return facts(raw, _num_classes(raw, num_classes)), raw


def read_folder(folder: Path, test_folder: Path | None = None) -> tuple[OwnImages, RawDataset]:
    """Pictures of a folder per class, classes and files in the order of their names.

    Raises:
        InputError: a folder or file is not of the required form; the message names it.
    """
    meter = budget.IMAGES.meter(str(folder))
    with _refusal(folder):
        class_names, pictures = _pictures(folder, meter)
        test_pictures: Pictures = []
        if test_folder is not None:
            test_names, test_pictures = _pictures(test_folder, meter)
            if test_names != class_names:
                odd = sorted(set(test_names) ^ set(class_names))
                raise InputError(f"{test_folder}: other classes than {folder}: {_few(odd)}")
        first = _opened(pictures[0][1])
        train = _decoded(pictures, first, meter)
        test = _decoded(test_pictures, first, meter) if test_pictures else None
        raw = RawDataset(train, test)
        return facts(raw, len(class_names), tuple(class_names)), raw


def files_digest(folder: Path, test_folder: Path | None = None) -> str:
    """SHA-256 over names and bytes of the pictures: equal for equal files, whatever decodes them. Raises InputError."""
    meter = budget.IMAGES.meter(str(folder))
    total = hashlib.sha256()
    with _refusal(folder):
        for number, root in enumerate((folder, test_folder)):
            for _, path in [] if root is None else _pictures(root, meter)[1]:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{number} {path.parent.name}/{path.name} {digest}\n".encode())
    return total.hexdigest()


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    """Turn every exception while reading a foreign file into an InputError that begins with its path."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or path}: no such file or folder") from None
    except BudgetExceeded as error:
        raise InputError(f"{error}; it is more than may be read as your own images") from None
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: {message}") from error


def _arrays(archive: zipfile.ZipFile, meter: Meter) -> dict[str, NDArray[Any]]:
    """The arrays by name. Each header is judged before its values are read."""
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    for name in infos:
        if name not in ARRAYS:
            close = nearest(name, ARRAYS)
            offer = f"did you mean {close!r}? " if close else ""
            raise ValueError(f"has an array {name!r}; {offer}accepted: {', '.join(ARRAYS)}")
    if len(infos) != len(archive.infolist()):
        raise ValueError("has two arrays of one name")
    for name in ARRAYS[:2] if not {"test_images", "test_labels"} & set(infos) else ARRAYS:
        if name not in infos:
            raise ValueError(f"has no array {name!r}; it has {', '.join(infos) or 'none'}")
    arrays = {}
    for name in ARRAYS:
        if name in infos:
            _check_header(name, archive, infos[name], meter)
            with archive.open(infos[name]) as stream:
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _check_header(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, meter: Meter) -> None:
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"{name} is of version {version} of the npy format, expected (1, 0) or (2, 0)")
        header_bytes = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which would be unpickled; expected numbers")
    if name.endswith("labels"):
        if dtype.kind not in "iu" or len(shape) != 1:
            raise ValueError(f"{name} are {dtype} of shape {_shown(shape)}, expected integers of shape (N)")
    elif dtype != np.uint8:
        raise ValueError(f"{name} are {dtype}, expected uint8, values 0 to 255")
    elif len(shape) not in (3, 4):
        raise ValueError(f"{name} have the shape {_shown(shape)}, expected (N, H, W) or (N, H, W, C)")
    elif shape[1] != shape[2]:
        raise ValueError(f"{name} are {shape[1]} x {shape[2]}, expected square images (N, H, W) or (N, H, W, C)")
    elif len(shape) == 4 and shape[3] not in (1, 3):
        raise ValueError(f"{name} have {shape[3]} channels, expected 1 or 3 in the last axis")
    if min(shape) < 1:
        raise ValueError(f"{name} have the shape {_shown(shape)}, which is empty")
    num_bytes = math.prod(shape) * dtype.itemsize
    meter.add(num_bytes=num_bytes, num_elements=shape[0])
    if info.file_size != header_bytes + num_bytes:
        raise ValueError(f"{name}: {info.file_size - header_bytes:,} bytes of values, its shape asks {num_bytes:,}")


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _images(arrays: dict[str, NDArray[Any]], prefix: str) -> RawImages:
    images, labels = arrays[f"{prefix}images"], arrays[f"{prefix}labels"]
    if len(images) != len(labels):
        raise ValueError(f"{len(images):,} {prefix}images, but {len(labels):,} {prefix}labels")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise ValueError(f"{prefix}labels are {low} to {high}, expected 0 to {MAX_CLASSES - 1}")
    pixels = images if images.ndim == 4 else images[..., None]
    return RawImages(np.ascontiguousarray(pixels), labels.astype(np.uint8))


def _num_classes(raw: RawDataset, stated: int | None) -> int:
    """The stated number, or the largest label plus 1. Raises ValueError: larger labels, or a class without images."""
    largest = int(raw.train.labels.max())
    number = largest + 1 if stated is None else stated
    for name, part in (("labels", raw.train), ("test_labels", raw.test)):
        if part is not None and int(part.labels.max()) >= number:
            known = f"num_classes is {number}" if stated is not None else f"labels go to {largest}"
            raise ValueError(f"{name} go to {int(part.labels.max())}, but {known}")
    if number < 2:
        raise ValueError("all labels are 0: images of one class teach nothing")
    counts = np.bincount(raw.train.labels, minlength=number)
    if stated is None and not counts.all():
        raise ValueError(
            f"no image has label {int(np.flatnonzero(counts == 0)[0])}; number the classes from 0, or state "
            f"num_classes: {number}"
        )
    return number


def _pictures(folder: Path, meter: Meter) -> tuple[list[str], Pictures]:
    """Names of the classes, and label and path of every picture. Hidden files are skipped; other files are refused."""
    classes = []
    for entry in _entries(folder):
        if not entry.is_dir():
            raise InputError(f"{entry.path}: a file where folders of classes are expected")
        classes.append(entry)
    if len(classes) < 2:
        raise InputError(f"{folder}: {len(classes)} folders of classes, at least 2 are expected")
    if len(classes) > MAX_CLASSES:
        raise InputError(f"{folder}: {len(classes)} folders of classes, at most {MAX_CLASSES} are")
    pictures: Pictures = []
    for label, place in enumerate(classes):
        entries = _entries(Path(place.path))
        if not entries:
            raise InputError(f"{place.path}: a class without pictures")
        meter.add(num_elements=len(entries))
        for entry in entries:
            if not entry.is_file() or not entry.name.lower().endswith(SUFFIXES):
                kind = "a folder" if entry.is_dir() else "neither PNG nor JPEG by its name"
                raise InputError(f"{entry.path}: {kind}; a class's folder holds PNG and JPEG pictures alone")
            pictures.append((label, Path(entry.path)))
    return [place.name for place in classes], pictures


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as names:
        entries = [entry for entry in names if not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: entry.name)


def _opened(path: Path) -> tuple[int, int]:
    """Side and channels of a picture, from its header. Raises InputError if decoding would drop or rotate anything."""
    with _refusal(path), Image.open(path, formats=("PNG", "JPEG")) as image:
        width, height = image.size
        problem = None
        if width != height:
            problem = f"{width} x {height} pixels, expected square pictures"
        elif image.mode not in CHANNELS or "transparency" in image.info:
            problem = f"Pillow's mode {image.mode}{' with transparency' if 'transparency' in image.info else ''}, "
            problem += "expected 8 bits of greyscale, RGB or a palette, without transparency"
        elif any("16" in str(tile[3]) for tile in image.tile):
            problem = "16 bits per channel, expected 8"
        elif getattr(image, "n_frames", 1) > 1:
            problem = f"{getattr(image, 'n_frames', 1)} frames, expected one picture"
        elif image.getexif().get(ORIENTATION, 1) != 1:
            problem = "turned by its EXIF orientation; save it upright"
        if problem is not None:
            raise InputError(f"{path}: {problem}")
        return width, CHANNELS[image.mode]


def _decoded(pictures: Pictures, first: tuple[int, int], meter: Meter) -> RawImages:
    side, channels = first
    meter.add(num_bytes=len(pictures) * side * side * channels)
    images = np.empty((len(pictures), side, side, channels), np.uint8)
    for number, (_, path) in enumerate(pictures):
        meter.check_time()
        size = _opened(path)
        if size != first:
            raise InputError(
                f"{path}: {size[0]} x {size[0]} with {size[1]} channels, the first picture has "
                f"{side} x {side} with {channels}"
            )
        with _refusal(path), Image.open(path, formats=("PNG", "JPEG")) as image:
            images[number] = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(side, side, channels)
    return RawImages(images, np.array([label for label, _ in pictures], np.uint8))


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
