"""Augments images on the device that trains. The bytes are equal to those of ``batches.augmented``.

Once per epoch, NumPy computes the few numbers that each image needs (shifts, mirror, sine and cosine of its angle) from
the random words of docs/determinism.md. The device does not compute them, because its sine could differ in the last
bit, and the image with it.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from ..batches import CROP_PAD, angles, mirrored, skipped


def augment_numbers(words_n4: NDArray[np.uint32], augment: str) -> dict[str, NDArray[np.generic]]:
    """The numbers that ``augmented`` needs, by name: arrays [n, ...] with one row per image."""
    if augment == "crop-flip":
        return {"mirrored": mirrored(words_n4), "skipped": skipped(words_n4)}
    angle = angles(words_n4)
    return {"mirrored": mirrored(words_n4), "cosine": np.cos(angle), "sine": np.sin(angle)}


def augmented(images: Tensor, numbers: Mapping[str, Tensor], augment: str) -> Tensor:
    """Augment the bytes ``images`` [n, C, H, W]; image i uses row i of ``numbers``. Returns the same shape."""
    return _crop_flip(images, numbers) if augment == "crop-flip" else _flip_rotate(images, numbers)


def _crop_flip(images: Tensor, numbers: Mapping[str, Tensor]) -> Tensor:
    _, _, height, width = images.shape
    padded = F.pad(images, (CROP_PAD, CROP_PAD, CROP_PAD, CROP_PAD))
    forward = torch.arange(width, device=images.device)
    columns = torch.where(numbers["mirrored"][:, None], width - 1 - forward, forward) + numbers["skipped"][:, 1:2]
    rows = torch.arange(height, device=images.device) + numbers["skipped"][:, 0:1]
    n = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _flip_rotate(images: Tensor, numbers: Mapping[str, Tensor]) -> Tensor:
    _, _, height, width = images.shape
    cosine, sine = (numbers[name][:, None, None] for name in ("cosine", "sine"))
    dy = (torch.arange(height, device=images.device, dtype=torch.float64) - (height - 1) / 2)[:, None]
    dx = (torch.arange(width, device=images.device, dtype=torch.float64) - (width - 1) / 2)[None, :]
    x = torch.floor(cosine * dx - sine * dy + width / 2).long()
    y = torch.floor(sine * dx + cosine * dy + height / 2).long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x = torch.where(numbers["mirrored"][:, None, None], width - 1 - x, x)
    n = torch.arange(len(images), device=images.device)[:, None, None]
    rotated = images.permute(0, 2, 3, 1)[n, y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return (rotated * inside[..., None]).permute(0, 3, 1, 2)
