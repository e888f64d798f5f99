"""Compares our zoos with the figures of the reference that are known. It opens no file but its own table."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from .population import Population

FIGURES = Path(__file__).with_name("reference_figures.yaml")
CONFIDENCE = 0.95
QUANTILE_NAMES = {"q25": 0.25, "median": 0.5, "q75": 0.75}

Verdict = Literal["agrees", "differs", "too few models", "not a sample of the grid", "epoch not here"]


@dataclass(frozen=True)
class ReferenceFigure:
    """A quantile over models in a picture of the reference; ``error`` is the error of reading it there."""

    metric: str
    epoch: int
    quantile: float
    value: float
    error: float


@dataclass(frozen=True)
class Reference:
    zoo: str
    num_models: int
    source: str
    figures: tuple[ReferenceFigure, ...]


@dataclass(frozen=True)
class Comparison:
    """One figure of the reference and ours; ``low`` to ``high`` is the 95 % interval of our quantile."""

    figure: ReferenceFigure
    ours: float
    low: float
    high: float
    num_models: int
    verdict: Verdict

    @property
    def difference(self) -> float:
        return self.ours - self.figure.value


@cache
def references() -> dict[str, Reference]:
    """The known figures of the reference by zoo."""
    by_zoo = {}
    for entry in yaml.safe_load(FIGURES.read_text(encoding="utf-8"))["zoos"]:
        figures = [
            ReferenceFigure(line["metric"], line["epoch"], quantile, line[name], line.get("error", entry["error"]))
            for line in entry["figures"]
            for name, quantile in QUANTILE_NAMES.items()
            if name in line
        ]
        by_zoo[entry["zoo"]] = Reference(entry["zoo"], entry["num_models"], entry["source"], tuple(figures))
    return by_zoo


def is_sample(population: Population, kind: str, num_cells: int) -> bool:
    """True if quantiles over these models estimate those of the whole zoo.

    They do if only the seed varies, or if every cell of the grid has the same number of models.
    """
    if kind == "seed":
        return True
    names = sorted(population.hyperparameters)
    cells: dict[tuple[Any, ...], int] = {}
    for cell in zip(*(population.hyperparameters[name].tolist() for name in names), strict=True):
        cells[cell] = cells.get(cell, 0) + 1
    return len(cells) == num_cells and len(set(cells.values())) == 1


def compare(reference: Reference, population: Population, sample: bool) -> tuple[Comparison, ...]:
    """Compare each figure of the reference with the same quantile of our models.

    The two agree if the reference's value, give or take its reading error, lies in the interval of ours.
    """
    return tuple(_compare(figure, population, sample) for figure in reference.figures)


def _compare(figure: ReferenceFigure, population: Population, sample: bool) -> Comparison:
    column = np.flatnonzero(population.epochs_E == figure.epoch)
    values = population.metrics[figure.metric][:, column].ravel()
    values = np.sort(values[np.isfinite(values)])
    nan = float("nan")
    if not len(values):
        return Comparison(figure, nan, nan, nan, 0, "epoch not here")
    ours = float(np.quantile(values, figure.quantile))
    low, high = quantile_interval(values, figure.quantile)
    verdict: Verdict
    if not sample:
        verdict = "not a sample of the grid"
    elif not (np.isfinite(low) and np.isfinite(high)):
        verdict = "too few models"
    elif low - figure.error <= figure.value <= high + figure.error:
        verdict = "agrees"
    else:
        verdict = "differs"
    return Comparison(figure, ours, low, high, len(values), verdict)


def quantile_interval(ascending: Any, quantile: float) -> tuple[float, float]:
    """95 % interval of a quantile from order statistics, without an assumption about the distribution.

    An end is infinite if there are too few values to bound it.

    Source: David and Nagaraja, Order Statistics (2003), section 7.1: the number of values below the quantile is
    binomial.
    """
    from scipy.stats import binom

    size = len(ascending)
    tail = (1 - CONFIDENCE) / 2
    below = int(binom.ppf(tail, size, quantile))  # P(count < below) <= tail
    above = int(binom.ppf(1 - tail, size, quantile)) + 1
    low = -np.inf if below == 0 else float(ascending[below - 1])
    high = np.inf if above > size else float(ascending[above - 1])
    return float(low), float(high)
