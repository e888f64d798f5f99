"""Prepared images: bytes and a table, so that every engine sees the same float32 pixels. Pure numpy."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Split:
    """``images`` [N, C, H, W] uint8, ``labels`` [N] uint8, in the order that the split rule gives."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """The images with these indices, in their order."""
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class PreparedData:
    """A dataset after preprocessing and splitting. ``val`` is empty where the reference has no validation set.

    A pixel is ``pixel_values[channel, byte]``: normalisation is a table, computed once in float32.
    """

    name: str
    num_classes: int
    pixel_values: NDArray[np.float32]  # [C, 256]
    train: Split
    val: Split
    test: Split

    def split(self, name: Literal["train", "val", "test"]) -> Split:
        split: Split = getattr(self, name)
        return split

    def class_counts(self, num_outputs: int) -> dict[str, list[int]]:
        """Images of each class, by split; an output of the networks that no label names has none."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {n: np.bincount(s.labels, minlength=num_outputs).tolist() for n, s in splits.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes and values: equal data have equal digests on any machine."""
        total = hashlib.sha256()
        arrays: list[NDArray[Any]] = [self.pixel_values]
        for split in (self.train, self.val, self.test):
            arrays += [split.images, split.labels]
        for array in arrays:
            total.update(f"{array.dtype.str}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()
