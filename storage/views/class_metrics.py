"""Metrics per class of many states, from the counts in their labels. Imported only when needed."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import StorageUsageError
from ..formats.tables import numpy_column
from ..read.reader import ZooReader
from ..read.selection import Selection

OWN_COUNTS = "train_class_count"
"""The column with the true counts of models that train on a subset."""


def class_metrics(zoo: ZooReader, selection: Selection, split: str) -> pa.Table:
    """See ``Zoo.class_metrics``."""
    names = [f"{split}_class_correct", f"{split}_class_predicted"]
    counts = ((zoo.manifest.data or {}).get("class_counts") or {}).get(split)
    if names[0] not in {column.name for column in zoo.manifest.label_columns} or counts is None:
        raise StorageUsageError(f"zoo {zoo.name!r}: its models were not counted by class, as new runs are")
    table = zoo.labels_of(selection, names)
    correct, predicted = (np.ma.masked_array(numpy_column(table[name])) for name in names)
    if not correct.shape[1]:  # no state was evaluated on this split
        correct = predicted = np.ma.masked_array(np.zeros((len(selection), len(counts))), mask=True)
    true = np.tile(np.asarray(counts), (len(selection), 1))
    if split == "train" and OWN_COUNTS in {column.name for column in zoo.manifest.label_columns}:
        own = np.ma.masked_array(numpy_column(zoo.labels_of(selection, [OWN_COUNTS])[OWN_COUNTS]))
        if own.shape[1]:
            true = np.where(np.ma.getmaskarray(own), true, own.data)
    present = true > 0
    recall = np.ma.filled(correct / np.maximum(true, 1), np.nan).astype(np.float64)
    total = np.maximum(true.sum(axis=1, keepdims=True), 1)
    share = np.ma.filled(predicted / total, np.nan).astype(np.float64)
    with np.errstate(invalid="ignore"):
        macro = np.where(present, recall, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        largest = share.max(axis=1)
    recall[~present] = np.nan

    def nullable(values: NDArray[np.float64]) -> pa.Array:
        return pa.array(values, mask=np.isnan(values))

    def lists(values: NDArray[np.float64]) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(nullable(values.reshape(-1)), values.shape[1])

    return pa.table(
        {
            "model": selection.models,
            "epoch": selection.epochs,
            "recall": lists(recall),
            "predicted_share": lists(share),
            "macro_recall": nullable(macro),
            "largest_predicted_share": nullable(largest),
        }
    )
