"""Publish a matrix in the format of Google's Small CNN Zoo as a zoo, and keep its own tables with the version.

The folder holds weights.npy and metrics.csv.gz (or all_weights.npy and all_metrics.csv) and layout.csv. The tables are
kept word for word, so that ``export_google`` writes the same files again.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..budget import JSON
from ..canonical import digest_of
from ..errors import FormatError, StorageUsageError
from ..formats.compression import CompressionName
from ..formats.layout import Layout
from ..formats.restricted_pickle import one_line
from ..formats.splits import LATER_CELL, SPLITS, SplitRule
from ..formats.tensors import canonical_nan
from ..keys import copy_key
from ..stores.protocol import ObjectStore
from .google_tables import NAMES, GoogleTables, compress
from .raw.architectures import Network
from .raw.findings import Findings
from .raw.format import row_of
from .raw.import_tree import Imported, describe
from .raw.metrics import number, read_metrics
from .raw.publish_models import publish_models
from .raw.states import Fields
from .raw.tree import RawModel, RawTree, printable

SOURCE = "a matrix in the format of the Small CNN Zoo, Unterthiner et al. 2020, arXiv:2002.11448"
_METRIC_OF = {
    "test_accuracy": "test_acc", "test_loss": "test_loss", "train_accuracy": "train_acc", "train_loss": "train_loss",
    "val_acc": "val_acc", "val_loss": "val_loss",
}  # fmt: skip
_CONFIG_OF = {
    "config.activation": "model::nlin", "config.dropout": "model::dropout", "config.w_init": "model::init_type",
    "config.learning_rate": "optim::lr", "config.optimizer": "optim::optimizer", "config.l2reg": "optim::wd",
    "config.random_seed": "seed", "momentum": "optim::momentum", "nesterov": "optim::nesterov",
    "config.dataset": "dataset::dump",
}  # fmt: skip


def import_google(
    folder: Path,
    store: ObjectStore,
    name: str,
    *,
    dataset: str | None = None,
    source: str | None = None,
    images: tuple[int, int, int] | None = None,
    compression: CompressionName | None = None,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Publish the matrix in ``folder`` as zoo ``name``. ``export_google`` writes the same files again.

    Args:
        dataset, source: for the card; None: as the tables say.
        images: numbers of train, val and test images that accuracies are fractions of.
        compression: of the shards; None: none.
        progress: called with the number of states of each shard.

    Raises:
        StorageUsageError: no such files, or another zoo has the name; nothing was written.
        FormatError: files that are not of this format; nothing was written.
    """
    matrix_name, metrics_name = _names(folder)
    metrics = _bytes(folder / metrics_name)
    if not metrics_name.endswith(".gz"):
        metrics = compress(metrics)
    tables = GoogleTables.read(metrics, _bytes(folder / "layout.csv"), printable(folder))
    matrix = _matrix(folder / matrix_name, len(tables.rows), len(tables.columns))
    findings = Findings()
    models = _models(folder, tables, findings)
    rows = _rows(tables, models, findings)
    tree = RawTree(folder, models, max(models) + 1, None, findings)
    network = _network(tables.layout)
    recorded = all("split" in row for row in rows.values())
    split = SplitRule(kind="recorded") if recorded else SplitRule()
    described = dataset or next(iter(models.values())).config.get("dataset::dump") or None
    description, run = describe(tree, network, rows, name, described, source or SOURCE, split)
    reader = _MatrixReader(network, matrix, tables)
    version = publish_models(store, tree, rows, reader, description, run, images, compression, progress)
    for table, content in tables.files.items():
        store.put(copy_key(version.zoo, version.number, table), content)
    return Imported(version, findings)


class _MatrixReader:
    """Read states of a matrix."""

    def __init__(self, network: Network, matrix: NDArray[np.float32], tables: GoogleTables) -> None:
        self.network = network
        self._matrix, self._columns = matrix, tables.columns
        self._row_of = {state: row for row, state in enumerate(tables.states)}

    def read(self, model: RawModel, epoch: int) -> Fields | None:
        row = self._row_of[model.index, epoch]
        return {"": canonical_nan(np.asarray(self._matrix[row], np.float32)[self._columns])}


