"""A user's own images as a spec describes them: the digest of their values, and their facts. Pure."""

import hashlib
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..closed import Closed
from .raw import RawDataset
from .registry import DATASETS, Count

MAX_CLASSES = 256  # labels are bytes


class ImageFacts(Protocol):
    """The facts about its images that a spec needs; `Dataset` and `OwnImages` have them."""

    @property
    def channels(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def num_images(self) -> int: ...
    @property
    def num_test(self) -> int | None: ...


class ImageFile(Closed):
    """The place of a user's own images in a spec's file: an npz file, or a folder of pictures."""

    npz: str | None = None
    """File with the arrays images [N, H, W] or [N, H, W, C] uint8 and labels [N], perhaps test_images, test_labels."""
    folder: str | None = None
    """Folder of one folder of PNG or JPEG pictures per class; classes are numbered in the order of their names."""
    test_folder: str | None = None
    """Such a folder for the test set, with the same classes; only with folder."""
    num_classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)] | None = None
    """Number of classes of an npz file, where it is not the largest label plus 1."""


class OwnImages(Closed):
    """Images that no registry knows, in the form that a stored spec has. A store or cache has the values, by digest."""

    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the number of classes and the values (docs/how-to/own-images.md); it is part of the run id."""
    image_size: Count
    """Side of the square images."""
    channels: Literal[1, 3]
    """1: greyscale, 3: RGB."""
    num_classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)]
    """Labels are 0 to num_classes - 1."""
    num_images: Count
    """Images that a split rule permutes."""
    num_test: Count | None = None
    """Images of their own test set; null where there is none."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, by label, where they came from folders."""

    @property
    def name(self) -> str:
        """Name of the images in a manifest: it follows from the values, so that equal runs have equal manifests."""
        return f"images-{self.digest[:8]}"


Images = str | OwnImages
"""The `dataset` of a spec: the name of a registered data set, or a user's own images."""


def facts_of(dataset: Images) -> ImageFacts:
    """Shape, classes and counts of the images."""
    return DATASETS[dataset] if isinstance(dataset, str) else dataset


def name_of(dataset: Images) -> str:
    """Name of the images in messages, cards and manifests."""
    return dataset if isinstance(dataset, str) else dataset.name


def identity_of(dataset: Images) -> str:
    """The text that identifies the images in the split rule: a registered name, or the digest of their values."""
    return dataset if isinstance(dataset, str) else dataset.digest


def facts(raw: RawDataset, num_classes: int, class_names: tuple[str, ...] | None = None) -> OwnImages:
    """Facts of images [N, S, S, C] whose labels are below ``num_classes``."""
    channels: Any = raw.train.images.shape[3]
    return OwnImages(
        digest=values_digest(raw, num_classes),
        image_size=raw.train.images.shape[1],
        channels=channels,
        num_classes=num_classes,
        num_images=len(raw.train),
        num_test=None if raw.test is None else len(raw.test),
        class_names=class_names,
    )


def values_digest(raw: RawDataset, num_classes: int) -> str:
    """SHA-256 over the line ``zooforge images 1 <num_classes>``, then a line and the bytes of each array.

    The arrays are images and labels, then those of the test set if there is one; a line is ``uint8 <axis> <axis> ..``,
    and bytes are in row-major order.
    """
    total = hashlib.sha256(f"zooforge images 1 {num_classes}\n".encode())
    arrays: list[NDArray[np.uint8]] = []
    for part in (raw.train, raw.test):
        arrays += [] if part is None else [part.images, part.labels]
    for array in arrays:
        total.update(f"uint8 {' '.join(map(str, array.shape))}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
