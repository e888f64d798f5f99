"""Write a zoo as one matrix and a table, the format of Google's Small CNN Zoo (Unterthiner et al. 2020).

``weights.npy`` has one row per state, ``metrics.csv.gz`` the same rows; ``layout.csv`` names the matrix's columns, and
``splits.csv`` orders the rows for readers that split by position.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, StorageUsageError
from ..formats.layout import Entry, Layout
from ..formats.splits import SPLITS
from ..read.selection import Selector
from ..zoo import Zoo
from .folders import Report, csv_bytes, fresh_folder, num_states, pieces, require_classification, wanted_states
from .google_tables import NAMES, TABLES, GoogleTables, compress

FINAL_STEP = 86  # Google's last checkpoint, the only one that published readers use

# Their column to our label column.
_CONFIG = {
    "config.activation": "activation",
    "config.dropout": "dropout_ratio",
    "config.l2reg": "weight_decay",
    "config.learning_rate": "learning_rate",
    "config.optimizer": "optimizer",
    "config.random_seed": "seed",
    "config.w_init": "initializer",
}
_OURS = (
    "model", "epoch", "split", "val_acc", "val_loss", "train_acc", "train_loss", "running_train_acc",
    "running_train_loss", "ggap", "sparsity_ratio", "momentum", "nesterov", "faulty_epoch", "faulty_reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Matrix(Report):
    """The matrix that was written, ``weights.npy``: [num_states, num_values] float32."""

    num_models: int
    num_states: int
    num_values: int

    def to_json(self) -> dict[str, Any]:
        return {"models": self.num_models, "shape": [self.num_states, self.num_values]}

    def summary(self) -> str:
        return f"weights.npy [{self.num_states:,}, {self.num_values:,}] of {self.num_models:,} models"


@dataclass(frozen=True, slots=True)
class _Variable:
    """A tensor with its TensorFlow name and order of axes; ``start`` is its first column in the matrix."""

    name: str
    entry: Entry
    start: int
    shape: tuple[int, ...]
    columns: NDArray[np.intp]  # positions in our vector

    @property
    def stop(self) -> int:
        return self.start + self.entry.size


def export_google(
    zoo: Zoo,
    folder: str | PathLike[str],
    *,
    epochs: Selector = None,
    models: Selector = None,
    split: str | None = None,
    where: str | None = None,
    weight_threshold: float | None = None,
    final_step: int = FINAL_STEP,
    splits: bool = False,
    names: str = "short",
    progress: Callable[[int], None] | None = None,
) -> Matrix:
    """Write the selected states, model by model, epochs ascending; equal zoos give equal bytes.

    A zoo of ``import_google`` is written as it came: its rows in their order, with their own tables and steps.
    Twins are masked. States that are not finite are written too; ``where="faulty_epoch is None"`` leaves them out for
    readers that assert finite weights.

    Args:
        final_step: ``step`` of the last selected state of each model; published readers keep only rows of step 86. An
            earlier state has its epoch, at most ``final_step`` - 1. 0: every state has its epoch.
        splits: also write ``splits.csv``; see ``_rows_by_split``.
        names: ``short``: weights.npy and metrics.csv.gz; ``all``: all_weights.npy and all_metrics.csv.
        weight_threshold: states with a weight of larger absolute value, or one that is not finite, are left out; a
            warning says how many.
        progress: called with the number of states of each piece.

    Raises:
        StorageUsageError: ``folder`` is not empty, nothing fits, or a bad option; nothing was written.
    """
    require_classification(zoo, "export-google")
    if final_step < 0 or names not in NAMES:
        raise StorageUsageError(
            f"final step {final_step}, names {names!r}: expected 0 or more, and {' or '.join(NAMES)}"
        )
    matrix_name, metrics_name = NAMES[names]
    compressed = metrics_name.endswith(".gz")
    wanted = wanted_states(zoo, epochs, models, split, where, weight_threshold)
    pairs = sorted({(model, epoch) for epoch, here in wanted.items() for model in here})
    tables = GoogleTables.of(zoo)
    if tables is None:
        variables = tensorflow_order(zoo.layout)
        order = np.concatenate([variable.columns for variable in variables])
        layout, metrics = csv_bytes(_layout_rows(variables)), csv_bytes(_metric_rows(zoo, _steps(pairs, final_step)))
        metrics = compress(metrics) if compressed else metrics
    else:  # the zoo was imported: its own tables, in their order of rows
        selected = set(pairs)
        rows = [row for row, pair in enumerate(tables.states) if pair in selected]
        pairs = [tables.states[row] for row in rows]
        order, layout, metrics = (
            np.argsort(tables.columns),
            tables.files[TABLES[1]],
            tables.metrics_of(rows, compressed),
        )
    row_of = {pair: row for row, pair in enumerate(pairs)}
    with fresh_folder(Path(folder)) as root:
        shape = (num_states(wanted), len(order))
        matrix = np.lib.format.open_memmap(root / matrix_name, "w+", np.dtype("<f4"), shape)
        for states in pieces(zoo, wanted, masked=True):
            rows = [row_of[pair] for pair in zip(states.models.tolist(), states.epochs.tolist(), strict=True)]
            matrix[rows] = states.values[:, order]
            if progress is not None:
                progress(len(rows))
        matrix.flush()
        del matrix
        (root / "layout.csv").write_bytes(layout)
        (root / metrics_name).write_bytes(metrics)
        if splits:
            rows_by_split = _rows_by_split(pairs, {row["model"]: row["split"] for row in zoo.model_table().to_pylist()})
            (root / "splits.csv").write_bytes(csv_bytes([row] for row in rows_by_split))
    return Matrix(len({model for model, _ in pairs}), *shape)


def _steps(pairs: Sequence[tuple[int, int]], final_step: int) -> dict[tuple[int, int], int]:
    """``step`` of each (model, epoch); ``pairs`` are ascending."""
    if not final_step:
        return {pair: pair[1] for pair in pairs}
    last = dict(pairs)
    return {
        (model, epoch): final_step if epoch == last[model] else min(epoch, final_step - 1) for model, epoch in pairs
    }


def _rows_by_split(pairs: Sequence[tuple[int, int]], split_of: Mapping[int, str]) -> list[int]:
    """Every row of the matrix once, in an order in which published readers respect the zoo's splits.

    Those readers keep the rows of the final step. The second half of them is their test set; of the first half,
    shuffled by ``random.Random(0)``, four fifths train and the rest validates. So models of split val stand at places
    that validate, models of split train at places that train, and the test set holds split test and all others.
    """
    last: dict[int, int] = {}
    for model, epoch in pairs:
        last[model] = max(epoch, last.get(model, 0))
    final = [row for row, (model, epoch) in enumerate(pairs) if epoch == last[model]]
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row in final:
        members[split_of[pairs[row][0]]].append(row)
    places = list(range(len(final) // 2))
    random.Random(0).shuffle(places)
    num_train = int(0.8 * len(places))
    order = [-1] * len(places)
    for chosen, preference in (
        (places[num_train:], ("val", "train", "test")),
        (places[:num_train], ("train", "val", "test")),
    ):
        for place in chosen:
            order[place] = next(members[split] for split in preference if members[split]).pop(0)
    rest = [row for split in SPLITS for row in members[split]]
    return [*order, *rest, *sorted(set(range(len(pairs))) - set(final))]


def _initial_deviations(zoo: Zoo, models: Iterable[int]) -> dict[int, float]:
    """Standard deviation of all kernels of each model at epoch 0; empty if those weights were not kept."""
    try:
        wanted = zoo.wanted(0, sorted(set(models)), None, None)
    except EpochNotPresent:
        return {}
    columns = np.concatenate([np.arange(e.offset, e.stop) for e in zoo.layout.entries if len(e.shape) > 1])
    return {
        model: float(np.std(vector[columns], dtype=np.float64))
        for states in pieces(zoo, wanted, masked=False)
        for model, vector in zip(states.models.tolist(), states.values, strict=True)
    }


def tensorflow_order(layout: Layout) -> list[_Variable]:
    """The tensors of a vector in Keras's order: per layer the bias, then the kernel.

    The kernel of a convolution is [height, width, in, out], that of a dense layer [in, out]; inputs of a layer after a
    flatten layer stay in torch's order, channel by channel. Other tensors keep their name and order.
    """
    entries = {entry.name: entry for entry in layout.entries}
    counts = {"conv2d": 0, "dense": 0}
    variables: list[_Variable] = []
    start = 0
    done: set[str] = set()
    for entry in layout.entries:
        if entry.name in done:
            continue
        layer, _, kind = entry.name.rpartition(".")
        weight = entries.get(f"{layer}.weight")
        if weight is None or kind not in ("weight", "bias") or len(weight.shape) not in (2, 4):
            named = [(entry.name, entry)]
        else:
            prefix = "conv2d" if len(weight.shape) == 4 else "dense"
            number = f"_{counts[prefix]}" if counts[prefix] else ""
            counts[prefix] += 1
            path = f"sequential/{prefix}{number}"
            bias = entries.get(f"{layer}.bias")
            named = [] if bias is None else [(f"{path}/bias:0", bias)]
            named.append((f"{path}/kernel:0", weight))
        for name, one in named:
            done.add(one.name)
            places = np.arange(one.offset, one.stop).reshape(one.shape)
            if name.endswith("kernel:0"):
                places = places.transpose(2, 3, 1, 0) if places.ndim == 4 else places.T
            variables.append(_Variable(name, one, start, places.shape, places.reshape(-1)))
            start += one.size
    return variables


def _layout_rows(variables: list[_Variable]) -> Iterator[list[Any]]:
    yield ["varname", "start_idx", "end_idx", "size", "shape", "tensor"]
    for v in variables:
        yield [v.name, v.start, v.stop, v.entry.size, str(tuple(int(n) for n in v.shape)), v.entry.name]


def _metric_rows(zoo: Zoo, steps: Mapping[tuple[int, int], int]) -> Iterator[list[Any]]:
    """One row per state. ``train_accuracy`` is the clean one where it was measured, otherwise the running one."""
    deviations = _initial_deviations(zoo, (model for model, _ in steps))
    manifest = zoo.manifest
    labels = zoo.labels()
    ours = [name for name in _OURS if name in labels.column_names]
    num_layers = sum(len(entry.shape) == 4 for entry in zoo.layout.entries)
    config_of = _CONFIG | (
        {"config.train_fraction": "train_fraction"} if "train_fraction" in labels.column_names else {}
    )
    fixed = {
        "config.dataset": manifest.dataset,
        "config.dnn_architecture": manifest.architecture["name"],
        "config.epochs": manifest.planned_epochs,
        "config.num_layers": num_layers,
        **({} if "config.train_fraction" in config_of else {"config.train_fraction": 1.0}),
    }
    empty = ("config.b_init", "config.epochs_between_checkpoints", "config.num_units")
    configs = sorted([*config_of, *fixed, *empty, "config.init_std"])
    head = ["test_accuracy", "test_loss", "train_accuracy", "train_loss"]
    taken = {"train_acc": "clean_train_accuracy", "train_loss": "clean_train_loss"}
    yield ["checkpoint", *head, *configs, "modeldir", "step", *(taken.get(name, name) for name in ours)]
    for label in labels.to_pylist():
        model, epoch = label["model"], label["epoch"]
        if (model, epoch) not in steps:
            continue
        varying = {"config.init_std": deviations.get(model), **{name: label[ours] for name, ours in config_of.items()}}
        folder = f"{zoo.name}/{model:07d}"
        train = "train" if label["train_count"] is not None else "running_train"
        metrics = [label["test_acc"], label["test_loss"], label[f"{train}_acc"], label[f"{train}_loss"]]
        config = [varying[name] if name in varying else fixed.get(name) for name in configs]
        step = steps[model, epoch]
        yield [f"{folder}/epoch-{epoch}", *metrics, *config, folder, step, *(label[name] for name in ours)]
