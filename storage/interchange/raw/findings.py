"""Findings: the faults and oddities of a tree, by model. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...formats.shards import to_ranges


@dataclass
class Findings:
    """Faults and oddities of a tree.

    Attributes:
        by_reason: sentences, each with the models that it is true of.
        absent: models that are not imported, and why.
        strays: names of folders that do not belong to a model.
        of_tree: sentences about the whole tree.
    """

    by_reason: dict[str, set[int]] = field(default_factory=dict)
    absent: dict[int, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    of_tree: list[str] = field(default_factory=list)

    def add(self, model: int, reason: str) -> None:
        self.by_reason.setdefault(reason, set()).add(model)

    def drop(self, model: int, reason: str) -> None:
        """Record that the model is not imported, with the first reason that is given."""
        self.absent.setdefault(model, reason)

    def lines(self) -> list[str]:
        """One line for each finding, with its models as half-open ranges."""
        dropped: dict[str, list[int]] = {}
        for model, reason in self.absent.items():
            dropped.setdefault(reason, []).append(model)
        return [
            *self.of_tree,
            *(f"{name}: not the folder of a model, skipped" for name in self.strays),
            *(f"models {_spans(models)}: left out: {reason}" for reason, models in dropped.items()),
            *(f"models {_spans(sorted(models))}: {reason}" for reason, models in self.by_reason.items()),
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "absent": {str(model): reason for model, reason in sorted(self.absent.items())},
            "findings": [
                *({"reason": reason, "models": []} for reason in self.of_tree),
                *({"reason": r, "models": sorted(models)} for r, models in self.by_reason.items()),
            ],
            "strays": self.strays,
        }


def _spans(numbers: Sequence[int]) -> str:
    """ "0:3, 7" for 0, 1, 2, 7."""
    return ", ".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in to_ranges(sorted(set(numbers))))
