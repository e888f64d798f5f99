"""The preprocessing and the split of a zoo's images, as typed values of its spec. Pure."""

from typing import Annotated

from pydantic import Field

from ..closed import Closed, Number
from .own import ImageFacts


class Preprocessing(Closed):
    """From a source image to the pixels a network sees, in this order: grayscale, crop, resize, normalise."""

    grayscale: bool = False
    """Colour images become one channel."""
    center_crop: Annotated[int, Field(gt=0)] | None = None
    """Side of the square cut from the centre."""
    resize: Annotated[int, Field(gt=0)] | None = None
    """Side of the square image after bilinear resizing."""
    mean: tuple[Number, ...] = Field(examples=["[0.1307]"])
    """Per channel, of values in 0-1."""
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(examples=["[0.3081]"])
    """Per channel, of values in 0-1."""

    def shape_of(self, images: ImageFacts) -> tuple[int, int]:
        """Channels and side of the square images that a network sees."""
        channels = 1 if self.grayscale else images.channels
        return channels, self.resize or self.center_crop or images.image_size


class SplitRule(Closed):
    """The division of the images into training, validation and test.

    The permutation is ``torch.randperm(n, generator=manual_seed(seed))``: the first ``train`` entries, in that order,
    are the training split, the next ``val`` the validation split. ``seed: null`` keeps the official order.
    """

    train: Annotated[int, Field(gt=0)] = Field(examples=["50000"])
    """Number of training images."""
    val: Annotated[int, Field(ge=0)] = Field(examples=["10000"])
    """Number of validation images."""
    test: Annotated[int, Field(ge=0)] | None = None
    """null: the dataset's official test set; a number: the next entries of the same permutation."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(examples=["42"])
    """Seed of the permutation."""
