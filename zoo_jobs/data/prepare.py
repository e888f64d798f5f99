"""Prepare the images that a zoo trains on from a data set's files: preprocessing, split, cache.

Preprocessing computes what torchvision computes on PIL images (8-bit greyscale, centre crop, bilinear resize), once.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

from zooforge.storage.canonical import digest_of
from zooforge.storage.stores.protocol import ObjectStore

from ..errors import InputError
from .mirror import Mirror, is_mirrored
from .own import Images, facts_of, name_of
from .own_values import values
from .prepared import PreparedData, Split
from .raw import RawDataset, RawImages
from .readers import read
from .registry import DATASETS, dataset_entry
from .rules import Preprocessing, SplitRule
from .sources import content_key, fetch, is_present, save_tensors, source_folder, verified_files


class DataSpec(Protocol):
    """The fields of a ZooSpec that its images depend on."""

    @property
    def dataset(self) -> Images: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def split(self) -> SplitRule: ...


PREPARE_VERSION = 1  # raise this if equal inputs give other images
SPLITS = ("train", "val", "test")


def prepare(dataset: str, preprocessing: Preprocessing, split: SplitRule, source: Path | None = None) -> PreparedData:
    """Read, preprocess and split the images of ``dataset``.

    Args:
        source: folder with the dataset's files; none is needed for datasets in Python packages.

    Raises:
        InputError: files missing or not those of the registry, or a split larger than the dataset.
    """
    raw = read(dataset_entry(dataset).format, verified_files(dataset, source))
    facts = DATASETS[dataset]
    counts = len(raw.train), len(raw.test) if raw.test is not None else None
    if counts != (facts.num_images, facts.num_test):
        raise InputError(
            f"{dataset}: found {counts} images to train and test, expected {facts.num_images, facts.num_test}"
        )
    return prepared(dataset, facts.num_classes, raw, preprocessing, split)


def prepared(
    name: str, num_classes: int, raw: RawDataset, preprocessing: Preprocessing, split: SplitRule
) -> PreparedData:
    """Preprocess and split ``raw``. Raises InputError if the split asks for more images than there are."""
    rows = split_rows(name, len(raw.train), split)
    if split.test is None and raw.test is None:
        raise InputError(f"{name} has no official test set: split.test must say how many images to take")
    test = raw.test if split.test is None and raw.test is not None else _taken(raw.train, rows["test"])
    return PreparedData(
        name,
        num_classes,
        pixel_values(preprocessing),
        _preprocessed(_taken(raw.train, rows["train"]), preprocessing),
        _preprocessed(_taken(raw.train, rows["val"]), preprocessing),
        _preprocessed(test, preprocessing),
    )


def split_rows(name: str, num_images: int, split: SplitRule) -> dict[str, NDArray[np.int64]]:
    """Indices of each split's images: consecutive runs of one permutation, in its order; ascending if the seed is null.

    Source: ``torch.utils.data.random_split`` with a generator seeded as in the reference.
    """
    sizes = [split.train, split.val, split.test or 0]
    if sum(sizes) > num_images:
        raise InputError(f"split: {' + '.join(map(str, sizes))} images asked, {name} has {num_images}")
    if split.seed is None:
        order = np.arange(num_images)
    else:
        import torch  # the permutation is torch's; the cached result needs no torch

        order = torch.randperm(num_images, generator=torch.Generator().manual_seed(split.seed)).numpy()
    ends = np.cumsum(sizes)
    return {part: order[end - size : end] for part, end, size in zip(SPLITS, ends, sizes, strict=True)}


def pixel_values(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """[C, 256]: byte / 255, minus mean, over std, each rounded to float32 as torchvision does."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    rows = [
        (unit - np.float32(mean)) / np.float32(std)
        for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
    ]
    return np.stack(rows)


