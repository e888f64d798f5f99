"""Zoos whose models train on a share of the images: trained, stopped, extended, made sparse, published and read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data.prepare import load
from zooforge.zoo_jobs.engines.subsets import training_rows

QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1"]
SPEC = """
name: parts
description: "Small networks that see a share of the images."
source: "a test"
origin: ours
dataset: digits8
preprocessing: {mean: [0.3], std: [0.4]}
split: {train: 100, val: 20, test: 60, seed: 42}
architecture: {layers: [flatten, {linear: {features: 8}}, activation, {linear: {features: classes}}]}
axes:
  activation: [tanh]
  initializer: [kaiming_uniform]
  optimizer: [adam]
  learning_rate: [0.01]
  weight_decay: [0.0]
  train_fraction: [0.07, 0.5, 1.0]
seeds: "1:7"
batch_size: 20
num_epochs: 2
train_eval_epochs: all
sparsify: {method: magnitude, sparsity_ratio: 0.5, num_epochs: 1}
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def manifest(store: str, name: str) -> bytes:
    return Path(store, "zoos", name, "versions", "0001", "manifest.json").read_bytes()


def test_a_zoo_of_fractions_is_trained_published_verified_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = tmp_path / "parts.yaml", str(tmp_path / "store")
    path.write_text(SPEC)
    assert main(["run", str(path), "--store", store, *QUIET]) == 0
    assert main(["report", "parts", "--store", store, "--out", str(tmp_path / "report")]) == 0
    assert "Train fraction" in (tmp_path / "report" / "index.html").read_text()
    capsys.readouterr()
    assert main(["verify", "parts", "--deep", "--deep-models", "2", "--store", store]) == 0
    assert "equal" in capsys.readouterr().out

    zoo, twins = (zooforge.open_zoo(f"{store}/zoos/{name}") for name in ("parts", "parts-magnitude-50"))
    fractions = zoo.model_table()["train_fraction"].to_pylist()
    assert fractions == [0.07, 0.5, 1.0] * 6 == twins.model_table()["train_fraction"].to_pylist()
    labels = zoo.labels().to_pandas()
    expected = labels["train_fraction"].map({0.07: 7, 0.5: 50, 1.0: 100})
    assert (labels["train_count"] == expected).all()
    assert (labels["running_train_count"][labels["epoch"] > 0] == expected[labels["epoch"] > 0]).all()
    assert len(zoo.weights(where="train_fraction < 0.6", epochs=-1).models) == 12

    train = load(load_file(path), tmp_path / "cache").train
    for label in zoo.labels(epochs=1).to_pylist():
        counts = label["train_class_count"]
        if label["train_fraction"] == 1.0:
            assert counts is None, "the manifest has those of the whole split"
        else:
            rows = training_rows(label["seed"], label["train_fraction"], 100)
            assert counts == np.bincount(train.labels[rows], minlength=10).tolist()
    metrics = zoo.class_metrics(split="train", epochs=2).to_pylist()
    right = [label["train_class_correct"] for label in zoo.labels(epochs=2).to_pylist()]
    for of_model, correct in zip(metrics, right, strict=True):
        for recall, hits in zip(of_model["recall"], correct, strict=True):
            assert recall is None or 0 <= recall <= 1
            assert recall is not None or hits == 0, "no image of the class in the subset"


def test_parts_chunks_and_an_extension_change_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "parts.yaml"
    path.write_text(SPEC)
    stores = [str(tmp_path / name) for name in ("whole", "halves")]
    quiet: list[Any] = [*QUIET, "--no-twins"]
    assert main(["run", str(path), "--store", stores[0], *quiet]) == 0
    for asked in (["--models", "0:5", "--epochs", "1"], ["--models", "3:18", "--epochs", "1"], []):
        assert main(["train", str(path), "--store", stores[1], *QUIET, *asked]) == 0
    assert main(["vectorize", "parts", "--store", stores[1]]) == 0
    assert manifest(stores[0], "parts") == manifest(stores[1], "parts")


def test_a_block_appends_models_with_fractions_to_a_published_zoo(tmp_path: Path) -> None:
    path, store = tmp_path / "parts.yaml", str(tmp_path / "store")
    path.write_text(SPEC.replace("  train_fraction: [0.07, 0.5, 1.0]\n", ""))
    quiet: list[Any] = [*QUIET, "--no-twins"]
    assert main(["run", str(path), "--store", store, *quiet]) == 0
    names = zooforge.open_zoo(f"{store}/zoos/parts").labels().column_names
    assert "train_fraction" not in names and "train_class_count" not in names
    path.write_text(path.read_text() + "extend: [{train_fraction: [0.25]}]\n")
    assert main(["run", str(path), "--store", store, *quiet]) == 0
    zoo = zooforge.open_zoo(f"{store}/zoos/parts")
    assert zoo.model_table()["train_fraction"].to_pylist() == [1.0] * 6 + [0.25] * 6
    counts = zoo.labels(epochs=2)["train_class_count"].to_pylist()
    assert counts[:6] == [None] * 6 and [sum(count) for count in counts[6:]] == [25] * 6


def test_a_zoo_of_wrong_labels_is_trained_published_verified_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = tmp_path / "parts.yaml", str(tmp_path / "store")
    text = SPEC.replace("train_fraction: [0.07, 0.5, 1.0]", "label_noise: [0.0, 0.6]")
    path.write_text(text.replace("num_epochs: 2\ntrain", "num_epochs: 30\ntrain").replace("[0.01]", "[0.05]"))
    assert main(["run", str(path), "--store", store, *QUIET, "--models", "0:4"]) == 0
    assert main(["verify", "parts", "--deep", "--deep-models", "2", "--store", store]) == 0
    assert "equal" in capsys.readouterr().out
    zoo = zooforge.open_zoo(f"{store}/zoos/parts")
    last = zoo.labels(epochs=-1).to_pylist()
    assert [label["label_noise"] for label in last] == [0.0, 0.6, 0.0, 0.6]
    assert "train_class_count" not in last[0]
    for noisy in last[1::2]:
        assert noisy["train_acc"] < noisy["running_train_acc"], "it learned wrong labels by heart"
    assert min(label["train_acc"] for label in last[::2]) > 0.9
