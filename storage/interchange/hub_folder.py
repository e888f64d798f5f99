"""Write a folder to upload to the Hugging Face Hub as a data set: card, metadata and tables above the store."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..keys import version_prefix
from ..publish.cards import CITATION, FIGURES, RECORD, WEIGHTS_TABLE, pretty
from ..quantities import human_bytes
from ..zoo import Zoo
from .folders import Report, fresh_folder
from .zip import NUMBER, contents

ATTRIBUTES = "".join(f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in ("safetensors", "parquet", "png"))
AT_ROOT = (CITATION, RECORD, "LICENSE", "README.md", "croissant.json", "index_dict.json", *FIGURES)


@dataclass(frozen=True, slots=True)
class HubFolder(Report):
    """The folder that was written."""

    folder: Path
    zoo: str
    repository: str | None
    num_files: int
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        url = f"hf://{self.repository or 'OWNER/NAME'}/zoos/{self.zoo}"
        return {"files": self.num_files, "bytes": self.num_bytes, "url": url}

    def summary(self) -> str:
        return f"{self.num_files:,} files, {human_bytes(self.num_bytes)}"

    def notes(self) -> list[str]:
        return [f"upload it: hf upload {self.repository or 'OWNER/NAME'} {self.folder} . --repo-type dataset"]


def prepare_hub(
    zoo: Zoo,
    folder: str | PathLike[str],
    *,
    repository: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> HubFolder:
    """Write the folder, without a network; ``hf://OWNER/NAME/zoos/ZOO`` reads it once it is uploaded.

    Args:
        repository: OWNER/NAME of the future data set, for the card.
        progress: called with the size of each file in bytes.

    Raises:
        StorageUsageError: ``folder`` is not empty; nothing was written. ObjectMissing, DigestMismatch.
    """
    prefix = version_prefix(zoo.name, NUMBER)
    count, total = 0, 0
    with fresh_folder(Path(folder)) as root:

        def write(name: str, data: bytes) -> None:
            nonlocal count, total
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            count, total = count + 1, total + len(data)
            if progress is not None:
                progress(len(data))

        write(".gitattributes", ATTRIBUTES.encode())
        for key, data in contents(zoo):
            write(key, data)
            name = key.removeprefix(prefix)
            if name in AT_ROOT:
                write(name, root_copy(name, data, prefix, zoo.name, repository))
    return HubFolder(Path(folder), zoo.name, repository, count, total)


def root_copy(name: str, data: bytes, prefix: str, zoo: str, repository: str | None) -> bytes:
    """The copy of a version's file for the root of the data set: its paths are relative to the root."""
    if name == "README.md":
        text = data.decode()
        for table in ("labels.parquet", WEIGHTS_TABLE):
            text = text.replace(f"\n  data_files: {table}\n", f"\n  data_files: {prefix}{table}\n")
        if repository is not None:
            text = text.replace(
                f'"URL/zoos/{zoo}")  # URL: a path, s3://bucket/prefix or https://', f'"hf://{repository}/zoos/{zoo}")'
            )
        return text.encode()
    if name == "croissant.json":
        value = json.loads(data)
        for file in value["distribution"]:
            file["contentUrl"] = file["contentUrl"].removeprefix("../../../../")
        if repository is not None:
            value["url"] = f"https://huggingface.co/datasets/{repository}"
        return pretty(value)
    return data
