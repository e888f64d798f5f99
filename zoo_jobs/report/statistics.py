"""Statistics of a population: quantiles, shares of variance, extremes. Pure."""

# Shape suffixes: N = models, E = epochs, Q = quantiles.

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .population import Floats, Population

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

MOST_VALUES = 12
"""A number that has more values is shown in ranges."""
NUM_RANGES = 5


@dataclass(frozen=True)
class Bands:
    """Quantiles over models at the epochs with at least one value; ``counts_E`` are the numbers of values."""

    epochs_E: NDArray[np.int64]
    values_QE: Floats
    counts_E: NDArray[np.int64]


def bands(epochs_E: NDArray[np.int64], values_NE: Floats) -> Bands:
    """Quantiles 5, 25, 50, 75, 95 % of the finite values over models, by linear interpolation."""
    counts_E = np.isfinite(values_NE).sum(axis=0)
    known = np.flatnonzero(counts_E)
    columns = [quantiles(values_NE[:, column]) for column in known]
    values_QE = np.stack(columns, axis=1) if columns else np.zeros((len(QUANTILES), 0))
    return Bands(epochs_E[known], values_QE, counts_E[known])


def quantiles(values: Floats) -> Floats:
    """Quantiles of the finite values, [Q]; NaN if there is none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.full(len(QUANTILES), np.nan)
    values_Q: Floats = np.quantile(finite, QUANTILES)
    return values_Q


@dataclass(frozen=True)
class Influence:
    """One hyperparameter and how much of the variance of the final accuracy it explains by itself.

    Attributes:
        share: eta squared, the variance between the means of its values divided by the variance of all.
        groups: value to the final accuracies of its finite models, in the order of the values.
    """

    name: str
    share: float
    groups: dict[Any, Floats]


def levels(values_N: NDArray[Any]) -> dict[Any, NDArray[np.bool_]]:
    """Each value in ascending order, and which models have it.

    Numbers with more than 12 values were drawn: they are cut into five ranges that hold about equally many models.
    A value that one model has would explain its accuracy altogether.
    """
    distinct = sorted(set(values_N.tolist()))
    if len(distinct) <= MOST_VALUES or not isinstance(distinct[0], float):
        return {value: values_N == value for value in distinct}
    places = np.searchsorted(np.quantile(values_N, np.linspace(0, 1, NUM_RANGES + 1)[1:-1]), values_N, side="right")
    ranges = {}
    for place in range(NUM_RANGES):
        chosen_N = places == place
        if chosen_N.any():
            low, high = (f"{end:.3g}" for end in (values_N[chosen_N].min(), values_N[chosen_N].max()))
            ranges[f"{low} to {high}"] = chosen_N
    return ranges


def influences(population: Population, metric: str = "test_acc") -> list[Influence]:
    """Every hyperparameter that varies, the most influential first. Faulty models do not count."""
    final_N = population.final(metric)
    finite_N = np.isfinite(final_N)
    influential = []
    for name, values_N in population.varying().items():
        groups = {value: final_N[finite_N & chosen_N] for value, chosen_N in levels(values_N).items()}
        influential.append(Influence(name, _eta_squared(list(groups.values())), groups))
    return sorted(influential, key=lambda influence: (-influence.share, influence.name))


def _eta_squared(groups: list[Floats]) -> float:
    groups = [group for group in groups if len(group)]
    if not groups:
        return 0.0
    everything = np.concatenate(groups)
    total = float(((everything - everything.mean()) ** 2).sum())
    between = sum(len(group) * float(group.mean() - everything.mean()) ** 2 for group in groups)
    return between / total if total > 0 else 0.0


@dataclass(frozen=True)
class Table:
    """Median and number of models for each pair of values; NaN if a cell is empty."""

    row_name: str
    column_name: str
    rows: list[Any]
    columns: list[Any]
    medians: Floats
    counts: NDArray[np.int64]


def two_way(population: Population, row_name: str, column_name: str, metric: str = "test_acc") -> Table:
    """Median final accuracy by two hyperparameters."""
    final_N = population.final(metric)
    by_row, by_column = levels(population.hyperparameters[row_name]), levels(population.hyperparameters[column_name])
    rows, columns = list(by_row), list(by_column)
    medians, counts = np.full((len(rows), len(columns)), np.nan), np.zeros((len(rows), len(columns)), np.int64)
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            cell = final_N[by_row[row] & by_column[column]]
            medians[r, c], counts[r, c] = quantiles(cell)[2], np.isfinite(cell).sum()
    return Table(row_name, column_name, rows, columns, medians, counts)


def ranked(population: Population, metric: str = "test_acc") -> NDArray[np.int64]:
    """Positions of the models with a final value, best first; ties by model index."""
    final_N = population.final(metric)
    finite = np.flatnonzero(np.isfinite(final_N))
    return finite[np.lexsort((population.models_N[finite], -final_N[finite]))]


def num_at_chance(population: Population, chance_ratio: float) -> int:
    """The number of models that ended no better than 1.5 times chance."""
    final_N = population.final("test_acc")
    return int((final_N[np.isfinite(final_N)] <= 1.5 * chance_ratio).sum())
