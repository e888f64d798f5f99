"""Specs of sparsified twins, which are a zoo of their own. Pure."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zooforge.storage.canonical import digest_of

from ..errors import InputError
from ..tasks.image_regression import no_twins
from .blocks import NUMERICS_VERSION, SparsifySpec, validated
from .epochs import EpochSet
from .own_code import OwnCode
from .zoo import ZooSpec


@dataclass(frozen=True)
class TwinSpec:
    """A zoo of sparsified twins. A twin has its parent's index and begins with its weights of ``source_epoch``."""

    parent: ZooSpec
    sparsify: SparsifySpec
    source_epoch: int

    @property
    def name(self) -> str:
        early = "" if self.source_epoch == self.parent.num_epochs else f"-e{self.source_epoch:03d}"
        return f"{self.parent.name}-{self.sparsify.suffix}{early}"

    @property
    def root(self) -> ZooSpec:
        """The zoo that defines data, architecture and batches."""
        return self.parent

    @property
    def num_epochs(self) -> int:
        return self.sparsify.num_epochs

    @property
    def save_epochs(self) -> EpochSet:
        return self.sparsify.save_epochs

    @property
    def train_eval_epochs(self) -> EpochSet:
        return self.parent.train_eval_epochs

    @property
    def commit_every(self) -> int:
        return self.parent.commit_every if self.num_epochs % self.parent.commit_every == 0 else 1

    @property
    def run_content(self) -> dict[str, Any]:
        """JSON of all fields that can change a result. The constants of the method belong to the numerics version."""
        return {
            "method": self.sparsify.method,
            "sparsity_ratio": self.sparsify.sparsity_ratio,
            "parent_run": self.parent.run_id,
            "source_epoch": self.source_epoch,
            "numerics_version": NUMERICS_VERSION,
            **self.sparsify.digest_fields(always=(), if_set=("lambda_epochs", "weight_decay")),
        }

    @cached_property
    def run_id(self) -> str:
        """32 hex digits: SHA-256 over the canonical JSON of ``run_content``."""
        return digest_of(self.run_content)[:32]

    def to_json(self) -> dict[str, Any]:
        return {
            "parent": self.parent.to_json(),
            "sparsify": self.sparsify.model_dump(mode="json"),
            "source_epoch": self.source_epoch,
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "spec") -> "TwinSpec":
        """Parse the JSON that ``to_json`` wrote. Raises InputError for anything else."""
        if not isinstance(value, dict) or set(value) != {"parent", "sparsify", "source_epoch"}:
            raise InputError(f"{where}: a twin's spec has the fields parent, sparsify and source_epoch")
        if not isinstance(value["source_epoch"], int):
            raise InputError(f"{where}: source_epoch is an integer, got {value['source_epoch']!r}")
        sparsify = validated(SparsifySpec, value["sparsify"], f"{where}: sparsify")
        return cls(ZooSpec.from_json(value["parent"], f"{where}: parent"), sparsify, value["source_epoch"])


Zoo = ZooSpec | TwinSpec
"""A zoo that is planned, trained and published: grown from a grid, or made from another zoo's models."""


def twins_of(spec: ZooSpec, sparsify: SparsifySpec | None = None, source_epoch: int | None = None) -> TwinSpec:
    """The spec of a zoo's twins. The defaults are the zoo's own ``sparsify`` block and its last epoch.

    Raises:
        InputError: neither the zoo nor the caller gives a ``sparsify`` block, or such models cannot have twins.
    """
    chosen = sparsify or spec.sparsify
    if spec.architecture_row.fixed_activation is not None or isinstance(spec.architecture, OwnCode):
        raise InputError(f"{spec.name}: twins are made of CNNs, its models are {spec.architecture_name}")
    if chosen is None:
        raise InputError(f"{spec.name} has no `sparsify:` block; name a method, e.g. --method variational-dropout")
    if spec.task_row.vectors and chosen.method != "magnitude":
        raise InputError(f"{spec.name}: {no_twins(chosen.method)}: --method magnitude --sparsity 90")
    return TwinSpec(spec, chosen, spec.num_epochs if source_epoch is None else source_epoch)
