"""Drawn hyperparameters: test vectors, distributions, and the rules for a spec with draws."""

import itertools
import json
import math
from decimal import getcontext, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.paths import ROOT
from zooforge.zoo_jobs.catalogue.entries import load, load_file
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.planning.units import work_units
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec import draws
from zooforge.zoo_jobs.spec.draws import Distribution, drawn, exact_value, quick_value, words
from zooforge.zoo_jobs.spec.grid import check_extends, rows
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.zoo import ZooSpec

VECTORS = json.loads((ROOT / "tests" / "golden" / "draws.json").read_text())
DRAWS: dict[str, Any] = {
    "seed": 3,
    "num_models": 40,
    "activation": {"choice": ["tanh", "relu"]},
    "dropout_ratio": {"uniform": [0, 0.5]},
    "initializer": "kaiming_uniform",
    "optimizer": {"choice": ["sgd", "adam"]},
    "learning_rate": {"log_uniform": [1e-4, 0.1]},
    "weight_decay": {"log_uniform": [1e-6, 1e-2]},
}
LINEAR = {"layers": ["flatten", {"linear": {"features": "classes"}}]}
BASE = {**load("mnist5k-cnn-s").to_json(), "name": "drawn", "seeds": "random", "seed_salt": 5, "sparsify": None}


def spec(**changes: Any) -> ZooSpec:
    fields = {name: value for name, value in BASE.items() if name != "axes"}
    return ZooSpec.from_json(fields | {"draws": DRAWS} | changes, "drawn.yaml")


def with_draws(**changes: Any) -> dict[str, Any]:
    return {"draws": DRAWS | changes}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['column']}-{vector['row']}")
def test_values_are_those_of_the_test_vectors(vector: dict[str, Any]) -> None:
    distribution = Distribution.model_validate_json(json.dumps(vector["distribution"]))
    assert drawn(distribution, vector["seed"], vector["row"], vector["column"]) == vector["value"]


def test_the_settings_of_the_callers_decimal_context_change_no_value() -> None:
    vector = next(vector for vector in VECTORS if "normal" in vector["distribution"])
    distribution = Distribution.model_validate_json(json.dumps(vector["distribution"]))
    with localcontext() as context:
        context.prec = 3
        assert getcontext().prec == 3
        found = words(vector["seed"], vector["row"], vector["column"])
        assert exact_value(distribution, *found) == vector["value"]


DISTRIBUTIONS = [
    Distribution(uniform=(0, 0.5)),
    Distribution(uniform=(-1e-3, 7)),
    Distribution(uniform=(123456.789, 123456.79)),
    Distribution(uniform=(-1e308, 1e308)),
    Distribution(log_uniform=(1e-4, 1e-1)),
    Distribution(log_uniform=(1e-300, 1e300)),
    Distribution(normal=(1e-2, 1e-3)),
    Distribution(normal=(0, 1e-5)),
    Distribution(normal=(5, 100)),
]
ENDS = (0, 1, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 3 * 2**62, 2**64 - 2, 2**64 - 1)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_a_value_that_floats_give_is_that_of_decimal_arithmetic(distribution: Distribution) -> None:
    for row in range(200):
        assert drawn(distribution, 1, row, "x") == exact_value(distribution, *words(1, row, "x"))
    for first, second in itertools.product(ENDS, ENDS):
        value, error = quick_value(distribution, first, second)
        exact = exact_value(distribution, first, second)
        assert not abs(value - exact) > error / 10 + 5e-9 * abs(exact)  # overflow of floats may give no number


def test_a_value_near_the_middle_of_two_is_that_of_decimal_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [drawn(DISTRIBUTIONS[4], 1, row, "x") for row in range(50)]
    monkeypatch.setattr(draws, "quick_value", lambda distribution, first, second: (0.01234567895, 1e-15))
    assert [drawn(DISTRIBUTIONS[4], 1, row, "x") for row in range(50)] == values


