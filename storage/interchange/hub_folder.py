"""A folder to upload to the Hugging Face Hub as a data set: card, metadata and tables in front, the zoo behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..keys import version_prefix
from ..publish.cards import pretty
from ..zoo import Zoo
from .folders import fresh_folder
from .zip import NUMBER, contents

_ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
FRONT = ("LICENSE", "README.md", "croissant.json", "index_dict.json")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was written."""

    num_files: int
    num_bytes: int


def prepare_hub(
    zoo: Zoo, folder: Path, *, repository: str | None = None, progress: Callable[[int], None] | None = None
) -> Prepared:
    """Write the folder, without a network; ``hf://OWNER/NAME/zoos/ZOO`` reads it once it is uploaded.

    Args:
        repository: OWNER/NAME that it will have, for the card.
        progress: called with the bytes of each file.

    Raises:
        StorageUsageError: ``folder`` is not empty; nothing was written. ObjectMissing, DigestMismatch.
    """
    prefix = version_prefix(zoo.name, NUMBER)
    count, total = 0, 0
    with fresh_folder(folder) as root:

        def write(name: str, data: bytes) -> None:
            nonlocal count, total
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            count, total = count + 1, total + len(data)
            if progress is not None:
                progress(len(data))

        write(".gitattributes", _ATTRIBUTES.encode())
        for key, data in contents(zoo):
            write(key, data)
            name = key.removeprefix(prefix)
            if name in FRONT:
                write(name, _in_front(name, data, prefix, zoo.name, repository))
    return Prepared(count, total)


def _in_front(name: str, data: bytes, prefix: str, zoo: str, repository: str | None) -> bytes:
    """A copy of the version as the root of the data set needs it: its paths begin there."""
    if name == "README.md":
        text = data.decode().replace("data_files: labels.parquet", f"data_files: {prefix}labels.parquet")
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
