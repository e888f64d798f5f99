"""The axes train_fraction and label_noise: identity, rows, refusals, and what a plan makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from zooforge.storage.formats.splits import SplitRule, assign_splits
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.planning.estimate import estimate, slot_seconds
from zooforge.zoo_jobs.planning.machines import Machine, Rate
from zooforge.zoo_jobs.planning.units import request
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec.grid import check_extends, rows
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

BASE = load("mnist5k-cnn-s").to_json() | {"name": "parts"}
FRACTIONS = [0.1, 0.25, 0.5, 1.0]


def spec(fractions: list[float] | None = None, **changes: Any) -> ZooSpec:
    axes = BASE["axes"] | ({} if fractions is None else {"train_fraction": fractions})
    return ZooSpec.from_json(BASE | {"axes": axes} | changes, "parts.yaml")


def drawn(**columns: Any) -> ZooSpec:
    draws = {
        "seed": 3, "num_models": 40, "activation": "tanh", "dropout_ratio": 0.0, "initializer": "kaiming_uniform",
        "optimizer": "adam", "learning_rate": 0.001, "weight_decay": 0.0, **columns,
    }  # fmt: skip
    value = BASE | {"axes": None, "draws": draws, "seeds": "random", "seed_salt": 5, "sparsify": None}
    return ZooSpec.from_json({name: v for name, v in value.items() if name != "seeds_per_cell"}, "parts.yaml")


def test_the_whole_split_is_no_part_of_a_digest_and_a_fraction_is() -> None:
    assert spec([1.0]).run_id == spec().run_id
    assert [row.digest for row in rows(spec([1.0]))] == [row.digest for row in rows(spec())]
    assert spec([0.5]).run_id != spec().run_id
    assert rows(spec([0.5]))[0].digest != rows(spec())[0].digest
    assert drawn(train_fraction=1.0).run_id == drawn().run_id
    assert drawn(train_fraction={"choice": FRACTIONS}).run_id != drawn().run_id
    assert "train_fraction" not in json.dumps(spec().run_content)


def test_the_fraction_varies_slower_than_all_axes_but_the_seed() -> None:
    table, plain = rows(spec(FRACTIONS)), rows(spec())
    per_seed = len(plain) // spec().num_seeds
    assert len(table) == 4 * len(plain)
    assert [row.train_fraction for row in table[: 4 * per_seed : per_seed]] == FRACTIONS
    assert {row.seed for row in table[: 4 * per_seed]} == {plain[0].seed}


def test_drawn_fractions_move_no_other_column_and_appended_rows_follow() -> None:
    several = rows(drawn(train_fraction={"choice": FRACTIONS}, learning_rate={"log_uniform": [1e-4, 0.1]}))
    assert {row.train_fraction for row in several} == set(FRACTIONS)
    assert [row.learning_rate for row in several] == [
        row.learning_rate for row in rows(drawn(learning_rate={"log_uniform": [1e-4, 0.1]}))
    ]
    check_extends(drawn(train_fraction=0.5), drawn(train_fraction=0.5, num_models=50))


def test_a_block_may_append_fractions() -> None:
    more = spec(extend=[{"train_fraction": [0.25]}])
    check_extends(spec(), more)
    assert [row.train_fraction for row in rows(more)[len(rows(spec())) :]] == [0.25] * len(rows(spec()))
    assert describe(more).rows[0]["train_fraction"] == 1.0
    assert "train_fraction" not in describe(spec()).rows[0]


def test_twins_have_the_fraction_of_their_parents() -> None:
    zoo = spec(FRACTIONS)
    assert [row.train_fraction for row in rows(twins_of(zoo))] == [row.train_fraction for row in rows(zoo)]
    assert describe(twins_of(zoo)).rows[3]["train_fraction"] == rows(zoo)[3].train_fraction


def test_cells_differ_by_their_fraction_and_those_of_the_whole_split_stay() -> None:
    row = {"activation": "tanh", "seed": 1}
    models = range(40)
    before = {model: row | {"learning_rate": model / 10} for model in models}
    after = {model: values | {"train_fraction": 1.0} for model, values in before.items()}
    rule = SplitRule(group="cell")
    assert assign_splits(rule, "zoo", models, before, 40) == assign_splits(rule, "zoo", models, after, 40)
    halves = {model: values | {"train_fraction": 0.5} for model, values in before.items()}
    assert assign_splits(rule, "zoo", models, halves, 40) != assign_splits(rule, "zoo", models, before, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": [0.0]}, "axes.train_fraction[0] is 0.0"),
        ({"fractions": [1.5]}, "axes.train_fraction[0] is 1.5"),
        ({"fractions": [0.5, 0.5]}, "axes.train_fraction: a value is named twice"),
        ({"fractions": []}, "axes.train_fraction"),
    ],
)
def test_a_fraction_that_cannot_be_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        spec(**changes)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_label_noise_of_0_is_no_part_of_a_digest_and_other_noise_is() -> None:
    def noisy(values: list[float], **changes: Any) -> ZooSpec:
        return ZooSpec.from_json(BASE | {"axes": BASE["axes"] | {"label_noise": values}} | changes, "parts.yaml")

    assert noisy([0.0]).run_id == spec().run_id
    assert noisy([0.2]).run_id != spec().run_id
    assert [row.digest for row in rows(noisy([0.0]))] == [row.digest for row in rows(spec())]
    two = noisy([0.0, 0.2])
    assert [row.label_noise for row in rows(twins_of(two))] == [row.label_noise for row in rows(two)]
    assert describe(two).rows[0]["label_noise"] == 0.0 and "train_fraction" not in describe(two).rows[0]
    assert drawn(label_noise={"uniform": [0, 0.5]}).run_id != drawn().run_id == drawn(label_noise=0.0).run_id
    for wrong in (-0.1, 1.0):
        with pytest.raises(InputError, match=r"axes\.label_noise\[0\] is"):
            noisy([wrong])
        with pytest.raises(InputError, match=r"label_noise .* is not 0 or more, and below 1"):
            drawn(label_noise=wrong)


@pytest.mark.parametrize("number", [0.0, 1.25, -1.0])
def test_a_drawn_fraction_has_to_be_a_share(number: float) -> None:
    with pytest.raises(InputError, match=f"train_fraction {number} is not above 0, and at most 1"):
        drawn(train_fraction={"choice": [0.5, number]})


def test_the_one_cycle_schedule_refuses_fractions() -> None:
    resnet = load("cifar10-resnet18-seed").to_json()
    with pytest.raises(InputError, match="train_fraction: the schedule one-cycle counts the steps of the whole"):
        ZooSpec.from_json(resnet | {"axes": resnet["axes"] | {"train_fraction": [0.5]}}, "x")
    with pytest.raises(InputError, match="train_fraction: the schedule one-cycle"):
        ZooSpec.from_json(resnet | {"name": "x", "extend": [{"train_fraction": [0.5]}]}, "x")


RATE = Rate(
    engine="lanes", architecture="cnn-s", channels=1, twins=False, date="2026-01-01", train_samples_per_second=1000.0,
    eval_samples_per_second=2000.0,
)  # fmt: skip
MACHINE = Machine("fixed", "a test", 1, 2, 3.0, 1.0, (RATE,))


def test_steps_flop_and_seconds_count_each_models_own_rows() -> None:
    quarter, whole = spec([0.25]), spec()
    ours, all_rows = (estimate(zoo, request(zoo, "0:16", 2), MACHINE) for zoo in (quarter, whole))
    assert ours.num_steps == 16 * 2 * 100 and all_rows.num_steps == 16 * 2 * 400
    both = spec([0.25, 1.0])
    half = rows(both)
    mixed = [half.index(row) for row in half if row.train_fraction == 1.0][:8]
    mixed += [half.index(row) for row in half if row.train_fraction == 0.25][:24]
    seconds = {f: slot_seconds(spec([f]), RATE, range(16), range(1, 3)) for f in (0.25, 1.0)}
    assert slot_seconds(both, RATE, mixed, range(1, 3)) == pytest.approx(seconds[1.0] + seconds[0.25])
    assert slot_seconds(both, RATE, mixed[:9], range(1, 3)) == pytest.approx(seconds[1.0])
    assert slot_seconds(both, RATE, mixed[8:24], range(1, 3)) == pytest.approx(seconds[0.25])


def test_show_and_diff_name_fractions_where_a_zoo_has_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.yaml"
    path.write_text(json.dumps(spec(FRACTIONS).to_json()))
    assert main(["show", str(path)]) == 0
    assert "  train_fraction 0.1, 0.25, 0.5, 1.0\n" in capsys.readouterr().out
    assert main(["show", str(path), "--models", "0:2"]) == 0
    assert "train_fraction" in capsys.readouterr().out
    for asked in (["show", "mnist5k-cnn-s"], ["show", "mnist5k-cnn-s", "--models", "0:2"]):
        assert main(asked) == 0
        assert "train_fraction" not in capsys.readouterr().out
    assert main(["diff", "mnist5k-cnn-s", str(path)]) == 0
    assert "axes.train_fraction: [1.0] | [0.1, 0.25, 0.5, 1.0]" in capsys.readouterr().out
