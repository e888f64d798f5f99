"""A zoo as a value: what is trained and how, typed, closed and frozen. Pure."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ArchitectureName = Literal["cnn-s", "cnn2", "cnn-l", "resnet18"]
InitializerName = Literal["uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal"]
OptimizerName = Literal["sgd", "adam", "rmsprop"]
DatasetName = Literal[
    "mnist", "fashion-mnist", "svhn", "usps", "cifar10", "cifar100", "stl10", "tiny-imagenet", "eurosat", "mnist5k",
    "digits8",
]  # fmt: skip
AugmentName = Literal["crop-flip", "flip-rotate"]
ScheduleName = Literal["one-cycle"]

NUMERICS_VERSION = 1
"""Raised by any change that moves a number of a trajectory; part of every run id."""


class Closed(BaseModel):
    """Frozen, strictly typed, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Preprocessing(Closed):
    """From a source image to the pixels a network sees, in this order: grayscale, crop, resize, normalise."""

    grayscale: bool = False
    """Colour images become one channel."""
    center_crop: Annotated[int, Field(gt=0)] | None = None
    """Side of the square cut from the centre."""
    resize: Annotated[int, Field(gt=0)] | None = None
    """Side of the square image after bilinear resizing."""
    mean: tuple[float, ...]
    """Per channel, of values in 0-1."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Per channel, of values in 0-1."""


class SplitRule(Closed):
    """Which images train, validate and test.

    The permutation is ``torch.randperm(n, generator=manual_seed(seed))``: the first ``train`` entries, in that order,
    are the training split, the next ``val`` the validation split. ``seed: null`` keeps the official order.
    """

    train: Annotated[int, Field(gt=0)]
    val: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(gt=0)] | None = None
    """null: the dataset's official test set; a number: the next entries of the same permutation."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None
