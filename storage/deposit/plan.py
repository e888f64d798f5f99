"""Files and bytes of a publication, compared with the limits of its target. Pure.

Sources of the limits: about.zenodo.org/policies (50 GB and 100 files per record); huggingface.co/docs/hub,
"Storage limits" (100,000 files, 10,000 per folder, files of at most 50 GB uploaded through Git LFS).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import StorageUsageError
from ..formats.manifest import DTYPES, Manifest
from ..publish.papers import part_sentence
from ..quantities import human_bytes

GB = 10**9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a service: files, bytes of all files, bytes of one file, files of one folder. None: no limit."""

    service: str
    files: int | None = None
    bytes: int | None = None
    file_bytes: int | None = None
    folder_files: int | None = None


NO_LIMITS = Limits("the store")
HUB = Limits("the Hugging Face Hub", files=100_000, file_bytes=50 * GB, folder_files=10_000)
ZENODO = Limits("Zenodo", files=100, bytes=50 * GB, file_bytes=50 * GB)


@dataclass(frozen=True, slots=True)
class Plan:
    """Files and bytes to upload. ``about`` is true if this is an estimate for a part that was not read yet."""

    zoo: str
    target: str
    part: str
    num_states: int
    num_files: int
    num_bytes: int
    left_out: tuple[str, ...] = ()
    packed: str = ""
    about: bool = False

    def lines(self) -> list[str]:
        """The plan for people."""
        about = "about " if self.about else ""
        lines = [
            f"{self.zoo} to {self.target}: {about}{self.num_files:,} files, {about}{human_bytes(self.num_bytes)}, "
            f"{self.num_states:,} states"
        ]
        lines += [f"  {self.part}"] * bool(self.part) + [f"  {self.packed}"] * bool(self.packed)
        return lines + [f"  left out: {what}" for what in self.left_out]

    def to_json(self) -> dict[str, Any]:
        return {
            "zoo": self.zoo, "target": self.target, "files": self.num_files, "bytes": self.num_bytes,
            "states": self.num_states, "estimated": self.about, "part": self.part, "packed": self.packed,
            "left_out": list(self.left_out),
        }  # fmt: skip


def plan_of(
    manifest: Manifest,
    target: str,
    sizes: Mapping[str, int],
    limits: Limits,
    *,
    left_out: Iterable[str] = (),
    packed: str = "",
) -> Plan:
    """The plan of uploading files of these ``sizes``, by path.

    Raises:
        StorageUsageError: more than ``limits`` allow; the message has the numbers.
    """
    total, largest = sum(sizes.values()), max(sizes.values(), default=0)
    folders = Counter(path.rpartition("/")[0] for path in sizes)
    fullest = max(folders.values(), default=0)
    for number, most, what in (
        (len(sizes), limits.files, "{:,} files"),
        (fullest, limits.folder_files, "{:,} files in one folder"),
    ):
        if most is not None and number > most:
            raise _too_much(manifest, limits, what.format(number), f"{most:,}")
    for number, most, what in ((total, limits.bytes, "{}"), (largest, limits.file_bytes, "a file of {}")):
        if most is not None and number > most:
            raise _too_much(manifest, limits, what.format(_gb(number)), _gb(most))
    part = part_sentence(manifest)
    return Plan(manifest.zoo, target, part, manifest.num_states, len(sizes), total, tuple(left_out), packed)


def estimate(manifest: Manifest, target: str, wanted: Mapping[int, Iterable[int]], left_out: Iterable[str]) -> Plan:
    """An estimate of the bytes of the selected states from the number of their values, without reading them.

    Args:
        wanted: epoch to models.
    """
    models = {epoch: set(here) for epoch, here in wanted.items()}
    num_states = sum(len(here) for here in models.values())
    state = sum(entry.values * int(DTYPES[entry.dtype][-1]) for entry in manifest.fields.values())
    shards = sum(
        any(models.get(epoch, set()).intersection(here) for epoch, here in shard.models_by_epoch().items())
        for shard in manifest.shards
    )
    tables = manifest.labels.ref.bytes + manifest.model_table.ref.bytes
    part = f"A part of the zoo: {num_states:,} of its {manifest.num_states:,} states."
    num_bytes = num_states * state + tables
    return Plan(manifest.zoo, target, part, num_states, shards + 16, num_bytes, tuple(left_out), about=True)


def _too_much(manifest: Manifest, limits: Limits, actual: str, most: str) -> StorageUsageError:
    return StorageUsageError(
        f"zoo {manifest.zoo!r}: {actual}, {limits.service} takes {most}; publish a part, e.g. with "
        "--epochs last or --split test, or publish to s3://"
    )


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / GB:,.1f} GB"
