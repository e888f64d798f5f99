"""A zoo whose hyperparameters are drawn: trained, extended, published, reported and read."""

import json
from pathlib import Path
from typing import Any

import pytest

import zooforge
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load, load_file
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.report.read import read_contents
from zooforge.zoo_jobs.spec.grid import rows

QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1"]
DRAWS: dict[str, Any] = {
    "seed": 1,
    "num_models": 6,
    "activation": {"choice": ["tanh", "relu"]},
    "dropout_ratio": 0.0,
    "initializer": "kaiming_uniform",
    "optimizer": {"choice": ["sgd", "adam"]},
    "learning_rate": {"log_uniform": [1e-4, 0.1]},
    "weight_decay": {"log_uniform": [1e-6, 1e-2]},
}


def written(path: Path, num_models: int) -> Path:
    fields = load("mnist5k-cnn-s").to_json() | {
        "name": "drawn", "seeds": "random", "seed_salt": 5, "sparsify": None, "num_epochs": 1,
        "split": {"train": 60, "val": 20, "test": 20, "seed": 42}, "draws": DRAWS | {"num_models": num_models},
    }  # fmt: skip
    del fields["axes"]
    path.write_text(json.dumps(fields))
    return path


def test_a_drawn_zoo_is_trained_extended_reported_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, store = written(tmp_path / "drawn.yaml", 6), tmp_path / "store"
    assert main(["show", str(spec), "--yaml"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert load_file(tmp_path / "again.yaml").run_id == load_file(spec).run_id
    assert main(["plan", str(spec)]) == 0
    assert main(["show", str(spec)]) == 0
    said = capsys.readouterr().out
    assert "with hyperparameters that are drawn" in said
    assert "log_uniform [0.0001, 0.1]" in said
    assert main(["run", str(spec), "--store", str(store), *QUIET]) == 0
    assert main(["run", str(written(spec, 16)), "--store", str(store), *QUIET]) == 0
    assert main(["report", "drawn", "--store", str(store), "--out", str(tmp_path / "report")]) == 0
    zoo = zooforge.open_zoo(store / "zoos" / "drawn")
    expected = [row.learning_rate for row in rows(load_file(spec))]
    assert zoo.model_table()["learning_rate"].to_pylist() == expected
    assert len(zoo.weights(epochs=1, where="learning_rate > 0.001").models) == sum(rate > 1e-3 for rate in expected)
    contents = read_contents(open_store(str(store)), str(store), "drawn")
    assert (contents.facts.kind, len(contents.facts.axes["learning_rate"])) == ("drawn", 16)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Hyperparameters are drawn for every model: 16 of 16 models" in page


def test_a_search_needs_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = written(tmp_path / "drawn.yaml", 6)
    (tmp_path / "search.yaml").write_text(
        f"name: tuned\nzoo: {spec}\nranges: {{learning_rate: {{low: 1e-3, high: 0.1, scale: log}}}}\n"
    )
    assert main(["tune", str(tmp_path / "search.yaml")]) == 2
    assert "the hyperparameters of drawn are drawn" in capsys.readouterr().err
