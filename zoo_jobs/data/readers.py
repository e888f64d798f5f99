"""Registry of readers, one per file format: each takes the files by name and returns the images in their order."""

import bz2
import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.errors import FormatError
from zooforge.storage.formats import restricted_pickle

from ..errors import InputError
from .contents import is_resource_fork
from .raw import RawDataset, RawImages

IDX_UNSIGNED_BYTES = 0x08
CIFAR_TRAIN = re.compile(r"(^|/)(data_batch_\d+|train)$")
CIFAR_TEST = re.compile(r"(^|/)(test_batch|test)$")
STL_SIZE = 96

Files = Mapping[str, Path]


def read(format_name: str, files: Files) -> RawDataset:
    """Read the images and labels of a data set whose files were verified.

    Raises:
        InputError: a file is not of the format that its dataset has.
    """
    try:
        return READERS[format_name](files)
    # zipfile raises RuntimeError for an encrypted member, and NotImplementedError for an unknown compression; tarfile
    # raises TypeError for a gzip header that ends early.
    except (FormatError, ValueError, KeyError, IndexError, EOFError, OSError, struct.error, tarfile.TarError,
            zipfile.BadZipFile, zlib.error, RuntimeError, TypeError) as error:  # fmt: skip
        names = ", ".join(str(path) for path in files.values())
        raise InputError(f"{names}: not readable as {format_name} ({error})") from error


def read_idx(files: Files) -> RawDataset:
    """Read MNIST's format: a big-endian header, then bytes."""

    def images(prefix: str) -> RawImages:
        pixels = _idx(files[f"{prefix}-images-idx3-ubyte.gz"], 3)
        return _images(pixels[..., None], _idx(files[f"{prefix}-labels-idx1-ubyte.gz"], 1))

    return RawDataset(images("train"), images("t10k"))


