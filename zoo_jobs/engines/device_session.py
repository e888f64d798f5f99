"""The common part of the sessions that keep their images and models on one device.

Shape suffixes: N = images of a split, C = channels.
"""

from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..data.prepared import PreparedData
from . import precision
from .contract import Program, SplitName
from .cuda import Place


class DeviceSession:
    """Holds splits as bytes, which a subclass converts to pixels in each step. See ``contract.Session``."""

    AXES_AFTER_CHANNELS = 2  # of the images that ``_pixels`` takes

    def __init__(self, program: Program, data: PreparedData, device: torch.device) -> None:
        precision.claim(self, program.precision)
        self._program, self._data, self._device = program, data, device
        self._images: dict[SplitName, tuple[Tensor, Tensor]] = {}  # bytes [N, C, H, W] and labels [N] int64
        self._place = Place(device)
        with self._place.active():
            self._pixel_values = torch.tensor(data.pixel_values, device=device).flatten()
            first_value_C = 256 * torch.arange(len(data.pixel_values), device=device)
            self._first_value = first_value_C.reshape(-1, *[1] * self.AXES_AFTER_CHANNELS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        place = self._place
        precision.release(self)
        self.__dict__.clear()
        place.release()

    def _pixels(self, bytes_: Tensor) -> Tensor:
        """Normalised pixels of bytes [.., C, ..], by a look-up table, so every engine gets the same floats."""
        return self._pixel_values[bytes_.long() + self._first_value]

    def _split(self, split: SplitName) -> None:
        """Copy a split to the device, once."""
        if split not in self._images:
            part = self._data.split(split)
            labels = torch.tensor(part.labels.astype(np.int64), device=self._device)
            self._images[split] = torch.tensor(part.images, device=self._device), labels
