"""Matrices as Google's Small CNN Zoo has them, read back as their readers do: by layout.csv alone."""

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.synthetic import RUN, description, train
from zooforge.storage.cli import main
from zooforge.storage.errors import EpochNotPresent, StorageUsageError
from zooforge.storage.interchange.google import export_google
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo


@pytest.fixture
def zoo(memory: ObjectStore) -> Zoo:
    train(memory, range(6), 3, faulty={4: 2})
    vectorize(memory, description(num_models=6, num_epochs=3), RUN)
    return open_zoo(f"{memory.url}/zoos/tiny-zoo")


def read(folder: Path) -> tuple[Any, list[dict[str, str]], list[dict[str, str]]]:
    with gzip.open(folder / "metrics.csv.gz", "rt", newline="") as file:
        metrics = list(csv.DictReader(file))
    with (folder / "layout.csv").open(newline="") as file:
        layout = list(csv.DictReader(file))
    return np.load(folder / "weights.npy"), metrics, layout


def shape_of(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.strip("()").split(",") if n.strip())


def test_layout_and_metrics_give_back_every_state_and_its_labels(zoo: Zoo, tmp_path: Path) -> None:
    found = export_google(zoo, tmp_path / "out")
    weights, metrics, layout = read(tmp_path / "out")
    assert weights.shape == (found.num_states, found.num_values) == (24, zoo.layout.size)
    assert weights.dtype == np.float32
    assert [row["varname"] for row in layout] == [
        "sequential/conv2d/bias:0", "sequential/conv2d/kernel:0", "sequential/dense/bias:0", "sequential/dense/kernel:0"
    ]  # fmt: skip
    labels = {(row["model"], row["epoch"]): row for row in zoo.labels().to_pylist()}
    for line, row in zip(metrics, weights, strict=True):
        model, epoch = int(line["model"]), int(line["step"])
        tensors = {}
        for part in layout:
            array = row[int(part["start_idx"]) : int(part["end_idx"])].reshape(shape_of(part["shape"]))
            if part["varname"].endswith("kernel:0"):
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            tensors[part["tensor"]] = array
        one = zoo.weights(models=model, epochs=epoch)
        for name, array in one.layout.unflatten(one.values[0]).items():
            assert np.array_equal(tensors[name], array, equal_nan=True)
        label = labels[model, epoch]
        assert (line["test_accuracy"] or None) == (None if label["test_acc"] is None else repr(label["test_acc"]))
        assert line["config.activation"] == label["activation"]
        assert line["config.l2reg"] == repr(label["weight_decay"])
        assert int(line["config.random_seed"]) == label["seed"]
        assert line["split"] == label["split"]
        assert line["checkpoint"].split("/")[-2] == f"{model:07d}"
        assert int(line["checkpoint"].split("/")[-1].split("-")[-1]) == epoch
    assert [(int(m["model"]), int(m["step"])) for m in metrics] == sorted(labels)


def test_equal_zoos_give_equal_bytes_in_any_pieces(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_google(zoo, tmp_path / "a")
    monkeypatch.setattr("zooforge.storage.interchange.folders.pieces.__kwdefaults__", {"num_bytes": 1}, raising=False)
    export_google(zoo, tmp_path / "b")
    for name in ("weights.npy", "metrics.csv.gz", "layout.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_selection_leaves_out_what_is_not_finite(zoo: Zoo, tmp_path: Path) -> None:
    export_google(zoo, tmp_path / "out", epochs="2:4", where="faulty_epoch is None")
    weights, metrics, _ = read(tmp_path / "out")
    assert np.isfinite(weights).all()
    assert {line["model"] for line in metrics} == {"0", "1", "2", "3", "5"}


def test_nothing_is_written_where_something_is_or_nothing_fits(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(StorageUsageError, match="not empty"):
        export_google(zoo, tmp_path / "full")
    with pytest.raises(EpochNotPresent, match="no state fits"):
        export_google(zoo, tmp_path / "none", where="test_acc > 2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_the_command_says_what_it_wrote(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{zoo.store.url}/zoos/tiny-zoo"
    assert main(["store", "export-google", address, str(tmp_path / "out"), "--epochs", "3"]) == 0
    assert "weights.npy [6, 37] of 6 models" in capsys.readouterr().out
    assert main(["store", "export-google", address, str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
