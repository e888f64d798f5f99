"""The contents of a report: a published zoo, its twins if it has any, and how its run went. Pure."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import words
from .fidelity import Comparison
from .measure import ACCURACY, PSNR, Measure
from .population import Population
from .weight_map import WeightMap


@dataclass(frozen=True)
class ZooFacts:
    """Facts about a zoo. They do not depend on a machine or a moment.

    Attributes:
        num_models, num_epochs: of the whole zoo, of which a version may hold a part.
        axes: hyperparameter to the values of the whole grid.
        num_cells: number of combinations of these values.
        engines: the numerics that the run was pinned to, for a person.
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
    task: str = "classification"
    engines: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()

    @property
    def measure(self) -> Measure:
        """The metric by which models are compared."""
        return PSNR if self.task == "image_regression" else ACCURACY

    @property
    def chance_ratio(self) -> float:
        return 1 / self.num_classes


@dataclass(frozen=True)
class RunAccount:
    """The making of a zoo. Unlike the rest of a report, it differs between two runs that gave equal zoos.

    Attributes:
        plan: a sentence on the basis of the plan, e.g. the machine whose measured rates it uses; may be empty.
        planned, actual: quantity to amount, in seconds, dollars and bytes; ``planned`` is empty without a plan.
        attempts: start, end (Unix time, None while unknown) and final state of each driver, oldest first.
        problems: Unix time, kind and message, oldest first.
    """

    zoo: str
    plan: str
    planned: dict[str, float]
    actual: dict[str, float]
    attempts: tuple[tuple[float, float | None, str], ...]
    problems: tuple[tuple[float, str, str], ...]


@dataclass(frozen=True)
class ByClass:
    """Results by class of N models on the test split, at their last kept epoch. C classes.

    Attributes:
        images_C: test images of each class; ``predicted_C``: share of the answers of all models that name it.
        recall_NC: NaN for a class without images. ``macro_N``: its mean over classes.
        largest_N: share of the images that got a model's most frequent answer.
    """

    images_C: NDArray[np.int64]
    predicted_C: NDArray[np.float64]
    recall_NC: NDArray[np.float64]
    macro_N: NDArray[np.float64]
    largest_N: NDArray[np.float64]


@dataclass(frozen=True)
class Reconstructions:
    """Images that K models compute at E epochs; the model with the best PSNR is the first.

    Attributes:
        pictures: [K, E, C, S, S], pixels about 0 to 1. ``originals``: [K, C, S, S], None where not published.
        psnr: of the last epoch, [K].
    """

    models: tuple[int, ...]
    epochs: tuple[int, ...]
    pictures: NDArray[np.float32]
    originals: NDArray[np.float32] | None
    psnr: NDArray[np.float64]


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
    by_class: ByClass | None = None
    reconstructions: Reconstructions | None = None


def extent(contents: Contents) -> str:
    """The share of the zoo that the version holds: ``32 of 2,560 models, 6 of 50 epochs``."""
    facts, population = contents.facts, contents.population
    last = int(population.epochs_E[-1])
    models = f"{words.count(population.num_models)} of {words.count(facts.num_models, 'model')}"
    if last > facts.num_epochs:
        return f"{models}, {words.count(last, 'epoch')}, {words.count(last - facts.num_epochs)} more than planned"
    return f"{models}, {words.count(last)} of {words.count(facts.num_epochs, 'epoch')}"
