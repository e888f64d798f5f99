"""Finds the records that lack the weights of some epochs, to train these models again. Pure."""

from collections.abc import Collection

from zooforge.storage.runs.ledger import Ledger

from ..errors import InputError
from ..spec.epochs import part_of
from .units import Request, Task


def refill_tasks(ledger: Ledger, wanted: Request, epochs: Collection[int], commit_every: int) -> tuple[Task, ...]:
    """Tasks from epoch 0 for the wanted records that lack weights of ``epochs``.

    Raises:
        InputError: an epoch was not trained yet.
    """
    refills = []
    for folder in ledger.folders.values():
        if not any(model in wanted.models for model in folder.members):
            continue
        for epoch in epochs:
            part = part_of(epoch, commit_every)
            missing = part in folder.parts and part not in folder.refills
            if missing and epoch not in ledger.record(folder.key(part)).kept:
                refills.append(Task(folder.unit, folder.members, 0))
                break
    furthest = max((ledger.num_epochs(model) - 1 for model in ledger.models if model in wanted.models), default=-1)
    beyond = [epoch for epoch in epochs if epoch > furthest]
    if beyond:
        raise InputError(
            f"epoch {min(beyond)} was not trained yet, so there is nothing to refill; the last is {furthest}"
        )
    return tuple(refills)
