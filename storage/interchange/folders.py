"""Helpers of all exports: outputs that appear completely or not at all, states read in pieces, and a report."""

import csv
import io
import math
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import EpochNotPresent, StorageError, StorageUsageError
from ..read.selection import Selector
from ..read.states import States
from ..zoo import Zoo

PIECE_BYTES = 64 * 2**20

Wanted = Mapping[int, list[int]]  # epoch to ascending models


class Report(ABC):
    """The result of an export: what was written."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Members of the command's JSON output, without the path that was written."""

    @abstractmethod
    def summary(self) -> str:
        """One line for people."""

    def notes(self) -> list[str]:
        """Lines for stderr."""
        return []


def require_classification(zoo: Zoo, verb: str) -> None:
    """Raises StorageUsageError: the models of ``zoo`` do not classify, and the format of ``verb`` is about accuracy."""
    if zoo.manifest.task is not None:
        raise StorageUsageError(
            f"{verb}: the format is for networks that classify; the task of {zoo.name} is {zoo.task['name']}; "
            "export-npz writes its weights and labels"
        )


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to ``path`` at the end, or removed after an error.

    Raises:
        StorageUsageError: ``path`` holds something already, or no folder can be made there.
        StorageError: the folder could not be written.
    """
    path = path.expanduser().absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StorageUsageError(f"{path} exists already and is not empty; name a folder that does not exist yet")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise StorageUsageError(f"{path}: no folder can be made there ({error.strerror})") from None
    try:
        yield part
        if path.exists():
            path.rmdir()
        part.rename(path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror}); nothing is left of it") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that becomes ``path``, as ``fresh_folder`` does for a folder."""
    path = path.expanduser().absolute()
    if path.exists():
        raise StorageUsageError(f"{path} exists already; name a file that does not exist yet")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise StorageUsageError(f"{path}: no file can be made there ({error.strerror})") from None
    try:
        yield part
        part.rename(path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror}); nothing is left of it") from None
    finally:
        part.unlink(missing_ok=True)


def wanted_states(
    zoo: Zoo,
    epochs: Selector,
    models: Selector,
    split: str | None,
    where: str | None,
    weight_threshold: float | None = None,
) -> Wanted:
    """Selected models by epoch.

    Raises:
        EpochNotPresent: no state is selected. Also every error of ``Zoo.weights``.
    """
    wanted = zoo.wanted(epochs, models, split, where, weight_threshold)
    if not any(wanted.values()):
        raise EpochNotPresent(f"zoo {zoo.name!r}: no state matches the selection")
    return wanted


def num_states(wanted: Wanted) -> int:
    return sum(len(models) for models in wanted.values())


def pieces(zoo: Zoo, wanted: Wanted, *, masked: bool, num_bytes: int = PIECE_BYTES) -> Iterator[States]:
    """The wanted states in pieces of at most ``num_bytes`` of weights, one block of models at a time, model-major."""
    block_models = zoo.manifest.shard_shape[0]
    by_block: dict[int, list[int]] = {}
    for model in sorted({model for models in wanted.values() for model in models}):
        by_block.setdefault(model // block_models, []).append(model)
    members = {epoch: set(models) for epoch, models in wanted.items()}
    for block in by_block.values():
        step = max(1, num_bytes // (4 * zoo.layout.size * len(block)))
        epochs = [epoch for epoch in sorted(wanted) if members[epoch].intersection(block)]
        for start in range(0, len(epochs), step):
            chosen = epochs[start : start + step]
            here = {epoch: [model for model in block if model in members[epoch]] for epoch in chosen}
            yield zoo.read(here, masked=masked)


def csv_bytes(rows: Iterable[Sequence[Any]]) -> bytes:
    """CSV text of the rows: numbers as Python's ``repr`` writes them, None and NaN as empty fields."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if value is None or _is_nan(value) else value for value in row])
    return target.getvalue().encode()


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
