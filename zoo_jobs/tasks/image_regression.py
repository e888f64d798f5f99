"""The task image_regression: a model learns one image, from coordinates to pixels (an implicit neural representation).

A sample is a pixel. One step takes all pixels of the image, row by row, and an epoch has a fixed number of steps. So
training draws no random numbers. Pure numpy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.views.reconstruct import coordinates as coordinates

from ..models.layers import sines
from .contract import Task

if TYPE_CHECKING:  # engines import the tasks, on machines with numpy and torch alone (tests/gpu)
    from ..data.own import Images
    from ..data.rules import Preprocessing, SplitRule

AXES = ("activation", "initializer", "optimizer", "learning_rate", "weight_decay")
"""The axes that a grid may have. The other axes only make sense for images that are drawn in batches."""
COORDINATES = ("row", "column")
"""The inputs of a network. Each is between -1 and 1."""
MAX_IMAGES = 10_000_000
_RANGE = re.compile(r"(\d{1,9}):(\d{1,9})")


def targets(images: NDArray[np.uint8], pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels that models learn: [.., S * S, C] float32 in row-major order, for bytes ``images`` [.., C, S, S].

    The table ``pixel_values`` [C, 256] gives the value of each byte.
    """
    channels = [table[images[..., channel, :, :]] for channel, table in enumerate(pixel_values)]
    values = np.stack(channels, axis=-1)
    return np.ascontiguousarray(values.reshape(*images.shape[:-3], -1, len(channels)))


def image_range(text: str) -> str:
    """Return ``text`` if it is a half-open range of images such as "0:5000". Raises ValueError otherwise."""
    match = _RANGE.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]) <= MAX_IMAGES:
        raise ValueError(f'it is a half-open range of images such as "0:5000", found {text!r}')
    return text


def images_of(text: str) -> range:
    """The indices of the images in ``text``, which must have passed ``image_range``."""
    first, stop = map(int, text.split(":"))
    return range(first, stop)


class RegressionSpec(Protocol):
    """The fields of a ZooSpec that this task reads."""

    @property
    def axes(self) -> Any: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def dataset(self) -> Images: ...
    @property
    def image(self) -> str | None: ...
    @property
    def image_size(self) -> int: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def sparsify(self) -> Any: ...
    @property
    def split(self) -> SplitRule: ...


def fill_in(value: dict[str, Any]) -> dict[str, Any]:
    """Add ``split``, ``batch_size`` and the normalisation, which follow from the images, to the JSON of a spec.

    Values that the spec already has stay, and ``check`` compares them later. If the images are not known, nothing is
    added.
    """
    from ..data.registry import DATASETS

    dataset = value.get("dataset")
    preprocessing = value.get("preprocessing", {})
    if not isinstance(preprocessing, dict):
        return value
    if isinstance(dataset, str) and dataset in DATASETS:
        channels, side, count = (getattr(DATASETS[dataset], n) for n in ("channels", "image_size", "num_images"))
    elif isinstance(dataset, dict) and "digest" in dataset:
        channels, side, count = (dataset.get(name) for name in ("channels", "image_size", "num_images"))
    else:
        return value
    channels = 1 if preprocessing.get("grayscale") else channels
    side = preprocessing.get("resize") or preprocessing.get("center_crop") or side
    if not all(isinstance(number, int) for number in (channels, side, count)):
        return value
    plain = {"mean": [0.0] * channels, "std": [1.0] * channels}
    rule = {"train": count, "val": 0, "test": 0, "seed": None}
    return {"split": rule, "batch_size": side * side, **value, "preprocessing": {**plain, **preprocessing}}


def left_out(value: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields that ``fill_in`` adds from the JSON of a spec."""
    kept = {name: setting for name, setting in value.items() if name not in ("split", "batch_size")}
    preprocessing = value.get("preprocessing", {})
    kept["preprocessing"] = {n: v for n, v in preprocessing.items() if n not in ("mean", "std")}
    return kept


def check(spec: RegressionSpec) -> None:
    """Raises ValueError if ``spec`` uses something that this task does not support."""
    from ..data.own import facts_of
    from ..data.rules import SplitRule

    facts = facts_of(spec.dataset)
    if images_of(spec.image or "0:1").stop > facts.num_images:
        raise ValueError(f"image {spec.image}: the data set has the images 0:{facts.num_images}")
    if spec.split != SplitRule(train=facts.num_images, val=0, test=0, seed=None):
        raise ValueError("split: a model learns one image of the data set; leave split out")
    if spec.batch_size != spec.image_size**2:
        raise ValueError(f"batch_size: a step takes all {spec.image_size**2} pixels of an image; leave batch_size out")
    if set(spec.preprocessing.mean) != {0.0} or set(spec.preprocessing.std) != {1.0}:
        raise ValueError("preprocessing: pixels are byte / 255; leave mean and std out")
    for name, field in type(spec.axes).model_fields.items():
        if name not in AXES and getattr(spec.axes, name) != field.default:
            raise ValueError(f"axes.{name}: the task image_regression does not have it; leave it out")
    if spec.sparsify is not None and spec.sparsify.method != "magnitude":
        raise ValueError(f"sparsify.method: {no_twins(spec.sparsify.method)}")


def check_network(network: Any, initializers: tuple[str, ...]) -> None:
    """Raises ValueError if an initializer does not fit the network."""
    if "siren" in initializers:
        sines(network)


def no_twins(method: str) -> str:
    """A sentence that says why models of this task have no twins by ``method``."""
    return f"{method} is defined for classification; twins of image_regression are by magnitude"


ROW = Task(
    "one image per model, from coordinates to pixels",
    outputs="channels",
    splits=("train",),
    vectors=True,
    fields=("image", "steps_per_epoch"),
    refused=("augment", "draws", "extend", "imported_seeds", "schedule", "split_rule", "start", "train_eval_epochs"),
    initializers=("siren",),
    fill_in=fill_in,
    left_out=left_out,
    check=check,
    check_network=check_network,
)
