"""The list of label columns: names, types, which may be null, and what they mean. Pure.

Parts hold the columns with ``where="part"``; a published zoo holds all of them, joined with its model rows. A metric is
declared here once; readers, writers, the format and its documentation follow.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .splits import SPLITS

ColumnType = Literal["int32", "int64", "float64", "string", "bool", "int32[]"]
"""``int32[]`` is a list of integers; all lists of a column are equally long."""
Where = Literal["part", "twin", "row", "derived"]
FaultReason = Literal["nan", "inf", "parent"]

FAULT_REASONS: tuple[FaultReason, ...] = ("nan", "inf", "parent")
"""The values of ``faulty_reason``, by the code that stands for them in a training state; -1 there means none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A label column. ``where`` is its source: training (``part``, ``twin``), the spec (``row``), or other columns."""

    name: str
    type: ColumnType
    where: Where
    nullable: bool
    meaning: str

    def to_json(self) -> list[Any]:
        return [self.name, self.type, self.nullable]

    @classmethod
    def from_json(cls, value: Any) -> "Column":
        """A column as a manifest lists it; one that this version does not know has no meaning here.

        Raises:
            ValueError: not a column, of an unknown type, or a known column of another type.
        """
        name, type_, nullable = value
        if not isinstance(name, str) or type_ not in get_args(ColumnType) or not isinstance(nullable, bool):
            raise ValueError(f"column {str(value)[:100]}")
        known = ALL_COLUMNS.get(name) or next((c for c in model_columns() if c.name == name), None)
        if known is None:
            return cls(name, type_, "derived", nullable, "")
        if (known.type, known.nullable) != (type_, nullable):
            raise ValueError(f"column {name} is {type_}, expected {known.type}")
        return known


def _split_columns(split: str, meaning: str) -> tuple[Column, ...]:
    return (
        Column(f"{split}_loss", "float64", "part", True, f"mean loss, {meaning}; null if not finite"),
        Column(f"{split}_correct", "int32", "part", True, f"correctly classified images, {meaning}"),
        Column(f"{split}_count", "int32", "part", True, f"images, {meaning}"),
    )


KEY_COLUMNS: tuple[Column, ...] = (
    Column("model", "int32", "part", False, "model index"),
    Column("epoch", "int32", "part", False, "completed passes over the training split; 0 is the initial state"),
)
CLASSIFICATION_COLUMNS: tuple[Column, ...] = (
    *_split_columns("running_train", "training split, summed while weights change, dropout and noise active"),
    *_split_columns("train", "training split, the state of this epoch in eval mode; at chosen epochs only"),
    *_split_columns("val", "validation split in eval mode; null where the dataset has none"),
    *_split_columns("test", "test split in eval mode"),
)
REGRESSION_COLUMNS: tuple[Column, ...] = (
    Column(
        "running_train_mse",
        "float64",
        "part",
        True,
        "mean squared error of the model's image (pixels in 0 to 1), averaged over the steps of the epoch, before each",
    ),
    Column("train_mse", "float64", "part", True, "mean squared error of the model's image in the state of this epoch"),
)
"""Metrics of image_regression, in place of ``CLASSIFICATION_COLUMNS``."""
FAULT_COLUMNS: tuple[Column, ...] = (
    Column("faulty_epoch", "int32", "part", True, "first epoch at whose end a weight was not finite"),
    Column(
        "faulty_reason",
        "string",
        "part",
        True,
        "`nan` if any weight was NaN then, else `inf`; `parent` of a twin whose parent was faulty",
    ),
)
PART_COLUMNS: tuple[Column, ...] = (*KEY_COLUMNS, *CLASSIFICATION_COLUMNS, *FAULT_COLUMNS)
TWIN_COLUMNS: tuple[Column, ...] = (
    Column("kl", "float64", "twin", True, "KL divergence of the weights' posterior, nats"),
    Column("kl_weight", "float64", "twin", True, "weight of the KL term in this epoch's loss"),
    Column("num_pruned", "int32", "twin", True, "weights with mask 0, biases not counted"),
    Column("num_prunable", "int32", "twin", True, "weights that can be pruned"),
)
NORM_COLUMNS: tuple[Column, ...] = (
    Column("weight_norm", "float64", "part", True, "Euclidean norm of the weight vector; null if not finite"),
    Column(
        "max_abs_weight", "float64", "part", True, "largest absolute value of the weight vector; null if not finite"
    ),
)
CLASS_COLUMNS: tuple[Column, ...] = tuple(
    column
    for split in SPLITS
    for column in (
        Column(f"{split}_class_correct", "int32[]", "part", True, f"{split}_correct by true class"),
        Column(f"{split}_class_predicted", "int32[]", "part", True, f"images of {split}_count by predicted class"),
    )
)
SUBSET_COLUMNS: tuple[Column, ...] = (
    Column(
        "train_class_count",
        "int32[]",
        "part",
        True,
        "images of each class in the model's subset of the training split; null if that is the whole split",
    ),
)
PSNR_DECIMALS = 6
LABEL_VERSION = 2
"""Version of what training measures: 1 had no ``NORM_COLUMNS`` and no ``CLASS_COLUMNS``. A run keeps its first one."""
ROW_COLUMNS: tuple[Column, ...] = (
    Column("row_digest", "string", "row", False, "digest of the model's hyperparameters and seed, 16 hex digits"),
    Column("activation", "string", "row", True, "non-linearity"),
    Column("dropout_ratio", "float64", "row", True, "share of activations dropped in training"),
    Column("initializer", "string", "row", True, "distribution of the initial weights"),
    Column("learning_rate", "float64", "row", True, "learning rate, or the schedule's maximum"),
    Column("optimizer", "string", "row", True, "optimizer"),
    Column("weight_decay", "float64", "row", True, "L2 penalty added to the gradient"),
    Column("momentum", "float64", "row", True, "momentum of SGD and RMSprop"),
    Column("nesterov", "bool", "row", True, "Nesterov momentum"),
    Column("seed", "int64", "row", False, "seed of the model, 0 to 2**32 - 1"),
    Column("parent_zoo", "string", "row", True, "zoo of the model this one descends from"),
    Column("parent_model", "int32", "row", True, "index there"),
    Column("parent_epoch", "int32", "row", True, "epoch there that this model begins at"),
)
LATER_ROW_COLUMNS: tuple[Column, ...] = (
    Column("train_fraction", "float64", "row", True, "share of the training split that the model trains on"),
    Column("label_noise", "float64", "row", True, "probability that a training image has a wrong label in training"),
    Column(
        "initial_std",
        "float64",
        "row",
        True,
        "standard deviation of the initial weights of normal, and of truncated_normal before it is cut; 1 for others",
    ),
    Column("image", "int32", "row", True, "image that the model learns, counted in the data set's training images"),
)
"""Columns of rows that only zoos have which use them."""
DERIVED_COLUMNS: tuple[Column, ...] = (
    Column("split", "string", "derived", False, "train, val or test: split over models, fixed by the root ancestor"),
    Column("running_train_acc", "float64", "derived", True, "running_train_correct / running_train_count"),
    Column("train_acc", "float64", "derived", True, "train_correct / train_count"),
    Column("val_acc", "float64", "derived", True, "val_correct / val_count"),
    Column("test_acc", "float64", "derived", True, "test_correct / test_count"),
    Column("ggap", "float64", "derived", True, "generalisation gap of the reference: running_train_acc - test_acc"),
)
REGRESSION_DERIVED: tuple[Column, ...] = (
    DERIVED_COLUMNS[0],
    Column(
        "psnr",
        "float64",
        "derived",
        True,
        "-10 log10(train_mse) in dB, rounded to 6 decimals; null where train_mse is 0, see `exact`",
    ),
    Column("exact", "bool", "derived", True, "whether train_mse is 0: the image is reproduced exactly, without a PSNR"),
)
SPARSITY = Column("sparsity_ratio", "float64", "derived", True, "num_pruned / num_prunable")

ALL_COLUMNS: dict[str, Column] = {
    c.name: c
    for c in (
        *PART_COLUMNS, *REGRESSION_COLUMNS, *NORM_COLUMNS, *CLASS_COLUMNS, *SUBSET_COLUMNS, *TWIN_COLUMNS, *ROW_COLUMNS,
        *LATER_ROW_COLUMNS, *DERIVED_COLUMNS, *REGRESSION_DERIVED, SPARSITY,
    )
}  # fmt: skip


def measured_columns(version: int) -> frozenset[str]:
    """Names of the columns that training with labels of ``version`` gives."""
    later = () if version == 1 else (*NORM_COLUMNS, *CLASS_COLUMNS, *SUBSET_COLUMNS)
    return frozenset(c.name for c in (*PART_COLUMNS, *REGRESSION_COLUMNS, *TWIN_COLUMNS, *later))


def part_columns(names: Collection[str] = ()) -> tuple[Column, ...]:
    """Columns of a part's labels: those that every part of its task has, and each group of which ``names`` holds a
    column. The task is image_regression where ``names`` holds one of its metrics.
    """
    groups = _groups(names, NORM_COLUMNS, CLASS_COLUMNS, SUBSET_COLUMNS, TWIN_COLUMNS)
    return (*KEY_COLUMNS, *_metrics(names), *FAULT_COLUMNS, *groups)


def joined_columns(names: Collection[str] = ()) -> tuple[Column, ...]:
    """Columns of a published zoo's labels, in their order: identity, split, results, hyperparameters, lineage.

    Args:
        names: as for ``part_columns``, and those of ``LATER_ROW_COLUMNS``.
    """
    head = [ALL_COLUMNS[name] for name in ("model", "epoch", "row_digest", "split")]
    derived = (REGRESSION_DERIVED if _is_regression(names) else DERIVED_COLUMNS)[1:]
    results = _groups(names, NORM_COLUMNS, CLASS_COLUMNS, SUBSET_COLUMNS, (*TWIN_COLUMNS, SPARSITY))
    return (*head, *_metrics(names), *FAULT_COLUMNS, *derived, *results, *row_columns(names)[1:])


def row_columns(names: Collection[str] = ()) -> tuple[Column, ...]:
    """Columns of a model's row, with those of ``LATER_ROW_COLUMNS`` that ``names`` holds."""
    return (*ROW_COLUMNS, *(column for column in LATER_ROW_COLUMNS if column.name in names))


