"""What each dataset is made of: files, addresses, checksums, licences. Read from datasets.lock.yaml."""

from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from ..errors import unknown

FormatName = Literal[
    "idx", "svhn-mat", "libsvm", "cifar", "stl-binary", "tiny-imagenet-zip", "eurosat-zip", "mnist5k-csv", "digits8-csv"
]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LockedFile(_Closed):
    """One file, from the internet (``urls``, tried in order) or from an installed Python package."""

    name: str
    urls: list[str] = []
    package: str | None = None
    """Import name; the file is read without importing it."""
    resource: str | None = None
    """Path inside the package."""
    requirement: str | None = None
    """What pip installs to have it."""
    bytes: int | None
    md5: str | None
    sha256: str | None


class LockedDataset(_Closed):
    home: str
    licence: str
    format: FormatName
    files: list[LockedFile]

    @property
    def is_packaged(self) -> bool:
        """Nothing has to be fetched."""
        return all(file.package for file in self.files)


@cache
def locked_datasets() -> dict[str, LockedDataset]:
    text = (files(__package__) / "datasets.lock.yaml").read_text(encoding="utf-8")
    return {name: LockedDataset.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def locked(dataset: str) -> LockedDataset:
    """Raises InputError for an unknown dataset."""
    found = locked_datasets()
    if dataset not in found:
        raise unknown("dataset", dataset, found)
    return found[dataset]
