"""The images of a zoo as a file that readers open without a data set."""

from collections.abc import Collection

from zooforge.storage.formats.images import Labelled, encode_images
from zooforge.storage.formats.splits import SPLITS

from ..data.prepare import load
from ..data.registry import DATASETS
from ..data.sources import default_cache
from ..errors import InputError
from ..spec.zoo import ZooSpec
from .describe import image_facts


def image_splits(text: str, option: str) -> list[str]:
    """The splits of an option's value, separated by commas. Raises InputError for an unknown one."""
    chosen = text.split(",")
    if unknown := sorted(set(chosen) - set(SPLITS)):
        raise InputError(f"{option} {text}: {unknown[0]!r} is none of {', '.join(SPLITS)}")
    return chosen


def check_licence(spec: ZooSpec) -> None:
    """Raises InputError where the licence of the data set does not let everybody pass its images on."""
    entry = DATASETS.get(spec.dataset_name)  # a user's own images have none
    if entry is not None and not entry.redistribute:
        raise InputError(
            f"the images of {spec.dataset_name} may not be published with {spec.name}: {entry.licence}; readers with "
            f"the data set make them with `zoo data export {spec.name} FILE`"
        )


def encoded_images(spec: ZooSpec, splits: Collection[str]) -> tuple[memoryview, dict[str, int]]:
    """The bytes of a file with the images that the networks of ``spec`` see, and the number of images per split.

    Raises:
        InputError: the data set is not on this machine.
    """
    data = load(spec, default_cache())
    parts = {split: data.split(split) for split in SPLITS if split in splits}
    arrays: dict[str, Labelled] = {split: (part.images, part.labels) for split, part in parts.items()}
    encoded = encode_images(data.pixel_values, arrays, image_facts(spec))
    return encoded, {split: len(part) for split, part in parts.items()}
