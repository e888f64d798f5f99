"""Accuracy and loss of many states on images. Imported only when needed."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ..read.reader import ZooReader
from ..read.selection import Selection
from .stack import stack_modules

BATCH_IMAGES = 256
CHUNK_STATES = 16


@torch.no_grad()
def evaluate(
    zoo: ZooReader, selection: Selection, images: NDArray[np.float32], labels: NDArray[np.int64], masked: bool
) -> pa.Table:
    """Columns ``model``, ``epoch``, ``correct``, ``count``, ``acc``, ``loss``, row by row those of the selection.

    States whose logits are not finite have no ``correct``, ``acc`` and ``loss``.
    """
    rows = zoo.model_table().select(["model", "activation"]).to_pylist()
    activation_of = {row["model"]: row["activation"] for row in rows}
    groups: dict[Any, list[int]] = {}
    for row, model in enumerate(selection.models.tolist()):
        groups.setdefault(activation_of[model], []).append(row)
    correct, loss = np.zeros(len(selection), np.int64), np.zeros(len(selection))
    for group in groups.values():
        for start in range(0, len(group), CHUNK_STATES):
            chosen = group[start : start + CHUNK_STATES]
            stack = stack_modules(zoo, Selection(selection.models[chosen], selection.epochs[chosen]), masked)
            for first in range(0, len(labels), BATCH_IMAGES):
                target = torch.from_numpy(labels[first : first + BATCH_IMAGES])
                logits = stack(torch.from_numpy(images[first : first + BATCH_IMAGES]))
                correct[chosen] += (logits.argmax(dim=2) == target).sum(dim=1).numpy()
                each = functional.cross_entropy(
                    logits.double().transpose(1, 2), target.expand(len(chosen), -1), reduction="none"
                )
                loss[chosen] += each.sum(dim=1).numpy()
    bad = ~np.isfinite(loss)
    return pa.table(
        {
            "model": selection.models,
            "epoch": selection.epochs,
            "correct": pa.array(correct, mask=bad),
            "count": np.full(len(selection), len(labels), np.int64),
            "acc": pa.array(correct / max(1, len(labels)), mask=bad),
            "loss": pa.array(loss / max(1, len(labels)), mask=bad),
        }
    )
