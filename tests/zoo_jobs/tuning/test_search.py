"""A search for a grid: its draws, its proposal, its refusals."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.spec.zoo import ZooSpec
from zooforge.zoo_jobs.tuning.search_spec import Ranges, Trial, TuneSpec, draws, fixed, proposal, trial_zoo

BASE: ZooSpec = load("digits8-cnn-s")
TEXT = """
name: tuned
zoo: digits8-cnn-s
ranges:
  learning_rate: {low: 1e-5, high: 1, scale: log}
  dropout_ratio: {low: 0, high: 0.5}
  activation: [tanh, relu]
num_trials: 40
num_epochs: 1
"""
SPEC = TuneSpec.from_yaml(TEXT, "search")


def test_draws_are_within_their_ranges_and_the_same_for_the_same_file() -> None:
    trials = draws(SPEC, BASE)
    assert trials == draws(SPEC, BASE)
    assert len(trials) == 40
    assert all(1e-5 <= values["learning_rate"] <= 1 and 0 <= values["dropout_ratio"] <= 0.5 for values in trials)
    assert sum(values["learning_rate"] < 3e-3 for values in trials) in range(12, 29)  # half of them, by ratios
    assert len({values["activation"] for values in trials}) == 2
    assert draws(SPEC.model_copy(update={"seed": 1}), BASE) != trials


def test_only_named_axes_are_searched_and_the_others_have_the_first_value_of_the_zoo() -> None:
    axes = BASE.axes
    assert fixed(SPEC, BASE) == {
        "initializer": axes.initializer[0], "optimizer": axes.optimizer[0], "weight_decay": axes.weight_decay[0],
        "train_fraction": 1.0, "label_noise": 0.0, "initial_std": 1.0,
    }  # fmt: skip
    for values in draws(SPEC, BASE):
        assert {axis: values[axis] for axis in fixed(SPEC, BASE)} == fixed(SPEC, BASE)
    wider = SPEC.model_copy(update={"ranges": SPEC.ranges.model_copy(update={"optimizer": ("adam", "sgd")})})
    assert [v["learning_rate"] for v in draws(wider, BASE)] == [v["learning_rate"] for v in draws(SPEC, BASE)]


def test_a_choice_that_lost_is_dropped_however_often_it_was_drawn() -> None:
    def trial(activation: str, accuracy: float | None) -> Trial:
        return Trial(draws(SPEC, BASE)[0] | {"activation": activation}, accuracy, 1)

    spec = SPEC.model_copy(update={"ranges": Ranges(activation=("tanh", "relu", "sigmoid")), "best_ratio": 0.1})
    trials = [trial("tanh", 0.9)] * 3 + [trial("relu", 0.91)] + [trial("relu", 0.2)] * 35 + [trial("sigmoid", None)]
    assert proposal(spec, BASE, trials * 2).axes.activation == ("tanh",)


def test_a_trial_is_a_zoo_of_one_model() -> None:
    zoo = trial_zoo(BASE, draws(SPEC, BASE)[0])
    assert zoo.num_base_models == 1
    assert zoo.split == BASE.split


def test_the_proposal_spans_the_best_trials_and_keeps_what_was_not_searched() -> None:
    trials = [
        Trial(values, None if values["learning_rate"] > 0.1 else float(values["activation"] == "relu"), 1)
        for values in draws(SPEC, BASE)
    ]
    proposed = proposal(SPEC, BASE, trials)
    assert proposed.axes.activation == ("relu",)
    assert len(proposed.axes.learning_rate) == SPEC.num_values
    assert max(proposed.axes.learning_rate) <= 0.1
    assert (proposed.axes.initializer, proposed.axes.optimizer) == (("uniform",), ("adam",))
    assert (proposed.name, proposed.seeds, proposed.reference) == ("tuned", BASE.seeds, None)
    with pytest.raises(ValueError, match="finite"):
        proposal(SPEC, BASE, [Trial(values) for values in draws(SPEC, BASE)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("learning_rate: {low: 1, high: 1}", "low 1 has to be below high 1"),
        ("weight_decay: {low: 0, high: 1, scale: log}", "begins above 0"),
        ("dropout_ratio: {low: 0, high: 1}", "below 1"),
        ("learningrate: {low: 0, high: 1}", "learning_rate"),
        ("activation: [tanh, rellu]", "relu"),
    ],
)
def test_an_invalid_search_is_refused_in_one_line(change: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TuneSpec.from_yaml(f"name: tuned\nzoo: digits8-cnn-s\nranges:\n  {change}\n", "search")


def test_a_dry_run_shows_the_trials_and_tries_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(TEXT)
    assert main(["tune", str(path), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 40
    assert "searched: dropout_ratio, activation, learning_rate; fixed: initializer uniform; optimizer adam" in shown.err
    assert "optimizer" not in shown.out
    assert main(["tune", str(tmp_path / "none.yaml")]) == 2
    path.write_text(TEXT.replace("digits8-cnn-s", "digits8-cnn-s-vd"))
    assert main(["tune", str(path)]) == 2
    assert "twins" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_proposes_a_zoo_that_can_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "search.yaml", tmp_path / "zoo.yaml"
    path.write_text(TEXT.replace("num_trials: 40", "num_trials: 6"))
    assert main(["tune", str(path), "--ray", "local", "--slots", "2", "--out", str(out), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert len(output["trials"]) == 6
    assert yaml.safe_load(out.read_text())["name"] == "tuned"
    rows = list(csv.DictReader((tmp_path / "tuned.trials.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert {row["optimizer"] for row in rows} == {"adam"}
    accuracies = [float(row["val_accuracy"] or -1) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert main(["plan", str(out), "--json"]) == 0
