"""The batches of an epoch, made in blocks of many steps to save time per step. Pure numpy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.prepared import PreparedData, Split
from ..tasks.image_regression import coordinates, targets
from . import philox

BLOCK_BYTES = 16 << 20  # float32 pixels per block
AUGMENTATIONS = ("crop-flip", "flip-rotate")
CROP_PAD = 4  # reference: RandomCrop(32, padding=4)
MAX_DEGREES = 20.0  # reference: rotation up to 20 degrees


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive batches of an epoch, joined: ``images`` [n, C, H, W] float32 and ``labels`` [n] int64.

    n is the number of steps times the batch size, or less if the last batch is smaller. For image_regression ``images``
    holds coordinates [n, 2], and ``labels`` holds pixels [n, channels] float32.
    """

    first_step: int
    num_steps: int
    images: NDArray[np.float32]
    labels: NDArray[Any]


def num_steps(num_rows: int, batch_size: int) -> int:
    """The number of batches of an epoch. The last batch may be smaller, and counts too."""
    return -(-num_rows // batch_size)


def pixels(pixel_values: NDArray[np.float32], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalised pixels [N, C, H, W] float32 of the bytes ``images``, read from the table ``pixel_values`` [C, 256].

    All engines get the same floats.
    """
    out = np.empty(images.shape, np.float32)
    for channel, table in enumerate(pixel_values):
        out[:, channel] = table[images[:, channel]]
    return out


def training_blocks(
    data: PreparedData,
    seed: int,
    epoch: int,
    batch_size: int,
    augment: str | None,
    subset: NDArray[np.int64] | None = None,
    labels: NDArray[np.uint8] | None = None,
) -> Iterator[Block]:
    """Yield the training split in the order that ``seed`` and ``epoch`` determine.

    Args:
        augment: name of an augmentation; None for the images as they are.
        subset: rows of the split to use, [n]; None for all.
        labels: labels of all rows of the split, to use instead of the true ones; None for the true labels.
    """
    split = data.train if labels is None else Split(data.train.images, labels)
    order = philox.permutation(seed, epoch, len(split) if subset is None else len(subset))
    if subset is not None:
        order = subset[order]
    steps_per_block = max(1, BLOCK_BYTES // (4 * batch_size * split.images[0].size))
    for first_step in range(0, num_steps(len(order), batch_size), steps_per_block):
        rows = order[first_step * batch_size : (first_step + steps_per_block) * batch_size]
        images = split.images[rows]
        steps = num_steps(len(rows), batch_size)
        if augment is not None:
            words_n4 = philox.augment_words(
                seed, epoch=epoch, step=np.arange(first_step, first_step + steps), num_samples=batch_size
            ).reshape(-1, 4)[: len(rows)]
            images = augmented(images, words_n4, augment)
        yield Block(first_step, steps, pixels(data.pixel_values, images), split.labels[rows].astype(np.int64))


def image_block(data: PreparedData, image: int, num_steps: int) -> Block:
    """One block: all pixels of training image number ``image``, row by row, repeated ``num_steps`` times."""
    pixels_NC = targets(data.train.images[image], data.pixel_values)
    inputs_N2 = coordinates(data.train.images.shape[-1])
    return Block(0, num_steps, np.tile(inputs_N2, (num_steps, 1)), np.tile(pixels_NC, (num_steps, 1)))


def evaluation_blocks(data: PreparedData, split: Split, num_images: int) -> Iterator[Block]:
    """Yield a split in its stored order, ``num_images`` images per block."""
    for start in range(0, len(split), num_images):
        images = split.images[start : start + num_images]
        labels = split.labels[start : start + num_images].astype(np.int64)
        yield Block(start // num_images, 1, pixels(data.pixel_values, images), labels)


def augmented(images: NDArray[np.uint8], words_n4: NDArray[np.uint32], augment: str) -> NDArray[np.uint8]:
    """Augment ``images`` [n, C, H, W] as docs/determinism.md specifies. Returns an array of the same shape.

    Row i of ``words_n4`` has the random words for image i. Raises ValueError for an unknown ``augment``.
    """
    if augment == "crop-flip":
        return _crop_flip(images, words_n4)
    if augment == "flip-rotate":
        return _flip_rotate(images, words_n4)
    raise ValueError(f"unknown augmentation {augment!r}; accepted: {', '.join(AUGMENTATIONS)}")


def mirrored(words_n4: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """True where an image is mirrored, [n]."""
    mirrored: NDArray[np.bool_] = words_n4[:, 2] >= np.uint32(1 << 31)
    return mirrored


def skipped(words_n4: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Number of rows and columns of the padded image before each crop, [n, 2]."""
    return (words_n4[:, :2].astype(np.uint64) * np.uint64(2 * CROP_PAD + 1) >> np.uint64(32)).astype(np.intp)


def angles(words_n4: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The angle of each rotation in radians, [n]."""
    unit = (words_n4[:, 3] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    degrees = np.float32(2 * MAX_DEGREES) * unit - np.float32(MAX_DEGREES)
    return np.deg2rad(degrees.astype(np.float64))


def _crop_flip(images: NDArray[np.uint8], words_n4: NDArray[np.uint32]) -> NDArray[np.uint8]:
    _, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (CROP_PAD, CROP_PAD), (CROP_PAD, CROP_PAD)))
    before = skipped(words_n4)
    columns = np.where(mirrored(words_n4)[:, None], np.arange(width)[::-1], np.arange(width)) + before[:, 1:2]
    rows = np.arange(height) + before[:, 0:1]
    n = np.arange(len(images))[:, None, None]
    # Advanced indices around the channel axis: [n, H, W, C].
    return np.ascontiguousarray(padded[n, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2))


def _flip_rotate(images: NDArray[np.uint8], words_n4: NDArray[np.uint32]) -> NDArray[np.uint8]:
    _, _, height, width = images.shape
    angle = angles(words_n4)[:, None, None]
    dy = (np.arange(height) - (height - 1) / 2)[:, None]
    dx = (np.arange(width) - (width - 1) / 2)[None, :]
    x = np.floor(np.cos(angle) * dx - np.sin(angle) * dy + width / 2).astype(np.intp)
    y = np.floor(np.sin(angle) * dx + np.cos(angle) * dy + height / 2).astype(np.intp)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x = np.where(mirrored(words_n4)[:, None, None], width - 1 - x, x)
    n = np.arange(len(images))[:, None, None]
    rotated = images[n, :, y.clip(0, height - 1), x.clip(0, width - 1)]
    rotated[~inside] = 0
    return np.ascontiguousarray(rotated.transpose(0, 3, 1, 2))