def _is_regression(names: Collection[str]) -> bool:
    return any(column.name in names for column in REGRESSION_COLUMNS)


def _metrics(names: Collection[str]) -> tuple[Column, ...]:
    return REGRESSION_COLUMNS if _is_regression(names) else CLASSIFICATION_COLUMNS


def twin_names(twin: bool) -> tuple[str, ...]:
    """``names`` for ``part_columns`` and ``joined_columns`` of a zoo whose manifest does not list its columns."""
    return tuple(column.name for column in TWIN_COLUMNS) if twin else ()


def _groups(names: Collection[str], *groups: tuple[Column, ...]) -> tuple[Column, ...]:
    return tuple(column for group in groups if any(c.name in names for c in group) for column in group)


def model_columns(names: Collection[str] = ()) -> tuple[Column, ...]:
    """Columns of a published zoo's model table: the model's row, its last epoch, and whether it became faulty.

    Args:
        names: as for ``row_columns``.
    """
    return (
        ALL_COLUMNS["model"],
        ROW_COLUMNS[0],
        ALL_COLUMNS["split"],
        *row_columns(names)[1:],
        Column("num_epochs", "int32", "derived", False, "last epoch that is here"),
        ALL_COLUMNS["faulty_epoch"],
        ALL_COLUMNS["faulty_reason"],
    )


