"""A user's own network, from a layer list in a spec's file to a reader's torch module."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zooforge
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data.prepare import load

QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1"]
SPEC = """
name: mine
description: "Small networks with strides, a residual sum and a global average."
source: "a test"
origin: ours
dataset: mnist5k
preprocessing: {mean: [0.1307], std: [0.3081]}
split: {train: 200, val: 40, test: 60, seed: 42}
architecture:
  layers:
    - conv: {channels: 6, kernel: 3, stride: 2}
    - activation
    - dropout
    - conv: {channels: 6, kernel: 3, padding: same}
    - activation: {name: sine, omega: 2}
    - add: 2
    - max_pool: {kernel: 3, stride: 2}
    - avg_pool: global
    - linear: {features: classes}
axes:
  activation: [tanh, relu]
  dropout_ratio: [0.0, 0.25]
  initializer: [kaiming_uniform]
  optimizer: [adam]
  learning_rate: [0.01]
  weight_decay: [0.0]
seeds: "1:2"
batch_size: 20
num_epochs: 2
sparsify: {method: magnitude, sparsity_ratio: 0.5, num_epochs: 1}
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def test_a_layer_list_is_grown_made_sparse_published_reported_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = tmp_path / "mine.yaml", str(tmp_path / "store")
    path.write_text(SPEC)
    spec = load_file(path)
    assert main(["run", str(path), "--store", store, *QUIET]) == 0
    deeper = ["sparsify", "mine", "--method", "variational-dropout", "--twin-epochs", "1", "--models", "0:2"]
    assert main([*deeper, "--store", store, *QUIET]) == 0
    assert main(["report", "mine", "--store", store, "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "index.html").is_file()
    capsys.readouterr()
    assert main(["verify", "mine", "--deep", "--deep-models", "2", "--store", store]) == 0
    assert "equal" in capsys.readouterr().out

    zoo, twins = (zooforge.open_zoo(f"{store}/zoos/{name}") for name in ("mine", "mine-magnitude-50"))
    assert zoo.architecture["name"] == spec.architecture_name == twins.architecture["name"]
    data = load(spec, tmp_path / "cache")
    images = torch.from_numpy((data.test.images.astype(np.float32) / 255 - 0.1307) / 0.3081)
    labels = torch.from_numpy(data.test.labels.astype(np.int64))
    for label in zoo.labels(columns=["model", "epoch", "test_correct"]).to_pylist():
        module = zoo.module(label["model"], label["epoch"])
        with torch.no_grad():
            right = int((module(images).argmax(dim=1) == labels).sum())
        assert abs(right - label["test_correct"]) <= 1
    pruned = twins.weights(epochs=-1).values
    assert 0.4 < float((pruned == 0).mean()) < 0.55
    assert [group["size"] for group in zoo.symmetries] == [6]
    vector = zoo.weights(epochs=-1).values[:1]
    again = zoo.permuted(vector, 3)
    with torch.no_grad():
        before, after = (zoo.to_module(values[0], 0)(images) for values in (vector, again))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    for layout in ("tokens", "graph", "vector"):
        assert len(zoo.dataset("train", layout=layout)) > 0


def test_operations_that_layer_lists_do_not_support_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = tmp_path / "mine.yaml", str(tmp_path / "store")
    path.write_text(SPEC)
    name = load_file(path).architecture_name
    assert main(["run", str(path), "--models", "0:1", "--epochs", "0", "--no-twins", "--store", store, *QUIET]) == 0
    capsys.readouterr()
    for arguments in (
        ["store", "export-raw", f"{store}/zoos/mine", str(tmp_path / "raw")],
        ["fidelity", "mine", "--store", store],
    ):
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert name in told
    assert not (tmp_path / "raw").exists()


def test_a_list_is_planned_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    spec = load_file(path)
    assert main(["plan", str(path), "--json"]) == 0
    (planned,) = (row for row in json.loads(capsys.readouterr().out) if row["zoo"] == "mine")
    network = spec.network("relu", dropout=False)
    assert planned["num_models"] == 4
    assert planned["num_flop"] > 2 * 4 * 2 * 200 * network.num_train_macs
    assert main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert spec.architecture_name in shown
    assert "conv: {channels: 6, kernel: 3, stride: 2, padding: 0}" in shown


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("kernel: 3, stride: 2}\n    - activation\n", "kernel: 31}\n    - activation\n",
         "mine.yaml: architecture.layers[0].conv: kernel 31 is larger than the image, 28 x 28"),
        ("add: 2", "add: 9", "mine.yaml: architecture.layers[5].add: add reads an earlier layer, of 0 to 4, found 9"),
        ("    - dropout\n", "",
         "mine.yaml: axes.dropout_ratio: no layer of the architecture uses it; put `dropout` into its layers"),
        ("avg_pool: global", "flatten: 3", "mine.yaml: architecture.layers[7].flatten: flatten has no arguments"),
    ],
)  # fmt: skip
def test_a_list_that_does_not_fit_is_one_line_and_nothing_is_written(
    before: str, after: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC.replace(before, after, 1))
    assert main(["run", str(path), "--store", str(tmp_path / "store"), *QUIET]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "store").exists()