@pytest.mark.parametrize(
    ("distribution", "mean", "deviation"),
    [
        (Distribution(uniform=(0.25, 0.75)), 0.5, 0.5 / math.sqrt(12)),
        (Distribution(normal=(3.0, 2.0)), 3.0, 2.0),
        (Distribution(choice=(0.0, 1.0)), 0.5, 0.5),
    ],
    ids=str,
)
def test_many_values_have_the_moments_of_the_distribution(
    distribution: Distribution, mean: float, deviation: float
) -> None:
    values = np.array([drawn(distribution, 1, row, "column") for row in range(4000)])
    assert abs(values.mean() - mean) < 4 * deviation / math.sqrt(len(values))
    assert abs(values.std() - deviation) < 0.05 * deviation


def test_a_log_uniform_value_is_uniform_in_its_logarithm_and_within_its_ends() -> None:
    values = [drawn(Distribution(log_uniform=(1e-4, 1e-1)), 1, row, "learning_rate") for row in range(4000)]
    assert min(values) >= 1e-4
    assert max(values) <= 1e-1
    counts = np.histogram(np.log10(values), bins=10, range=(-4, -1))[0]
    assert counts.min() > 300
    assert all(float(f"{value:.9g}") == value for value in values)


def test_a_column_depends_on_its_name_and_row_alone() -> None:
    first = rows(spec())
    other = rows(spec(**with_draws(optimizer="adam", weight_decay=0)))
    assert [row.learning_rate for row in first] == [row.learning_rate for row in other]
    assert {row.optimizer for row in other} == {"adam"}
    assert len({row.learning_rate for row in first}) == 40
    assert np.corrcoef([row.dropout_ratio for row in first], np.log([row.learning_rate for row in first]))[0, 1] < 0.5


def test_more_models_append_rows_to_the_same_run() -> None:
    few, many = spec(), spec(**with_draws(num_models=90))
    assert few.run_id == many.run_id
    assert rows(many)[:40] == rows(few)
    check_extends(few, many)
    with pytest.raises(InputError, match="model 40 is gone"):
        check_extends(many, few)


def test_the_run_id_depends_on_every_field_of_draws() -> None:
    others = [
        spec(**with_draws(seed=4)),
        spec(**with_draws(dropout_ratio={"uniform": [0, 0.4]})),
        spec(**with_draws(optimizer="adam")),
        spec(seeds=[42], seed_salt=None),
    ]
    ids = {one.run_id for one in (spec(), *others)}
    assert len(ids) == 5
    assert spec(**with_draws(initializer={"choice": ["kaiming_uniform"]})).run_id == spec().run_id
    assert ZooSpec.from_json(spec().to_json()) == spec()


def test_drawn_rows_contain_the_values_that_all_models_share() -> None:
    shared = {"momentum": 0.9, "nesterov": True, "initializer_scale": 0.5, "initial_bias": 0.0}
    assert all({name: getattr(row, name) for name in shared} == shared for row in rows(spec(**shared)))


def test_one_seed_may_serve_all_models() -> None:
    assert {row.seed for row in rows(spec(seeds=[42], seed_salt=None))} == {42}
    assert len({row.seed for row in rows(spec())}) == 40