@dataclass(frozen=True, slots=True)
class Values:
    """One column: values of its type, and where they are not null (None: nowhere null). Null ones are zero or empty."""

    data: NDArray[Any]
    valid: NDArray[np.bool_] | None

    def take(self, rows: NDArray[Any]) -> "Values":
        return Values(self.data[rows], None if self.valid is None else self.valid[rows])


_DTYPES: dict[str, Any] = {
    "int32": np.int32,
    "int64": np.int64,
    "float64": np.float64,
    "bool": np.bool_,
    "int32[]": np.int32,
}


def part_values(labels: Mapping[str, Any], num_rows: int) -> dict[str, Values]:
    """The columns of a part from the label arrays that training gives.

    Null is: a masked value, a float that is not finite, a negative integer in a nullable integer column, None or a
    negative code in a string column, a list with a masked value, and every value of a nullable column that is not
    given.

    Args:
        labels: column name to values [num_rows], [num_rows, entries] for lists; ``faulty_reason`` as strings, or as
            codes of ``FAULT_REASONS``.

    Raises:
        FormatError: unknown column, other length, a null where none may be.
    """
    columns = part_columns(labels)
    if unknown := set(labels) - {c.name for c in columns}:
        raise FormatError(f"labels: unknown columns {sorted(unknown)}; storage/formats/labels.py lists them all")
    return {column.name: column_values(column, labels.get(column.name), num_rows) for column in columns}


