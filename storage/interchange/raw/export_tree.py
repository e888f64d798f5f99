"""Write a published zoo as a tree of the reference. ``ModelDatasetBase`` of the reference loads it unchanged."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...canonical import parse_json
from ...errors import StorageUsageError
from ...formats.index_dict import index_dict
from ...formats.labels import row_columns
from ...formats.shards import to_ranges
from ...read.selection import Selection, Selector
from ...read.states import States
from ...zoo import Zoo
from ..folders import Report, Wanted, fresh_folder, num_states, pieces, wanted_states
from ..torch_file import state_dict_bytes
from .architectures import reference_type
from .format import OURS, ROOT_FILE, ROOT_FORMAT, ROOT_VERSION, config_of, folder_name, json_line, result_row
from .imported_configs import read_origin
from .masks import flips_of
from .optimizer_states import OptimizerStates
from .state_dicts import Indices, torch_state

_NOT_IN_A_TREE = ("shards", "tables", "models", "num_models", "num_epochs", "num_states", "fields", "columns", "images")
"""Members of a manifest that describe the objects of its zoo, and have no meaning for a tree."""


@dataclass(frozen=True, slots=True)
class ExportedTree(Report):
    """The tree that was written."""

    zoo: str
    num_models: int
    num_states: int

    def to_json(self) -> dict[str, Any]:
        return {"zoo": self.zoo, "models": self.num_models, "states": self.num_states}

    def summary(self) -> str:
        return f"{self.num_models:,} models, {self.num_states:,} checkpoints of {self.zoo}"


def export_raw(
    zoo: Zoo,
    folder: str | PathLike[str],
    *,
    epochs: Selector = None,
    models: Selector = None,
    split: str | None = None,
    where: str | None = None,
    weight_threshold: float | None = None,
    optimizer: bool = False,
    indices: Indices = "plain",
    progress: Callable[[int], None] | None = None,
) -> ExportedTree:
    """Write ``params.json``, ``result.json`` with all epochs, and checkpoints of the selected states, for each model.

    Equal zoos give equal bytes. Twins are written unmasked with their log sigma^2, as the reference writes them.

    Args:
        indices: how layers after dropout layers are numbered. ``plain`` numbers them as if there were no dropout
            layers. The data set class of the reference needs this to read a zoo with several dropout ratios. ``module``
            numbers them as in the torch module of each model.
        optimizer: write the optimizer state next to each model's newest checkpoint. Only the store where the zoo was
            trained has these states.
        weight_threshold: states that have a weight with a larger absolute value, or one that is not finite, are left
            out; a warning says how many.
        progress: called with the number of states of each piece.

    Raises:
        StorageUsageError: the network is a user's own, ``folder`` is not empty, no state matches, or the store lacks
            optimizer states. Nothing was written.
    """
    name = zoo.manifest.architecture["name"]
    if name.startswith(("layers-", "code-")):
        raise StorageUsageError(
            f"zoo {zoo.name!r}: its network, {name}, is one's own, which the reference's trees have no name for; "
            "export-npz and export-safetensors write any network"
        )
    wanted = wanted_states(zoo, epochs, models, split, where, weight_threshold)
    chosen = sorted({model for here in wanted.values() for model in here})
    moments = OptimizerStates.of(zoo, chosen) if optimizer else None
    rows = {row["model"]: row for row in zoo.model_table().to_pylist()}
    with fresh_folder(Path(folder)) as target:
        names = {model: folder_name(model, rows[model]["row_digest"]) for model in chosen}
        writer = _Writer(zoo, target, names, indices)
        writer.root(rows, wanted)
        for start in range(0, len(chosen), 128):
            writer.rows({model: rows[model] for model in chosen[start : start + 128]})
        for states in pieces(zoo, wanted, masked=False):
            writer.states(states)
            if progress is not None:
                progress(len(states))
        if moments is not None:
            moments.write(target, names, wanted)
    return ExportedTree(zoo.name, len(chosen), num_states(wanted))


class _Writer:
    def __init__(self, zoo: Zoo, target: Path, names: Mapping[int, str], indices: Indices) -> None:
        self.zoo, self.target, self.names, self.indices = zoo, target, names, indices
        manifest = zoo.manifest
        self.origin = read_origin(zoo)
        self.twin = manifest.noisy_layout is not None
        self.kind = reference_type(manifest.architecture["name"], self.twin)

    def root(self, rows: Mapping[int, Mapping[str, Any]], wanted: Wanted) -> None:
        """Write ``index_dict.json``, and ``zooforge.json`` with all that the reference's files cannot express."""
        manifest = self.zoo.manifest
        members = {epoch: set(models) for epoch, models in wanted.items()}
        value = parse_json(manifest.to_json(), "manifest")
        for name in _NOT_IN_A_TREE:
            del value[name]
        value["split"] = manifest.split.to_json()
        value.update(format=ROOT_FORMAT, version=ROOT_VERSION)
        own = row_columns([column.name for column in manifest.model_columns])
        columns = ["model", *(column.name for column in own)]
        value["rows"] = [[row[name] for name in columns] for _, row in sorted(rows.items())]
        value["row_columns"] = columns
        if manifest.split.kind == "recorded":
            value["splits"] = {str(model): row["split"] for model, row in sorted(rows.items())}
        value["folders"] = {
            name: {"model": model, "epochs": to_ranges(e for e in sorted(wanted) if model in members[e])}
            for model, name in sorted(self.names.items())
        }
        self._write(ROOT_FILE, json.dumps(value, sort_keys=True, ensure_ascii=False) + "\n")
        index = index_dict(manifest.layout, manifest.state_dict_names.get("plain", {}))
        if index is not None:
            self._write("index_dict.json", json.dumps(index) + "\n")

    def rows(self, rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Write ``params.json`` and ``result.json`` of the models."""
        manifest = self.zoo.manifest
        network = {**manifest.architecture, "dataset": manifest.dataset}
        by_model: dict[int, list[dict[str, Any]]] = {model: [] for model in rows}
        for label in self.zoo.labels(models=list(rows)).to_pylist():
            by_model[label["model"]].append(label)
        for model, labels in by_model.items():
            row = rows[model]
            config = config_of(row, network, self.kind, manifest.planned_epochs)
            if model in self.origin:
                config = {name: config[name] for name in ("cuda", "dataset::dump")} | self.origin[model]
            trial = f"{row['row_digest'][:5]}_{model:05d}"
            name = self.names[model]
            (self.target / name).mkdir()
            self._write(f"{name}/params.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
            lines = [result_row(x["epoch"], x, config, trial, x is labels[-1]) for x in labels]
            self._write(f"{name}/result.json", "".join(json_line(line) for line in lines))

    def states(self, states: States) -> None:
        """Write one file ``checkpoints`` per state."""
        extra = self._fields(states)
        for row, (model, epoch) in enumerate(zip(states.models.tolist(), states.epochs.tolist(), strict=True)):
            here = {name: values[row] for name, values in extra.items()}
            tensors = torch_state(self.zoo, states.values[row], model, here, self.indices)
            folder = self.target / self.names[model] / f"checkpoint_{epoch:06d}"
            folder.mkdir()
            (folder / "checkpoints").write_bytes(state_dict_bytes(tensors, "checkpoints"))
            if ".mask" in extra:
                flips = flips_of(self.zoo.manifest, states.values[row], extra[".log_sigma2"][row], extra[".mask"][row])
                if flips:
                    (folder / f"{OURS}_mask.json").write_text(json.dumps(flips) + "\n")

    def _fields(self, states: States) -> dict[str, NDArray[Any]]:
        """Read the other fields of the same states, with the rows in the same order."""
        here = Selection(states.models.astype(np.int64), states.epochs.astype(np.int64))
        return {name: self.zoo.read_field(here, name)[0] for name in self.zoo.manifest.fields if name}

    def _write(self, name: str, text: str) -> None:
        (self.target / name).write_text(text)
