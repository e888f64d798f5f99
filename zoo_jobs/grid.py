"""Rows of a zoo: one per model index, hyperparameters and seed. Pure."""

import hashlib
from dataclasses import asdict, dataclass

from .models.layers import ActivationName


@dataclass(frozen=True, slots=True)
class Family:
    """Operation family within one architecture: models whose training runs the same operations."""

    activation: ActivationName
    dropout: bool
    optimizer: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of a zoo. ``index`` is its identity and never renumbered."""

    index: int
    activation: ActivationName
    dropout_ratio: float
    initializer: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    nesterov: bool
    seed: int

    @property
    def family(self) -> Family:
        return Family(self.activation, self.dropout_ratio > 0, self.optimizer)

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 over the canonical JSON of every field but ``index``."""
        from storage.canonical import canonical_json

        values = asdict(self)
        del values["index"]
        return hashlib.sha256(canonical_json(values)).hexdigest()[:16]
