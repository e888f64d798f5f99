"""Reads the weights of a run's models at one epoch, from the records that committed them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotKept, ModelNotPresent
from ..formats.tensors import decode, tensor_name
from ..stores.objects import get_object
from .ledger import Ledger


def read_weights(ledger: Ledger, models: Sequence[int], epoch: int) -> NDArray[np.float32]:
    """Weights [M, D] of ``models``, in the given order, after ``epoch``.

    Raises:
        ModelNotPresent: a model has not come that far.
        EpochNotKept: the epoch was trained, its weights were not kept.
        ObjectMissing, DigestMismatch: the store lost or changed something.
    """
    part = -(-epoch // ledger.commit_every)
    rows: dict[str, list[int]] = {}
    records = {}
    for position, model in enumerate(models):
        key = ledger.holder(model, part)
        if key is None:
            raise ModelNotPresent(f"model {model} of run {ledger.run[:8]} has no epoch {epoch} yet; train it first")
        record = ledger.record(key)
        if epoch not in record.kept:
            refills = [ledger.record(k) for k in ledger.refills(model) if k.part == part]
            record = next((r for r in refills if epoch in r.kept), record)
        if epoch not in record.kept:
            raise EpochNotKept(
                f"epoch {epoch} of run {ledger.run[:8]} was trained, but its weights were not kept (`save_epochs`); "
                f"`zoo train NAME --refill {epoch}` makes them again"
            )
        records[str(record.key)] = record
        rows.setdefault(str(record.key), []).append(position)
    weights: NDArray[np.float32] | None = None
    for name, positions in rows.items():
        record = records[name]
        assert record.weights is not None
        tensors, _ = decode(get_object(ledger.store, record.weights, name), record.weights.key)
        index = {model: row for row, model in enumerate(record.members)}
        rows_here = tensors[tensor_name(epoch)][[index[models[p]] for p in positions]]
        if weights is None:
            weights = np.empty((len(models), rows_here.shape[1]), np.float32)
        weights[positions] = rows_here
    assert weights is not None
    return weights