def column_values(column: Column, given: Any, num_rows: int) -> Values:
    """Typed values of one column; see ``part_values`` for what is null."""
    if given is None:
        if not column.nullable:
            raise FormatError(f"labels: column {column.name!r} is missing")
        shape = (num_rows, 0) if column.type == "int32[]" else num_rows
        zeros = np.full(num_rows, "", object) if column.type == "string" else np.zeros(shape, _DTYPES[column.type])
        return Values(zeros, np.zeros(num_rows, np.bool_))
    mask = np.ma.getmaskarray(given) if isinstance(given, np.ma.MaskedArray) else None
    raw = np.asarray(given.data if isinstance(given, np.ma.MaskedArray) else given)
    expected = (num_rows, *raw.shape[1:2]) if column.type == "int32[]" else (num_rows,)
    if raw.shape != expected or (column.type == "int32[]" and raw.ndim != 2):
        raise FormatError(f"labels: column {column.name!r} has shape {raw.shape}, expected {expected}")
    if column.type == "int32[]":
        if raw.dtype.kind not in "iu":
            raise FormatError(f"labels: column {column.name!r} holds {raw.dtype}, expected integers")
        data, valid, mask = raw.astype(np.int32), ~_masked_rows(mask, num_rows) & (raw >= 0).all(axis=1), None
    elif column.type == "string":
        data, valid = _strings(raw)
    elif raw.dtype == object:
        valid = np.array([value is not None for value in raw], np.bool_)
        data = np.array([0 if value is None else value for value in raw], _DTYPES[column.type])
    else:
        data = raw.astype(_DTYPES[column.type])
        if column.type.startswith("int") and raw.dtype.kind not in "iub":
            raise FormatError(f"labels: column {column.name!r} holds {raw.dtype}, expected integers")
        valid = np.ones(num_rows, np.bool_)
    if column.type == "float64":
        valid &= np.isfinite(data)
    if column.nullable and column.type in ("int32", "int64"):
        valid &= data >= 0
    if mask is not None:
        valid &= ~mask
    if valid.all():
        return Values(data, None)
    if not column.nullable:
        raise FormatError(f"labels: column {column.name!r} may not be null; row {int(np.argmin(valid))} is")
    data = data.copy()
    data[~valid] = "" if column.type == "string" else 0
    return Values(data, valid)


def _masked_rows(mask: NDArray[np.bool_] | None, num_rows: int) -> NDArray[np.bool_]:
    return np.zeros(num_rows, np.bool_) if mask is None else np.asarray(mask.any(axis=1))


def _strings(raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if raw.dtype.kind in "iu":
        texts = [FAULT_REASONS[code] if 0 <= code < len(FAULT_REASONS) else None for code in raw.tolist()]
    else:
        texts = [None if value is None or value == "" else str(value) for value in raw.tolist()]
    return (
        np.array([text or "" for text in texts], object),
        np.array([text is not None for text in texts], np.bool_),
    )


def derive(values: dict[str, Values]) -> dict[str, Values]:
    """The columns that follow from what was measured: accuracies and ggap, or PSNR; of twins also sparsity."""
    derived: dict[str, Values] = {}
    if "num_pruned" in values:
        derived[SPARSITY.name] = _ratio(values["num_pruned"], values["num_prunable"])
    if "train_mse" in values:
        return derived | _psnr(values["train_mse"])
    for split in ("running_train", "train", "val", "test"):
        derived[f"{split}_acc"] = _ratio(values[f"{split}_correct"], values[f"{split}_count"])
    running, test = derived["running_train_acc"], derived["test_acc"]
    valid = _valid(running) & _valid(test)
    derived["ggap"] = _values(np.where(valid, running.data - test.data, 0.0), valid)
    return derived


def _psnr(mse: Values) -> dict[str, Values]:
    known = _valid(mse)
    exact = known & (mse.data == 0)
    valid = known & ~exact
    decibels = _decibels(np.where(valid, mse.data, 1.0))
    return {"psnr": _values(np.where(valid, decibels, 0.0), valid), "exact": _values(exact, known)}


def _decibels(mse: NDArray[np.float64]) -> NDArray[np.float64]:
    """-10 log10(mse), rounded to 6 decimals: the same numbers on machines whose logarithms differ in the last digit."""
    values = -10 * np.log10(mse)
    rounded: NDArray[np.float64] = np.round(values, PSNR_DECIMALS) + 0.0
    for i in np.flatnonzero(np.round(values - 1e-11, PSNR_DECIMALS) != np.round(values + 1e-11, PSNR_DECIMALS)):
        exactly = Context(prec=50).log10(Decimal(float(mse[i]))) * -10
        rounded[i] = float(exactly.quantize(Decimal(1).scaleb(-PSNR_DECIMALS)))
    return rounded


def _ratio(numerator: Values, denominator: Values) -> Values:
    valid = _valid(numerator) & _valid(denominator) & (denominator.data > 0)
    divisor = np.where(valid, denominator.data, 1).astype(np.float64)
    return _values(np.where(valid, numerator.data.astype(np.float64) / divisor, 0.0), valid)


def _valid(values: Values) -> NDArray[np.bool_]:
    return np.ones(len(values.data), np.bool_) if values.valid is None else values.valid


def _values(data: NDArray[Any], valid: NDArray[np.bool_]) -> Values:
    return Values(data, None if valid.all() else valid)
