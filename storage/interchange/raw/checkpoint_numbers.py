"""Finds the epoch of each folder ``checkpoint_N``.

In trees of the reference, and of Ray up to 2.6, the number of a folder is its epoch. Ray from 2.7 on counts folders
from 0 and iterations from 1. Its function API writes the name of the folder into each row (``checkpoint_dir_name``);
its class API does not.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from ...errors import StorageUsageError
from .findings import Findings
from .format import checkpoint_number

FOLDER_OF_ROW = "checkpoint_dir_name"


class Numbered(Protocol):
    """The attributes of a ``RawModel`` that this module reads and fills."""

    rows: dict[int, dict[str, Any]]
    numbered: dict[int, Path]
    without_file: set[int]
    checkpoints: dict[int, Path]


def assign_epochs(root: Path, models: Mapping[int, Numbered], first_checkpoint: int | None, findings: Findings) -> None:
    """Fill ``checkpoints`` of each model: the file of each epoch.

    If the rows of a model name folders, they decide. Otherwise ``first_checkpoint`` decides. If it is None, the
    majority of the models whose rows name no folders decides.

    Raises:
        StorageUsageError: rows name no folders, and there is no majority.
    """
    named = {index: _named(model) for index, model in models.items()}
    unnamed = {index: model for index, model in models.items() if not named[index]}
    shift = first_checkpoint if first_checkpoint is not None else _shift_of_most(root, unnamed, findings)
    for index, model in models.items():
        epoch_of = named[index] or {place: place + shift for place in (*model.numbered, *model.without_file)}
        if named[index]:
            _follow_shift(index, model, epoch_of, findings)
        elif shift:
            findings.add(index, "checkpoint folders count from 0, epochs from 1: checkpoint_000000 is read as epoch 1")
        for place, path in model.numbered.items():
            if place in epoch_of:
                model.checkpoints[epoch_of[place]] = path
            else:
                findings.add(index, f"{path.parent.name}: no row of result.json names it: not read")
        model.checkpoints = dict(sorted(model.checkpoints.items()))
        model.without_file = {epoch_of[place] for place in model.without_file if place in epoch_of}


def _named(model: Numbered) -> dict[int, int]:
    """The epoch of each folder that a row names, by the number of the folder."""
    names = {epoch: row.get(FOLDER_OF_ROW) for epoch, row in model.rows.items()}
    places = {epoch: checkpoint_number(name) for epoch, name in names.items() if isinstance(name, str)}
    return {place: epoch for epoch, place in sorted(places.items()) if place is not None}


def _follow_shift(index: int, model: Numbered, epoch_of: dict[int, int], findings: Findings) -> None:
    """Add folders that no row names, if all named ones have the same shift."""
    shifts = {epoch - place for place, epoch in epoch_of.items()}
    if len(shifts) == 1:
        (shift,) = shifts
        taken = set(epoch_of.values())
        for place in (*model.numbered, *model.without_file):
            if place + shift not in taken and place + shift >= 0:
                epoch_of.setdefault(place, place + shift)
    if shifts != {0}:
        findings.add(index, f"epochs of its checkpoints are those that {FOLDER_OF_ROW} says, not the folders' numbers")


def _shift_of_most(root: Path, models: Mapping[int, Numbered], findings: Findings) -> int:
    votes = {index: _vote(model.rows, model.numbered) for index, model in models.items() if model.rows}
    shifted, same = (sum(vote == value for vote in votes.values()) for value in (1, 0))
    if votes and shifted == same:
        raise StorageUsageError(
            f"{root}: folders checkpoint_N and rows of result.json do not say which epoch checkpoint_000000 is; "
            "--first-checkpoint 0 or 1 does"
        )
    shift = int(shifted > same)
    for index, vote in votes.items():
        if vote not in (None, shift):
            findings.add(index, f"checkpoint_000000 looks like epoch {vote}, but is epoch {shift} for most models")
    return shift


def _vote(epochs: Collection[int], places: Collection[int]) -> int | None:
    """1 if folders count from 0 and rows from 1, 0 if both count from the same number, None if unknown."""
    if 0 in epochs or max(places) == max(epochs):
        return 0
    if max(places) + 1 == max(epochs) and all(place + 1 in epochs for place in places):
        return 1
    return 0 if all(place in epochs for place in places) else None
