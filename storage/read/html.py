"""The HTML of a zoo in a notebook: its facts, and test accuracy or PSNR over epochs."""

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
            f"{architecture['name']}, {manifest.layout.size:,} values, {architecture['num_classes']} "
            + ("classes" if manifest.task is None else "outputs"),
        ),
        ("states with weights", f"{manifest.num_states:,}"),
        ("models by split", ", ".join(f"{name} {count:,}" for name, count in manifest.split_counts.items())),
    ]
    if manifest.parent is not None:
        facts.append(("parent", f"{manifest.parent.zoo}, epoch {manifest.parent.epoch}"))
    return f"<p>{html.escape(title[1:-1])}</p>{table(facts)}{_accuracy(manifest, tables)}"


def _accuracy(manifest: Manifest, tables: LabelTables) -> str:
    """An empty text if the labels cannot be read, because a repr must not fail."""
    metric, name, largest = ("test_acc", "test accuracy", 1) if manifest.task is None else ("psnr", "PSNR in dB", 50)
    try:
        labels = tables.labels.select(["epoch", metric])
    except StorageError:
        return ""
    epoch, accuracy = (numpy_column(labels[column]) for column in ("epoch", metric))
    known = np.isfinite(accuracy)
    epochs = np.unique(epoch[known]).tolist()
    if not epochs:
        return ""
    bands = [np.quantile(accuracy[known & (epoch == one)], [0.1, 0.5, 0.9]).tolist() for one in epochs]
    return curves(epochs, *(list(values) for values in zip(*bands, strict=True)), name=name, largest=largest)
