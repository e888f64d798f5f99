"""The HTML of a zoo in a notebook: its facts, and test accuracy over epochs."""

import html

import numpy as np

from ..errors import StorageError
from ..formats.drawing import curves, table
from ..formats.manifest import Manifest
from ..formats.tables import numpy_column
from .label_tables import LabelTables


def zoo_html(manifest: Manifest, title: str, tables: LabelTables) -> str:
    """Facts of the manifest, and a drawing of the labels where they can be read."""
    architecture = manifest.architecture
    facts = [
        ("title", manifest.title),
        ("data set", manifest.dataset),
        (
            "architecture",
            f"{architecture['name']}, {manifest.layout.size:,} values, {architecture['num_classes']} classes",
        ),
        ("states with weights", f"{manifest.num_states:,}"),
        ("models by split", ", ".join(f"{name} {count:,}" for name, count in manifest.split_counts.items())),
    ]
    if manifest.parent is not None:
        facts.append(("parent", f"{manifest.parent.zoo}, epoch {manifest.parent.epoch}"))
    return f"<p>{html.escape(title[1:-1])}</p>{table(facts)}{_accuracy(tables)}"


def _accuracy(tables: LabelTables) -> str:
    """An empty text if the labels cannot be read, because a repr must not fail."""
    try:
        labels = tables.labels.select(["epoch", "test_acc"])
    except StorageError:
        return ""
    epoch, accuracy = (numpy_column(labels[name]) for name in ("epoch", "test_acc"))
    known = np.isfinite(accuracy)
    epochs = np.unique(epoch[known]).tolist()
    if not epochs:
        return ""
    bands = [np.quantile(accuracy[known & (epoch == one)], [0.1, 0.5, 0.9]).tolist() for one in epochs]
    return curves(epochs, *(list(values) for values in zip(*bands, strict=True)))
