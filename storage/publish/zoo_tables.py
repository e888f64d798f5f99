"""The two tables of a published zoo: labels, one row per (model, epoch), and models, one row per model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats.labels import (
    LATER_ROW_COLUMNS,
    SUBSET_COLUMNS,
    Column,
    Values,
    column_values,
    derive,
    joined_columns,
    model_columns,
    row_columns,
)
from ..formats.manifest import TableEntry
from ..formats.splits import SPLITS, SplitName, assign_splits
from ..formats.tables import encode_table, values_digest
from ..stores.objects import put_object
from ..stores.protocol import ObjectStore
from .description import ZooDescription


@dataclass(frozen=True, slots=True)
class Tables:
    """Both tables of a zoo as written, the columns of its labels, and the number of models per split."""

    labels: TableEntry
    models: TableEntry
    label_columns: tuple[Column, ...]
    split_counts: dict[str, int]


def splits_of(description: ZooDescription, models: Sequence[int]) -> list[SplitName]:
    """Split of each model of the zoo, by its root ancestor."""
    roots = [int(description.rows[model].get("root_model", model)) for model in models]
    by_root = description.root_rows
    if by_root is None:
        by_root = {int(row.get("root_model", model)): row for model, row in description.rows.items()}
    count = description.num_root_models or description.num_models
    return assign_splits(description.split, description.root, roots, by_root, count)


def concatenate(tables: Sequence[Mapping[str, Values]], names: Sequence[str]) -> dict[str, Values]:
    """The rows of all tables, in their order."""
    joined = {}
    for name in names:
        arrays = [table[name].data for table in tables]
        if arrays[0].ndim == 2:  # lists; where all of a table are null, they have no entries
            length = max(array.shape[1] for array in arrays)
            arrays = [np.zeros((len(a), length), a.dtype) if a.shape[1] == 0 else a for a in arrays]
        data = np.concatenate(arrays)
        if all(table[name].valid is None for table in tables):
            joined[name] = Values(data, None)
            continue
        valid = [np.ones(len(t[name].data), np.bool_) if (v := t[name].valid) is None else v for t in tables]
        joined[name] = Values(data, np.concatenate(valid))
    return joined


def write_tables(
    store: ObjectStore,
    description: ZooDescription,
    parts: Sequence[Mapping[str, Values]],
    last_epochs: Mapping[int, int],
) -> Tables:
    """Write both tables.

    Args:
        parts: label columns of parts and earlier versions, together one row per (model, epoch) in any order.
        last_epochs: model to its last epoch; all from 0 on must be in ``parts``.

    Raises:
        FormatError: the parts have different columns, or lists of different lengths.
    """
    parts = _with_subset_columns(parts)
    names = list(parts[0])
    if any(set(part) != set(names) for part in parts):
        raise FormatError(f"zoo {description.name!r}: its parts do not have the same label columns")
    values = concatenate(parts, names)
    order = np.lexsort((values["epoch"].data, values["model"].data))
    values = {name: column.take(order) for name, column in values.items()}
    models = np.array(sorted(last_epochs), np.int32)
    counts = np.array([last_epochs[int(model)] + 1 for model in models], np.int64)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1])) if len(counts) else np.zeros(0, np.int64)
    expected_epochs = np.arange(counts.sum()) - np.repeat(starts, counts)
    if not (
        np.array_equal(values["model"].data, np.repeat(models, counts))
        and np.array_equal(values["epoch"].data, expected_epochs)
    ):
        raise FormatError("labels of parts do not give one row per model and epoch")
    splits = splits_of(description, models.tolist())
    rows = row_values(description, models.tolist())
    rows["split"] = Values(np.array(splits, object), None)
    repeat = np.repeat(np.arange(len(models)), counts)
    values.update({name: column.take(repeat) for name, column in rows.items()})
    values.update(derive(values))
    later = later_names(description)
    label_columns = joined_columns([*names, *later])
    labels = _write(store, label_columns, values, len(repeat))
    lasts = starts + counts - 1
    for name in ("faulty_epoch", "faulty_reason"):
        rows[name] = values[name].take(lasts)
    rows["model"] = Values(models, None)
    rows["num_epochs"] = Values((counts - 1).astype(np.int32), None)
    model_table = _write(store, model_columns(later), rows, len(models))
    return Tables(labels, model_table, label_columns, {name: splits.count(name) for name in SPLITS})


def _with_subset_columns(parts: Sequence[Mapping[str, Values]]) -> list[dict[str, Values]]:
    """All parts with the columns of subsets, null in parts of models without one, if any part has them."""
    missing = [column for column in SUBSET_COLUMNS if any(column.name in part for part in parts)]
    return [
        {column.name: column_values(column, None, len(part["model"].data)) for column in missing} | dict(part)
        for part in parts
    ]


def later_names(description: ZooDescription) -> tuple[str, ...]:
    """The names of ``LATER_ROW_COLUMNS`` that a row of the zoo uses."""
    rows = description.rows.values()
    return tuple(c.name for c in LATER_ROW_COLUMNS if any(row.get(c.name) is not None for row in rows))


def row_values(description: ZooDescription, models: Sequence[int]) -> dict[str, Values]:
    """Columns of the models' rows. Raises FormatError for a model without one."""
    missing = [model for model in models if model not in description.rows]
    if missing:
        raise FormatError(f"zoo {description.name!r}: the description has no row for model {missing[0]}")
    columns = {}
    for column in row_columns(later_names(description)):
        given: NDArray[Any] = np.array([description.rows[model].get(column.name) for model in models], object)
        columns[column.name] = column_values(column, given, len(models))
    return columns


def _write(store: ObjectStore, columns: Any, values: Mapping[str, Values], num_rows: int) -> TableEntry:
    ref = put_object(store, encode_table(columns, values), "parquet")
    return TableEntry(ref, num_rows, values_digest(columns, values))
