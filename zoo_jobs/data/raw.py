"""Images as a data set's files hold them, before preprocessing. Pure numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RawImages:
    """``images`` [N, H, W, C] uint8 and ``labels`` [N] uint8, in the files' order."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class RawDataset:
    """Images of a data set. ``test`` is the official test set, None if the data set has none."""

    train: RawImages
    test: RawImages | None
