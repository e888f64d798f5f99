"""Images as the networks of a zoo saw them, in one safetensors file. Pure.

``pixel_values`` [C, 256] float32 gives the value of each byte; ``SPLIT.images`` [N, C, H, W] and ``SPLIT.labels`` [N]
are uint8. The provenance says what the images are, and has a digest of the tensors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..canonical import digest_of, sha256_hex
from ..errors import FormatError, StorageUsageError
from .splits import SPLITS
from .tensors import Arrays, decode, encode

Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def encode_images(
    pixel_values: NDArray[np.float32], splits: Mapping[str, Labelled], facts: Mapping[str, Any]
) -> memoryview:
    """The bytes of a file.

    Args:
        splits: images [N, C, H, W] and labels [N] of each split.
        facts: JSON that says what the images are and whose: data set, licence, preprocessing.
    """
    tensors: Arrays = {"pixel_values": pixel_values}
    for split, (images, labels) in splits.items():
        tensors |= {f"{split}.images": images, f"{split}.labels": labels}
    return encode(tensors, {**facts, "digest": _digest(tensors)})


def decode_images(
    data: bytes, split: str, shape: tuple[int, int, int], what: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pixels [N, C, H, W] and labels [N] of a split.

    Args:
        shape: (C, H, W) that the networks take.

    Raises:
        StorageUsageError: no split of this name, or the file has others only.
        FormatError: no such file, damaged, or of images of another shape; the message begins with ``what``.
    """
    if split not in SPLITS:
        raise StorageUsageError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    tensors = check_images(data, what)
    if f"{split}.images" not in tensors:
        here = ", ".join(name.removesuffix(".images") for name in tensors if name.endswith(".images"))
        raise StorageUsageError(f"{what}: has the images of {here}, not those of {split}")
    table, images, labels = (tensors.get(name) for name in ("pixel_values", f"{split}.images", f"{split}.labels"))
    if table is None or labels is None or images is None or table.shape != (shape[0], 256):
        raise FormatError(f"{what}: lacks labels, or the values of bytes for {shape[0]} channels")
    if (
        images.shape[1:] != shape
        or labels.shape != images.shape[:1]
        or {images.dtype, labels.dtype} != {np.dtype("u1")}
    ):
        raise FormatError(
            f"{what}: images of {list(images.shape)}, labels of {list(labels.shape)}; the networks take {list(shape)}"
        )
    pixels = np.stack([table[channel][images[:, channel]] for channel in range(shape[0])], axis=1)
    return np.ascontiguousarray(pixels, np.float32), labels.astype(np.int64)


def check_images(data: bytes, what: str) -> Arrays:
    """The tensors of a file. Raises FormatError where they are not those that were written there."""
    tensors, facts = decode(data, what)
    if not isinstance(facts, dict) or facts.get("digest") != _digest(tensors):
        raise FormatError(f"{what}: not the images that were written there; the file is damaged or of another kind")
    return tensors


def _digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    parts = {
        name: [a.dtype.str, list(a.shape), sha256_hex(np.ascontiguousarray(a).tobytes())] for name, a in tensors.items()
    }
    return digest_of(parts)