def _idx(path: Path, num_axes: int) -> NDArray[np.uint8]:
    content = gzip.decompress(path.read_bytes())
    zero, kind, axes = struct.unpack_from(">HBB", content)
    if (zero, kind, axes) != (0, IDX_UNSIGNED_BYTES, num_axes):
        raise ValueError(f"{path.name} is no IDX file of bytes with {num_axes} axes")
    shape = struct.unpack_from(f">{num_axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)


def read_svhn(files: Files) -> RawDataset:
    """Read the MATLAB arrays X [32, 32, 3, N] and y [N, 1], where the digit 0 has label 10."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    def images(name: str) -> RawImages:
        try:
            content = loadmat(files[name])
        except (MatReadError, TypeError, UnboundLocalError) as error:  # scipy raises these for damaged files
            raise ValueError(str(error)) from None
        return _images(content["X"].transpose(3, 0, 1, 2), content["y"].reshape(-1) % 10)

    return RawDataset(images("train_32x32.mat"), images("test_32x32.mat"))


def read_libsvm(files: Files) -> RawDataset:
    """Read USPS: labels 1 to 10, pixels -1 to 1 as ``index:value`` from 1, truncated to bytes as torchvision does."""

    def images(name: str) -> RawImages:
        labels, rows = [], []
        for line in bz2.decompress(files[name].read_bytes()).decode("ascii").splitlines():
            label, *pairs = line.split()
            pixels = np.zeros(256, np.float32)
            for pair in pairs:
                index, value = pair.split(":")
                pixels[int(index) - 1] = np.float32(value)
            labels.append(int(label) - 1)
            rows.append(pixels)
        values = (np.stack(rows) + np.float32(1)) / np.float32(2) * np.float32(255)
        return _images(values.astype(np.uint8).reshape(-1, 16, 16, 1), np.array(labels))

    return RawDataset(images("usps.bz2"), images("usps.t.bz2"))


def read_cifar(files: Files) -> RawDataset:
    """Read batches that Python 2 pickled, [N, 3072] bytes by channel, with the fine labels of CIFAR-100."""
    (path,) = files.values()
    train: dict[str, RawImages] = {}
    test: RawImages | None = None
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if CIFAR_TRAIN.search(member.name):
                train[member.name] = _cifar_batch(archive, member)
            elif CIFAR_TEST.search(member.name):
                test = _cifar_batch(archive, member)
    if not train or test is None:
        raise ValueError(f"{path.name} holds no training or no test batches")
    batches = [train[name] for name in sorted(train)]
    images = np.concatenate([batch.images for batch in batches])
    return RawDataset(RawImages(images, np.concatenate([batch.labels for batch in batches])), test)


def _cifar_batch(archive: tarfile.TarFile, member: tarfile.TarInfo) -> RawImages:
    content = restricted_pickle.load(_member(archive, member).read(), member.name)
    labels = content[b"fine_labels"] if b"fine_labels" in content else content[b"labels"]
    return _images(content[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels))


def read_stl(files: Files) -> RawDataset:
    """Read raw bytes [N, 3, column, row] and labels 1 to 10, without the 100,000 unlabelled images."""
    (path,) = files.values()
    wanted = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
    arrays: dict[str, NDArray[np.uint8]] = {}
    with tarfile.open(path, "r|gz") as archive:  # a stream: read up to the last wanted file, nothing unpacked
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in wanted:
                arrays[name] = np.frombuffer(_member(archive, member).read(), np.uint8)
            if len(arrays) == len(wanted):
                break

    def images(split: str) -> RawImages:
        pixels = arrays[f"{split}_X.bin"].reshape(-1, 3, STL_SIZE, STL_SIZE)
        return _images(pixels.transpose(0, 3, 2, 1), arrays[f"{split}_y.bin"] - 1)

    return RawDataset(images("train"), images("test"))


def read_tiny_imagenet(files: Files) -> RawDataset:
    """Read Tiny-ImageNet. A label is the line of its class in wnids.txt; the validation set is the test set."""
    (path,) = files.values()
    with zipfile.ZipFile(path) as archive:
        lists = [name for name in _members(archive) if name.endswith("wnids.txt")]
        if not lists:
            raise ValueError("holds no wnids.txt")
        root = lists[0][: -len("wnids.txt")]
        classes = archive.read(f"{root}wnids.txt").decode("ascii").split()
        numbers = {wnid: number for number, wnid in enumerate(classes)}
        by_class: dict[str, list[str]] = {wnid: [] for wnid in classes}
        for name in _members(archive):
            if name.startswith(f"{root}train/") and name.endswith(".JPEG"):
                by_class[name[len(root) :].split("/")[1]].append(name)
        train = [(name, wnid) for wnid in classes for name in sorted(by_class[wnid], key=_number_in_name)]
        annotations = archive.read(f"{root}val/val_annotations.txt").decode("ascii").splitlines()
        pairs = [line.split("\t")[:2] for line in annotations]
        test = [(f"{root}val/images/{name}", wnid) for name, wnid in pairs]

        def images(items: list[tuple[str, str]]) -> RawImages:
            decoded = np.stack([_decoded(archive.read(name)) for name, _ in items])
            return _images(decoded, np.array([numbers[wnid] for _, wnid in items]))

        return RawDataset(images(train), images(test))


def _number_in_name(name: str) -> int:
    """The number of an image within its class: 17 of n01443537_17.JPEG."""
    return int(name.rpartition("_")[2].removesuffix(".JPEG"))


def read_eurosat(files: Files) -> RawDataset:
    """Read a folder per class, classes and files in the order of their names. There is no official test set."""
    (path,) = files.values()
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in _members(archive) if name.endswith(".jpg"))
        classes = sorted({_folder(name) for name in names})
        names.sort(key=lambda name: (_folder(name), name.rpartition("/")[2]))
        images = np.stack([_decoded(archive.read(name)) for name in names])
    return RawDataset(_images(images, np.array([classes.index(_folder(name)) for name in names])), None)


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in archive.namelist() if not is_resource_fork(name)]


def _folder(name: str) -> str:
    return name.split("/")[-2]


def read_mnist5k(files: Files) -> RawDataset:
    """Read lines of 784 pixels and a label."""
    rows = _csv(files["mnist_5k.csv.gz"], 785)
    return RawDataset(_images(rows[:, :784].reshape(-1, 28, 28, 1), rows[:, 784]), None)


def read_digits8(files: Files) -> RawDataset:
    """Read lines of 64 pixels 0 to 16, which are stretched to bytes, and a label."""
    rows = _csv(files["digits.csv.gz"], 65)
    pixels = np.rint(rows[:, :64] * (255 / 16))
    return RawDataset(_images(pixels.reshape(-1, 8, 8, 1), rows[:, 64]), None)


def _csv(path: Path, num_columns: int) -> NDArray[np.uint8]:
    text = gzip.decompress(path.read_bytes())
    rows = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8, ndmin=2)
    if rows.shape[1] != num_columns:
        raise ValueError(f"{path.name} has {rows.shape[1]} columns, not {num_columns}")
    return rows


def _images(pixels: NDArray[Any], labels: NDArray[Any]) -> RawImages:
    if len(pixels) != len(labels):
        raise ValueError(f"{len(pixels)} images, but {len(labels)} labels")
    return RawImages(np.ascontiguousarray(pixels, np.uint8), np.ascontiguousarray(labels, np.uint8))


def _decoded(content: bytes) -> NDArray[np.uint8]:
    """A decoded image [H, W, 3]; a greyscale JPEG gets three equal channels."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise ValueError(f"{member.name} is no file")
    return stream


READERS: dict[str, Callable[[Files], RawDataset]] = {
    "idx": read_idx,
    "svhn-mat": read_svhn,
    "libsvm": read_libsvm,
    "cifar": read_cifar,
    "stl-binary": read_stl,
    "tiny-imagenet-zip": read_tiny_imagenet,
    "eurosat-zip": read_eurosat,
    "mnist5k-csv": read_mnist5k,
    "digits8-csv": read_digits8,
}
