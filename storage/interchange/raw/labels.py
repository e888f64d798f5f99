"""Make the label columns of a raw tree. Accuracies become counts of images, and missing metrics become null."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats.labels import NORM_COLUMNS, PART_COLUMNS, TWIN_COLUMNS, Values, part_values
from ...formats.splits import SPLITS
from .findings import Findings
from .format import IMAGES, image_count
from .metrics import METRICS, epochs_text
from .tree import RawModel

Faulty = Mapping[int, tuple[int, str]]  # model to its first faulty epoch and the reason
Pruned = Mapping[tuple[int, int], tuple[int, int]]  # (model, epoch) to (pruned, prunable) weights
Norms = Mapping[tuple[int, int], tuple[float, float]]  # (model, epoch) to norm and largest absolute weight

_SPARSITY_TOLERANCE = 1e-6  # the reference may compute its ratio in single precision


def image_counts(
    models: Mapping[int, RawModel], dataset: str, given: tuple[int, int, int] | None, findings: Findings
) -> dict[str, int | None]:
    """The number of images of each split; None, with a finding, if no number of images fits the accuracies."""
    known = given or IMAGES.get(dataset)
    counts: dict[str, int | None] = {}
    for place, split in enumerate(SPLITS):
        column = METRICS.index(f"{split}_acc")
        with_any = {
            index: [
                row[column]
                for epoch, row in model.metrics.items()
                if epoch not in model.own and row[column] is not None
            ]
            for index, model in models.items()
        }
        ratios = np.array([ratio for values in with_any.values() for ratio in values], np.float64)
        counts[split] = image_count(ratios, known[place] if known and known[place] else None)
        if len(ratios) and counts[split] is None:
            for index, values in with_any.items():
                if values:
                    findings.add(
                        index,
                        f"its {split} accuracies are fractions of no number of images: null without --images",
                    )
    return counts


def label_values(
    models: Mapping[int, RawModel],
    lasts: Mapping[int, int],
    faulty: Faulty,
    pruned: Pruned,
    norms: Norms,
    counts: Mapping[str, int | None],
    twin: bool,
    findings: Findings,
) -> dict[str, Values]:
    """The label columns. There is one row for each model and each epoch from 0 to the model's last.

    Args:
        lasts: the last epoch of each model.
    """
    columns = (*PART_COLUMNS, *NORM_COLUMNS, *(TWIN_COLUMNS if twin else ()))
    values: dict[str, list[Any]] = {column.name: [] for column in columns}
    for index, last in lasts.items():
        model = models[index]
        bad_epoch, reason = faulty.get(index, (None, None))
        missing = [epoch for epoch in range(last + 1) if epoch not in model.metrics]
        if missing and model.metrics and not model.from_matrix:
            findings.add(index, f"result.json has no row of {epochs_text(missing)}: its metrics are null")
        for epoch in range(last + 1):
            row = model.own.get(epoch)
            if row is None:
                row = _measured(model, epoch, counts) if bad_epoch is None or epoch < bad_epoch else {}
                if twin:
                    row.update(_sparsity(model, epoch, pruned, findings))
                if bad_epoch is not None and epoch >= bad_epoch:
                    row.update(faulty_epoch=bad_epoch, faulty_reason=reason)
            if "weight_norm" not in row and (index, epoch) in norms:
                row = {**row, "weight_norm": norms[index, epoch][0], "max_abs_weight": norms[index, epoch][1]}
            for name, column in values.items():
                column.append(row.get(name))
            values["model"][-1], values["epoch"][-1] = index, epoch
    return part_values({name: _array(column) for name, column in values.items()}, len(values["model"]))


def _measured(model: RawModel, epoch: int, counts: Mapping[str, int | None]) -> dict[str, Any]:
    metrics = dict(zip(METRICS, model.metrics.get(epoch, (None,) * len(METRICS)), strict=True))
    row: dict[str, Any] = {}
    for split in SPLITS:
        # Nothing was trained before epoch 0, so its train metrics are clean ones.
        name = "running_train" if split == "train" and epoch and not model.from_matrix else split
        accuracy, count = metrics[f"{split}_acc"], counts[split]
        row[f"{name}_loss"] = metrics[f"{split}_loss"]
        if accuracy is not None and count is not None:
            row[f"{name}_correct"] = round(accuracy * count)
            row[f"{name}_count"] = count
    return row


def _sparsity(model: RawModel, epoch: int, pruned: Pruned, findings: Findings) -> dict[str, Any]:
    counted = pruned.get((model.index, epoch))
    if counted is None:
        return {}
    ratio = model.metrics.get(epoch, (None,) * len(METRICS))[METRICS.index("sparsity_ratio")]
    if ratio is not None and abs(counted[0] / counted[1] - ratio) > _SPARSITY_TOLERANCE:
        findings.add(model.index, "its sparsity_ratio differs from that of its weights and log sigma^2, which is taken")
    return {"num_pruned": counted[0], "num_prunable": counted[1]}


def _array(values: list[Any]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column
