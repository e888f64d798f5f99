"""The statistics of `zoo report`, compared with values computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.report_zoo import grid, label_columns, states
from zooforge.zoo_jobs.report.population import Population, population
from zooforge.zoo_jobs.report.statistics import bands, influences, levels, quantiles, ranked, two_way
from zooforge.zoo_jobs.report.weight_map import StateSample, weight_map
from zooforge.zoo_jobs.report.words import count, number, percent, points, sentence, value


@pytest.fixture(scope="module")
def here() -> Population:
    return population(label_columns(64, 6, {5: (3, "nan")}))


def test_rows_in_any_order_make_the_same_matrices(here: Population) -> None:
    columns = label_columns(64, 6, {5: (3, "nan")})
    order = np.random.default_rng(0).permutation(len(columns["model"]))
    shuffled = population({name: [values[i] for i in order] for name, values in columns.items()})
    assert shuffled.models_N.tolist() == here.models_N.tolist()
    np.testing.assert_array_equal(shuffled.metrics["test_acc"], here.metrics["test_acc"])
    assert {n: v.tolist() for n, v in shuffled.hyperparameters.items()} == {
        n: v.tolist() for n, v in here.hyperparameters.items()
    }


def test_a_faulty_model_has_no_accuracy_from_its_epoch_on(here: Population) -> None:
    assert (here.faulty_epochs_N[5], here.faulty_reasons_N[5]) == (3, "nan")
    assert np.isfinite(here.metrics["test_acc"][5]).tolist() == [True] * 3 + [False] * 4
    assert here.sound_N.sum() == 63


def test_models_that_are_not_as_far_as_others_have_no_final_value() -> None:
    columns = label_columns(2, 3)
    keep = [
        i for i, (m, e) in enumerate(zip(columns["model"], columns["epoch"], strict=True)) if not (m == 1 and e == 3)
    ]
    summary = population({name: [values[i] for i in keep] for name, values in columns.items()})
    assert np.isnan(summary.final("test_acc")).tolist() == [False, True]
    assert summary.num_states == 7


def test_bands_leave_out_epochs_without_values(here: Population) -> None:
    summary = bands(here.epochs_E, here.metrics["running_train_acc"])
    assert summary.epochs_E.tolist() == [1, 2, 3, 4, 5, 6]
    assert summary.counts_E.tolist() == [64, 64, 63, 63, 63, 63]
    np.testing.assert_allclose(summary.values_QE[2], np.nanmedian(here.metrics["running_train_acc"][:, 1:], axis=0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_quantiles_ascend_within_the_range(values: list[float]) -> None:
    summary = quantiles(np.array([*values, np.nan]))
    assert (np.diff(summary) >= -1e-12).all()
    assert min(values) - 1e-12 <= summary[0]
    assert summary[-1] <= max(values) + 1e-12


def test_the_strongest_influence_comes_first_and_shares_are_ratios(here: Population) -> None:
    effects = influences(here)
    assert effects[0].name == "initializer"
    assert all(0 <= influence.share <= 1 for influence in effects)
    assert sum(len(group) for group in effects[0].groups.values()) == 63
    assert {influence.name for influence in effects} == set(here.varying())


def test_medians_by_two_hyperparameters_are_those_of_the_cells(here: Population) -> None:
    table = two_way(here, "initializer", "activation")
    chosen = [m for m, row in enumerate(grid(64)) if row["initializer"] == "normal" and row["activation"] == "relu"]
    r, c = table.rows.index("normal"), table.columns.index("relu")
    assert table.medians[r, c] == pytest.approx(float(np.nanmedian(here.final("test_acc")[chosen])))


def test_the_best_come_first_and_faulty_models_are_not_ranked(here: Population) -> None:
    order = ranked(here)
    final = here.final("test_acc")[order]
    assert (np.diff(final) <= 0).all()
    assert len(order) == 63
    assert 5 not in order


def test_the_map_is_the_principal_components(here: Population) -> None:
    from sklearn.decomposition import PCA

    sample = states(here)
    actual = weight_map(sample)
    assert actual is not None
    flat = sample.weights_NKD.reshape(-1, sample.weights_NKD.shape[2])
    finite = np.isfinite(actual.points_NK2.reshape(-1, 2)[:, 0])
    theirs = PCA(2, svd_solver="full").fit(flat[finite].astype(np.float64))
    ours = actual.points_NK2.reshape(-1, 2)[finite]
    reference = theirs.transform(flat[finite].astype(np.float64))
    signs = np.sign((ours * reference).sum(axis=0))
    np.testing.assert_allclose(ours, reference * signs, atol=2e-4 * np.abs(reference).max())
    np.testing.assert_allclose(actual.explained, theirs.explained_variance_ratio_, rtol=1e-6)
    assert actual.num_left_out == int((~finite).sum()) >= 4


def test_more_parameters_than_states_give_the_same_map(here: Population) -> None:
    sample = states(here, 80)
    few = StateSample(sample.models_N[:6], sample.epochs_K[:3], sample.weights_NKD[:6, :3])
    tall = StateSample(few.models_N, few.epochs_K, few.weights_NKD[:, :, :10])
    for one in (few, tall):
        actual = weight_map(one)
        assert actual is not None
        np.testing.assert_allclose(np.nanmean(actual.points_NK2.reshape(-1, 2), axis=0), 0, atol=1e-3)


def test_a_model_that_blows_up_does_not_decide_the_map(here: Population) -> None:
    sample = states(here)
    weights = sample.weights_NKD.copy()
    weights[7, 2:] *= 1e20
    actual = weight_map(StateSample(sample.models_N, sample.epochs_K, weights))
    assert actual is not None
    assert np.isnan(actual.points_NK2[7, 2:]).all()
    assert np.nanmax(np.abs(actual.points_NK2)) < 1e3


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 2, 5), (2, 1, 5)])
def test_too_few_states_make_no_map(shape: tuple[int, int, int]) -> None:
    weights = np.ones(shape, np.float32)
    assert weight_map(StateSample(np.arange(shape[0]), np.arange(shape[1]), weights)) is None


def test_states_that_are_all_equal_lie_on_one_point() -> None:
    actual = weight_map(StateSample(np.arange(4), np.arange(2), np.ones((4, 2, 6), np.float32)))
    assert actual is not None
    assert actual.points_NK2.tolist() == np.zeros((4, 2, 2)).tolist()


def test_numbers_read_well() -> None:
    assert [value(v) for v in (0.0001, 0.5, 0.0, True, "kaiming_uniform", 1e-9)] == [
        "0.0001", "0.5", "0", "yes", "kaiming uniform", "1e−09",
    ]  # fmt: skip
    assert (percent(0.91234), percent(float("nan")), points(-0.018)) == ("91.2%", "–", "−1.8 pp")
    assert (count(1, "model"), count(2560, "model")) == ("1 model", "2,560 models")
    assert (number(125_000.4), number(0.01234), number(float("inf"))) == ("125,000", "0.0123", "–")
    assert sentence(["a", "b", "c"]) == "a, b and c"


def test_drawn_numbers_are_grouped_in_ranges_and_explain_no_more_than_they_do(here: Population) -> None:
    rates = np.logspace(-4, -1, 64)
    labels = levels(rates)
    assert next(iter(labels)) == "0.0001 to 0.000373"
    assert sorted(int(chosen.sum()) for chosen in labels.values()) == [12, 13, 13, 13, 13]
    assert sum(chosen.astype(int) for chosen in labels.values()).tolist() == [1] * 64
    order = np.random.default_rng(1).permutation(64)
    mixed = Population(**{**vars(here), "hyperparameters": {"learning_rate": rates[order]}})
    (influence,) = influences(mixed)
    assert influence.share < 0.3
    assert list(levels(np.array(["relu", "tanh"] * 32))) == ["relu", "tanh"]
    assert list(levels(np.array([0.1, 0.01] * 32))) == [0.01, 0.1]