def _names(folder: Path) -> tuple[str, str]:
    for names in NAMES.values():
        if all((folder / name).is_file() for name in (*names, "layout.csv")):
            return names
    expected = " or ".join(" and ".join(names) for names in NAMES.values())
    raise StorageUsageError(f"{printable(folder)}: expected {expected}, with layout.csv")


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > JSON.max_bytes:
            raise FormatError(f"{printable(path)}: {path.stat().st_size} bytes, the limit is {JSON.max_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise StorageUsageError(f"{printable(path)}: not readable ({error.strerror})") from None


def _matrix(path: Path, num_rows: int, num_columns: int) -> NDArray[np.float32]:
    try:
        matrix: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for damaged files
        raise FormatError(f"{printable(path)}: not readable as an array ({one_line(error)})") from None
    if matrix.dtype != np.float32 or matrix.shape != (num_rows, num_columns):
        raise FormatError(
            f"{printable(path)}: {matrix.dtype} of shape {list(matrix.shape)}, expected float32 [{num_rows}, "
            f"{num_columns}], as its tables say"
        )
    return matrix


def _models(folder: Path, tables: GoogleTables, findings: Findings) -> dict[int, RawModel]:
    models: dict[int, RawModel] = {}
    for (index, epoch), row in zip(tables.states, tables.rows, strict=True):
        if index not in models:
            config = {ours: row[name] for name, ours in _CONFIG_OF.items() if row.get(name)}
            models[index] = RawModel(index, folder, config, {}, {}, {}, set(), from_matrix=True)
        metrics = {ours: row[name] or None for name, ours in _METRIC_OF.items() if name in row}
        models[index].rows[epoch] = {name: _number_or_text(value) for name, value in metrics.items()}
        models[index].checkpoints[epoch] = folder
    models = {
        index: RawModel(
            index, folder, model.config, dict(sorted(model.rows.items())), {}, {}, set(),
            checkpoints=dict(sorted(model.checkpoints.items())), from_matrix=True,
        )
        for index, model in sorted(models.items())
    }  # fmt: skip
    for index, values in read_metrics({index: model.rows for index, model in models.items()}, findings).items():
        models[index].metrics = values
    return models


def _number_or_text(value: str | None) -> float | str | None:
    try:
        return number(value)
    except ValueError:
        return value


def _rows(tables: GoogleTables, models: Mapping[int, RawModel], findings: Findings) -> dict[int, dict[str, Any]]:
    """Hyperparameters by model, with the split that an export of ours recorded."""
    first = {model: row for (model, _), row in zip(reversed(tables.states), reversed(tables.rows), strict=True)}
    later = {model: _later(model, row, findings) for model, row in first.items()}
    used = [name for name, default in LATER_CELL.items() if any(row[name] != default for row in later.values())]
    rows = {}
    for index, model in models.items():
        config = dict(model.config)
        seed = config.get("seed", "")
        if seed.endswith(".0"):
            config["seed"] = seed.removesuffix(".0")
        try:
            rows[index] = row_of(config)
        except FormatError:
            rows[index] = row_of({**config, "seed": index})
            findings.add(index, "its config has no seed: the number of the model stands for it")
        if used:
            values = {name: later[index][name] for name in used}
            rows[index] = {**rows[index], "row_digest": digest_of({**rows[index], **values})[:16], **values}
        if first[index].get("split") in SPLITS:
            rows[index]["split"] = first[index]["split"]
    return rows


def _later(model: int, row: Mapping[str, str], findings: Findings) -> dict[str, float]:
    """Hyperparameters that not every zoo has. The published tables give a deviation for every initializer, ours the
    measured one, so it is taken only if Keras's initializer of that model uses it."""
    given = {"train_fraction": row.get("config.train_fraction")}
    if row.get("config.w_init") in ("RandomNormal", "TruncatedNormal"):
        given["initial_std"] = row.get("config.init_std")
    numbers = {name: _number_or_text(value) for name, value in given.items()}
    for name, value in numbers.items():
        if isinstance(value, str):
            findings.add(model, f"its {name} is {printable(value)}, not a number: {LATER_CELL[name]:g} stands for it")
    return LATER_CELL | {name: value for name, value in numbers.items() if isinstance(value, float)}


def _network(layout: Layout) -> Network:
    weights = [entry.shape for entry in layout.entries if len(entry.shape) > 1]
    return Network(
        name="unknown",
        in_channels=weights[0][1],
        image_size=0,
        num_classes=weights[-1][0],
        layout=layout,
        state_dict_names={"plain": {entry.name: entry.name for entry in layout.entries}},
        layers={},
        noisy_layout=None,
        buffers_layout=None,
        counters=(),
    )
