"""What a report is made from: a published zoo, its twins where there are any, and how its run went. Pure."""

from dataclasses import dataclass, field
from typing import Any

from .fidelity import Comparison
from .population import Population
from .weight_map import WeightMap


@dataclass(frozen=True)
class ZooFacts:
    """What a zoo is, and how much of it is here. Nothing in it depends on a machine or a moment.

    Attributes:
        num_models, num_epochs: of the whole zoo, of which a version may hold a part.
        axes: hyperparameter to the values of the whole grid.
        num_cells: combinations of them.
        engines: numerics that the records were made with, as a person reads them.
        sources: name and value of further lines of provenance.
    """

    name: str
    description: str
    kind: str
    dataset: str
    architecture: str
    num_parameters: int
    num_classes: int
    num_models: int
    num_epochs: int
    num_cells: int
    axes: dict[str, tuple[Any, ...]]
    run: str
    version: int
    manifest_sha256: str
    engines: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()

    @property
    def chance_ratio(self) -> float:
        return 1 / self.num_classes


@dataclass(frozen=True)
class RunAccount:
    """How a zoo was made. Other than the rest of a report, it differs between two runs that gave equal zoos.

    Attributes:
        plan: what the plan rests on, e.g. the machine whose measured rates it uses; empty without a plan.
        planned, actual: quantity to amount, in seconds, dollars and bytes; ``planned`` is empty where no plan is known.
        attempts: start, end (seconds of Unix time, None while unknown) and how it ended, oldest first.
        problems: seconds of Unix time, kind, and what happened, oldest first.
    """

    zoo: str
    plan: str
    planned: dict[str, float]
    actual: dict[str, float]
    attempts: tuple[tuple[float, float | None, str], ...]
    problems: tuple[tuple[float, str, str], ...]


@dataclass(frozen=True)
class Contents:
    """Everything in one report; ``twins`` is the contents of the sparsified zoo."""

    facts: ZooFacts
    population: Population
    weight_map: WeightMap | None = None
    comparisons: tuple[Comparison, ...] = ()
    twins: "Contents | None" = None
    accounts: tuple[RunAccount, ...] = ()
    notes: tuple[str, ...] = field(default=())
