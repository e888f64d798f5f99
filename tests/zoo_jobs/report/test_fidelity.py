"""`zoo fidelity` compares a zoo with the figures of the reference, and gives a verdict only for comparable samples."""

import numpy as np
import pytest

from tests.support.report_zoo import grid, label_columns
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.report.fidelity import (
    Reference,
    ReferenceFigure,
    compare,
    is_sample,
    quantile_interval,
    references,
)
from zooforge.zoo_jobs.report.population import METRICS, Population, population
from zooforge.zoo_jobs.spec.twins import TwinSpec


def with_final(values: np.ndarray) -> Population:
    columns = label_columns(len(values), 1)
    columns["test_acc"] = [
        float(values[m]) if e == 1 else 0.1 for m, e in zip(columns["model"], columns["epoch"], strict=True)
    ]
    return population(columns)


def reference(value: float, error: float = 0.002, epoch: int = 1) -> Reference:
    return Reference("x", 1000, "figure", (ReferenceFigure("test_acc", epoch, 0.5, value, error),))


def verdict(population: Population, wanted: Reference, sample: bool = True) -> str:
    (comparison,) = compare(wanted, population, sample)
    return comparison.verdict


def test_every_figure_is_of_a_zoo_of_the_catalogue_within_its_epochs() -> None:
    for name, reference_of_zoo in references().items():
        zoo = entries.resolve(name)
        assert all(0 <= figure.epoch <= zoo.num_epochs for figure in reference_of_zoo.figures)
        assert {figure.metric for figure in reference_of_zoo.figures} <= set(METRICS)
        assert all(0 < figure.error <= 0.01 for figure in reference_of_zoo.figures)
        assert reference_of_zoo.num_models == (zoo.parent if isinstance(zoo, TwinSpec) else zoo).num_base_models


def test_figures_of_the_seed_zoo_and_its_twins_are_those_that_were_read() -> None:
    seed = {(f.epoch, f.quantile): f.value for f in references()["mnist-cnn-s-seed"].figures}
    assert seed == {(50, 0.25): 0.905, (50, 0.5): 0.911, (50, 0.75): 0.917}
    twins = {(f.metric, f.epoch, f.quantile): f.value for f in references()["mnist-cnn-s-seed-vd"].figures}
    assert twins["sparsity_ratio", 25, 0.5] == 0.786
    assert twins["test_acc", 25, 0.75] == 0.883
    assert twins["ggap", 10, 0.5] == -0.054


def test_a_population_like_the_reference_agrees_and_another_differs() -> None:
    values = np.random.default_rng(1).normal(0.911, 0.009, 400)
    assert verdict(with_final(values), reference(0.911)) == "agrees"
    assert verdict(with_final(values - 0.01), reference(0.911)) == "differs"


def test_the_reading_error_counts() -> None:
    values = np.random.default_rng(1).normal(0.911, 0.009, 400)
    assert verdict(with_final(values - 0.005), reference(0.911, 0.0005)) == "differs"
    assert verdict(with_final(values - 0.005), reference(0.911, 0.01)) == "agrees"


def test_no_verdict_without_the_epoch_the_models_or_a_sample() -> None:
    values = np.full(400, 0.911)
    assert verdict(with_final(values), reference(0.911, epoch=50)) == "epoch not here"
    assert verdict(with_final(values[:3]), reference(0.911)) == "too few models"
    assert verdict(with_final(values), reference(0.911), sample=False) == "not a sample of the grid"


def test_a_part_of_a_grid_is_a_sample_only_if_its_cells_are_equally_filled() -> None:
    assert is_sample(population(label_columns(256, 0)), "hyp-fixed", 256)
    assert not is_sample(population(label_columns(255, 0)), "hyp-fixed", 256)
    assert not is_sample(population(label_columns(257, 0)), "hyp-fixed", 256)
    assert is_sample(population(label_columns(3, 0)), "seed", 1)
    assert len({tuple(sorted(row.items())) for row in grid(512)}) == 512


@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.75])
def test_the_interval_holds_the_true_quantile_as_often_as_it_says(quantile: float) -> None:
    rng = np.random.default_rng(2)
    draws = np.sort(rng.uniform(size=(2000, 60)), axis=1)
    inside = [low <= quantile <= high for low, high in (quantile_interval(draw, quantile) for draw in draws)]
    assert 0.94 <= np.mean(inside) <= 0.985


def test_few_values_bound_nothing() -> None:
    low, high = quantile_interval(np.array([0.5]), 0.5)
    assert (low, high) == (-np.inf, np.inf)