def test_plan_and_description_take_drawn_rows() -> None:
    zoo = spec()
    units = work_units(zoo)
    assert sorted(model for unit in units for model in unit.models) == list(range(40))
    assert describe(zoo).rows[7]["learning_rate"] == rows(zoo)[7].learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_draws(learning_rate={"uniform": [0, 0.1]}), "learning_rate 0.0 is not a number above 0"),
        (with_draws(learning_rate={"log_uniform": [0.1, 0.01]}), "the range is empty: low 0.1"),
        (with_draws(learning_rate={"log_uniform": [0, 0.01]}), "log_uniform begins above 0"),
        (with_draws(dropout_ratio={"uniform": [0.5, 1]}), "dropout_ratio 1.0 is not 0 or more, and below 1"),
        (with_draws(dropout_ratio={"uniform": [0, 0.5], "normal": [0, 1]}), "found uniform and normal"),
        (with_draws(dropout_ratio={"normal": [0, 0]}), r"the standard deviation 0\.0 has to be above 0"),
        (with_draws(dropout_ratio={"unifrom": [0, 0.5]}), "did you mean 'uniform'"),
        (with_draws(dropout_ratio={"uniform": [0, 0.1234567891]}), "more than 9 significant digits"),
        (with_draws(dropout_ratio=[0, 0.5]), r"draws\.dropout_ratio: expected a value or a distribution"),
        (with_draws(activation={"choice": ["tanh", "rleu"]}), "activation is 'rleu'; did you mean 'relu'"),
        (with_draws(activation={"uniform": [0, 1]}), "activation is a name"),
        (with_draws(optimizer={"choice": ["sgd", "sgd"]}), "named twice"),
        (with_draws(optimizer={"choice": []}), r"draws\.optimizer: choice has 0 values, expected at least 1"),
        (with_draws(weight_decay="adam"), "weight_decay is 'adam', expected a number"),
        (with_draws(num_models=0), r"draws\.num_models is 0"),
        ({"axes": BASE["axes"]}, "axes and draws: give one of them"),
        ({"draws": None, "axes": None}, "axes and draws: give one of them"),
        ({"draws": None}, "axes is required, e.g. axes: {activation"),
        ({"extend": [{"learning_rate": [0.1]}]}, "extend: blocks belong to a grid"),
        (with_draws(dropout_ratio=None), r"draws\.dropout_ratio: expected a value"),
        ({"draws": {n: d for n, d in DRAWS.items() if n != "dropout_ratio"}}, r"draws\.dropout_ratio is required"),
        ({"architecture": LINEAR}, r"draws\.activation: no layer of the architecture uses it"),
        ({"seeds_per_cell": 2}, "seeds_per_cell belongs to a grid"),
        ({"seeds": "1:11", "seed_salt": None}, "seeds: with draws they are random, or one seed"),
        ({"seed_salt": None}, "seeds: random needs seed_salt"),
    ],
    ids=str,
)
def test_invalid_draws_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        spec(**changes)
    assert "\n" not in str(raised.value)


def test_a_normal_number_that_a_column_cannot_have_is_named_with_its_model() -> None:
    zoo = spec(**with_draws(learning_rate={"normal": [0.001, 0.001]}))
    with pytest.raises(
        InputError, match=r"drawn: model \d+: learning_rate -0\.0\d+ is not a number above 0, drawn from"
    ):
        rows(zoo)


def written(path: Path, **changes: Any) -> Path:
    fields = {name: value for name, value in BASE.items() if name != "axes"} | {"name": path.stem} | changes
    path.write_text(json.dumps(fields))
    return path


def test_the_draws_of_another_zoo_are_copied(tmp_path: Path) -> None:
    first = load_file(written(tmp_path / "first.yaml", draws=DRAWS))
    second = load_file(written(tmp_path / "second.yaml", draws={"like": "first.yaml", "num_models": 10}, batch_size=20))
    assert second.draws is not None
    assert "like" not in json.dumps(second.to_json())
    assert rows(second) == rows(first)[:10]
    assert second.run_id != first.run_id
    for name, like, message in (
        ("third", "mnist5k-cnn-s", "mnist5k-cnn-s has axes, not draws"),
        ("fourth", "fourth.yaml", "the file names itself"),
        ("fifth", "sixth.yaml", "sixth.yaml: No such file"),
    ):
        with pytest.raises(InputError, match=message):
            load_file(written(tmp_path / f"{name}.yaml", draws={"like": like}))


def test_columns_that_no_layer_uses_are_left_out() -> None:
    draws = {name: value for name, value in DRAWS.items() if name not in ("activation", "dropout_ratio")}
    zoo = spec(architecture=LINEAR, draws=draws)
    assert {(row.activation, row.dropout_ratio) for row in rows(zoo)} == {("identity", 0.0)}


def test_set_reaches_into_draws() -> None:
    other = with_overrides(spec(), ["optimizer=adam", "draws.num_models=5"], name="other")
    assert {row.optimizer for row in rows(other)} == {"adam"}
    assert len(rows(other)) == 5
