"""Finds the models whose twins can be trained already. Pure except that it reads records of the ledger."""

from zooforge.storage.runs.ledger import Ledger

from ..errors import InputError
from ..spec.epochs import part_of
from ..spec.twins import TwinSpec
from .units import Request


def unmade_twins(ledger: Ledger, twins: TwinSpec, wanted: Request) -> set[int]:
    """Models of ``wanted`` whose parent has not reached the source epoch.

    Args:
        ledger: of the parents' run.
    """
    return {model for model in wanted.models if ledger.num_epochs(model) <= twins.source_epoch}


def absent_parents(ledger: Ledger, twins: TwinSpec, wanted: Request) -> set[int]:
    """``unmade_twins``, if at least one twin can be trained.

    Raises:
        InputError: no parent has reached the source epoch, or the weights of one that has were not kept.
    """
    parent, epoch = twins.parent, twins.source_epoch
    absent = unmade_twins(ledger, twins, wanted)
    if len(absent) == len(wanted.models):
        models = f"{wanted.models.start}:{wanted.models.stop}"
        raise InputError(
            f"none of models {models} of {parent.name} has epoch {epoch} yet; "
            f"`zoo train {parent.name} --models {models} --epochs {epoch}` comes first"
        )
    present = [model for model in wanted.models if model not in absent]
    part = part_of(epoch, ledger.commit_every)
    first = {model: key for model in present if (key := ledger.holder(model, part)) is not None}
    refills = [key for model in present for key in ledger.refills(model) if key.part == part]
    records = ledger.records([*first.values(), *refills])
    having = {model for record in records if epoch in record.kept for model in record.members}
    lacking = [model for model in present if model not in having]
    if lacking:
        raise InputError(
            f"epoch {epoch} of {len(lacking):,} models of {parent.name} was trained, but its weights were not kept "
            f"(`save_epochs`); `zoo train {parent.name} --refill {epoch}` makes them again, "
            f"`zoo plan {parent.name} --epochs {epoch}` says at what price"
        )
    return absent