def load(spec: DataSpec, cache: Path, mirror: ObjectStore | None = None) -> PreparedData:
    """Return what ``prepare`` returns, from the cache if possible; then neither the files nor torch are needed.

    Two processes may prepare the same data at the same time: they write the same file.

    Args:
        mirror: store that provides missing files; the internet is never asked.
    """
    dataset = spec.dataset
    key = digest_of(
        {
            "version": PREPARE_VERSION,
            "files": content_key(dataset_entry(dataset)) if isinstance(dataset, str) else dataset.digest,
            "preprocessing": spec.preprocessing.model_dump(mode="json"),
            "split": spec.split.model_dump(mode="json"),
        }
    )
    path = cache / "prepared" / f"{name_of(dataset)}-{key[:16]}.safetensors"
    data = _read_cached(path, dataset)
    if data is None:
        data = _prepared_anew(spec, cache, mirror)
        _write_cached(path, data)
    return data


def _prepared_anew(spec: DataSpec, cache: Path, mirror: ObjectStore | None) -> PreparedData:
    dataset = spec.dataset
    if not isinstance(dataset, str):
        raw = values(dataset, cache, mirror)
        return prepared(dataset.name, dataset.num_classes, raw, spec.preprocessing, spec.split)
    if mirror is not None and not is_present(dataset, cache) and is_mirrored(mirror, dataset):
        fetch(dataset, cache, Mirror(mirror))
    return prepare(dataset, spec.preprocessing, spec.split, source_folder(cache, dataset))


def _read_cached(path: Path, dataset: Images) -> PreparedData | None:
    """The prepared data in ``path``; None if the file is missing or damaged, so that it is written again."""
    try:
        with safe_open(path, framework="numpy") as content:
            digest = (content.metadata() or {}).get("digest")
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
            splits = (Split(arrays[f"{part}.images"], arrays[f"{part}.labels"]) for part in SPLITS)
            data = PreparedData(name_of(dataset), facts_of(dataset).num_classes, arrays["pixel_values"], *splits)
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return data if data.digest == digest else None


def _write_cached(path: Path, data: PreparedData) -> None:
    arrays: dict[str, NDArray[Any]] = {"pixel_values": data.pixel_values}
    for part in SPLITS:
        split = getattr(data, part)
        arrays |= {f"{part}.images": split.images, f"{part}.labels": split.labels}
    save_tensors(path, arrays, {"digest": data.digest})


def _taken(images: RawImages, rows: NDArray[np.int64]) -> RawImages:
    return RawImages(images.images[rows], images.labels[rows])


def _preprocessed(raw: RawImages, preprocessing: Preprocessing) -> Split:
    """Crop, then greyscale and resize. Greyscale is pointwise, so cropping first changes no pixel."""
    pixels = raw.images
    if preprocessing.center_crop is not None:
        pixels = _center_crop(pixels, preprocessing.center_crop)
    if preprocessing.grayscale or preprocessing.resize is not None:
        num_images, height, width, channels = pixels.shape
        channels = 1 if preprocessing.grayscale else channels
        changed = np.empty(
            (num_images, preprocessing.resize or height, preprocessing.resize or width, channels), np.uint8
        )
        for i, image in enumerate(pixels):
            changed[i] = _with_pillow(image, preprocessing)
        pixels = changed
    return Split(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), raw.labels)


def _with_pillow(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """One image [H, W, C] as greyscale (ITU-R 601 luma), then resized bilinearly with Pillow's anti-aliasing."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if preprocessing.grayscale:
        image = image.convert("L")
    if preprocessing.resize is not None:
        image = image.resize((preprocessing.resize, preprocessing.resize), Image.Resampling.BILINEAR)
    resized = np.asarray(image)
    return resized.reshape(*resized.shape[:2], -1)


def _center_crop(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The central square of images [N, H, W, C]. Half margins round to even, as in torchvision."""
    top, left = (round((n - size) / 2) for n in pixels.shape[1:3])
    return pixels[:, top : top + size, left : left + size]
