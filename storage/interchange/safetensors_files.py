"""Write a zoo as safetensors files, one per state."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageUsageError
from ..formats.tensors import encode
from ..read.selection import Selection, Selector
from ..zoo import Zoo
from .folders import Report, csv_bytes, fresh_folder, num_states, pieces, wanted_states

NAMES = ("module", "layout")


@dataclass(frozen=True, slots=True)
class StateFiles(Report):
    """The files that were written."""

    num_models: int
    num_states: int

    def to_json(self) -> dict[str, Any]:
        return {"models": self.num_models, "states": self.num_states}

    def summary(self) -> str:
        return f"{self.num_states:,} files of {self.num_models:,} models"


def export_safetensors(
    zoo: Zoo,
    folder: str | PathLike[str],
    *,
    epochs: Selector = None,
    models: Selector = None,
    split: str | None = None,
    where: str | None = None,
    weight_threshold: float | None = None,
    names: str = "module",
    progress: Callable[[int], None] | None = None,
) -> StateFiles:
    """Write ``model_MMMMM/epoch_EEE.safetensors`` for each selected state, and ``states.csv`` with their labels.

    Equal zoos give equal bytes. Twins are masked. The metadata of a file name zoo, run, model and epoch.

    Args:
        names: ``module``: the names of the model's torch module, with buffers, so that the module loads the file
            strictly; ``layout``: the names of the layout, e.g. ``conv1.weight``, equal for all models, without buffers.
        weight_threshold: states that have a weight with a larger absolute value, or one that is not finite, are left
            out; a warning says how many.
        progress: called with the number of states of each piece.

    Raises:
        StorageUsageError: ``folder`` is not empty, no state matches, or ``names`` is unknown. Nothing was written.
    """
    if names not in NAMES:
        raise StorageUsageError(f"names {names!r}: expected {' or '.join(NAMES)}")
    wanted = wanted_states(zoo, epochs, models, split, where, weight_threshold)
    extra = [name for name in (".buffers", ".counters") if names == "module" and name in zoo.manifest.fields]
    with fresh_folder(Path(folder)) as root:
        for states in pieces(zoo, wanted, masked=True):
            selection = Selection(states.models.astype(np.int64), states.epochs.astype(np.int64))
            fields = {name: zoo.read_field(selection, name)[0] for name in extra}
            for row, state in enumerate(states):
                named: dict[str, NDArray[Any]] = state.unflatten()
                if names == "module":
                    buffers, counters = (
                        fields[name][row] if name in fields else None for name in (".buffers", ".counters")
                    )
                    named = zoo.to_state_dict(state.values, state.model, buffers, counters)
                origin = {"zoo": zoo.name, "run": zoo.manifest.run, "model": state.model, "epoch": state.epoch}
                path = root / _path(state.model, state.epoch)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encode(named, origin))
            if progress is not None:
                progress(len(states))
        chosen = Selection.of(wanted)
        table = zoo.labels_of(chosen)
        rows = [list(row.values()) for row in table.to_pylist()]
        paths = [
            _path(model, epoch) for model, epoch in zip(chosen.models.tolist(), chosen.epochs.tolist(), strict=True)
        ]
        lines = [["path", *table.column_names], *([path, *row] for path, row in zip(paths, rows, strict=True))]
        (root / "states.csv").write_bytes(csv_bytes(lines))
    return StateFiles(len({model for here in wanted.values() for model in here}), num_states(wanted))


def _path(model: int, epoch: int) -> str:
    return f"model_{model:05d}/epoch_{epoch:03d}.safetensors"
