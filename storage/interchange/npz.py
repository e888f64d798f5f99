"""Write a zoo as one file of NumPy arrays, which ``numpy.load`` reads without this package."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageUsageError
from ..formats.tables import numpy_column
from ..read.selection import Selection, Selector
from ..zoo import Zoo
from .folders import Report, fresh_file, num_states, pieces, wanted_states

FORMS = ("matrix", "tensors")


@dataclass(frozen=True, slots=True)
class ArraysFile(Report):
    """The file that was written: its number of states, and the names of its arrays."""

    num_states: int
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"states": self.num_states, "arrays": list(self.names)}

    def summary(self) -> str:
        return f"{self.num_states:,} states, {len(self.names)} arrays"


def export_npz(
    zoo: Zoo,
    path: str | PathLike[str],
    *,
    epochs: Selector = None,
    models: Selector = None,
    split: str | None = None,
    where: str | None = None,
    weight_threshold: float | None = None,
    form: str = "matrix",
    progress: Callable[[int], None] | None = None,
) -> ArraysFile:
    """Write the selected states, model by model, epochs ascending; equal zoos give equal bytes.

    ``weights`` [N, D], or an array ``weights.NAME`` [N, *shape] for each tensor; ``layout``, a JSON text of names and
    shapes; ``models`` and ``epochs`` [N]; an array ``labels.COLUMN`` [N] for each label column. Where a column has
    nulls, ``null.COLUMN`` [N] is true for these, and the label is NaN, 0, false or an empty text. Twins are masked.

    Args:
        form: ``matrix`` or ``tensors``.
        weight_threshold: states with a weight of larger absolute value, or one that is not finite, are left out; a
            warning says how many.
        progress: called with the number of states of each piece.

    Raises:
        StorageUsageError: ``path`` exists already, nothing fits, or another form; nothing was written.
    """
    if form not in FORMS:
        raise StorageUsageError(f"form {form!r}: expected {' or '.join(FORMS)}")
    wanted = wanted_states(zoo, epochs, models, split, where, weight_threshold)
    pairs = sorted({(model, epoch) for epoch, here in wanted.items() for model in here})
    row_of = {pair: row for row, pair in enumerate(pairs)}
    shapes = {"weights": (zoo.layout.size,)} if form == "matrix" else {f"weights.{e.name}": e.shape for e in zoo.layout}
    with fresh_file(Path(path)) as part, TemporaryDirectory(dir=part.parent, prefix=f"{part.name}.") as scratch:
        files = {name: Path(scratch) / f"{place}.npy" for place, name in enumerate(shapes)}
        maps = {
            name: np.lib.format.open_memmap(files[name], "w+", np.dtype("<f4"), (num_states(wanted), *shape))
            for name, shape in shapes.items()
        }
        for states in pieces(zoo, wanted, masked=True):
            rows = [row_of[pair] for pair in zip(states.models.tolist(), states.epochs.tolist(), strict=True)]
            named: Mapping[str, NDArray[Any]] = {"weights": states.values}
            if form == "tensors":
                named = {f"weights.{name}": values for name, values in states.unflatten().items()}
            for name, values in named.items():
                maps[name][rows] = values
            if progress is not None:
                progress(len(rows))
        for values in maps.values():
            values.flush()
        maps.clear()
        others = _others(zoo, pairs)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, file in files.items():
                with file.open("rb") as source, _member(archive, name) as target:
                    while block := source.read(1 << 20):
                        target.write(block)
            for name, values in others.items():
                with _member(archive, name) as target:
                    np.lib.format.write_array(target, values, allow_pickle=False)
    return ArraysFile(len(pairs), (*shapes, *others))


def _others(zoo: Zoo, pairs: list[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """All arrays except the weights."""
    states = np.array(pairs, np.int64).reshape(-1, 2).T
    layout = [{"name": entry.name, "shape": list(entry.shape)} for entry in zoo.layout]
    arrays: dict[str, NDArray[Any]] = {
        "models": states[0].astype(np.int32),
        "epochs": states[1].astype(np.int32),
        "layout": np.array(json.dumps(layout)),
        "zoo": np.array(zoo.name),
        "run": np.array(zoo.manifest.run),
    }
    table = zoo.labels_of(Selection(states[0], states[1]))
    for name in table.column_names:
        column = table[name]
        values = numpy_column(column)
        if column.null_count:
            arrays[f"null.{name}"] = np.asarray(column.is_null())
        if values.dtype == object:
            values = np.array(["" if value is None else value for value in values], np.str_)
        arrays[f"labels.{name}"] = np.ma.getdata(values)
    return arrays


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy")  # its time is 1980-01-01
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return archive.open(info, "w", force_zip64=True)
