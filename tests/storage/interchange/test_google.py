"""Matrices as Google's Small CNN Zoo has them, read back as their readers do: by layout.csv alone."""

import csv
import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import EpochNotPresent, StorageUsageError
from zooforge.storage.interchange.google import export_google
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main


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
    exported = export_google(zoo, tmp_path / "out")
    weights, metrics, layout = read(tmp_path / "out")
    assert weights.shape == (exported.num_states, exported.num_values) == (24, zoo.layout.size)
    assert weights.dtype == np.float32
    assert [row["varname"] for row in layout] == [
        "sequential/conv2d/bias:0", "sequential/conv2d/kernel:0", "sequential/dense/bias:0", "sequential/dense/kernel:0"
    ]  # fmt: skip
    labels = {(row["model"], row["epoch"]): row for row in zoo.labels().to_pylist()}
    for line, row in zip(metrics, weights, strict=True):
        model, epoch = int(line["model"]), int(line["epoch"])
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
    assert [(int(m["model"]), int(m["epoch"])) for m in metrics] == sorted(labels)


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


def test_the_last_state_of_each_model_has_the_step_that_published_readers_keep(zoo: Zoo, tmp_path: Path) -> None:
    export_google(zoo, tmp_path / "out")
    _, metrics, _ = read(tmp_path / "out")
    assert [(line["epoch"], line["step"]) for line in metrics[:4]] == [("0", "0"), ("1", "1"), ("2", "2"), ("3", "86")]
    assert len([line for line in metrics if line["step"] == "86"]) == len(zoo.models)
    export_google(zoo, tmp_path / "early", final_step=2)
    _, metrics, _ = read(tmp_path / "early")
    assert [line["step"] for line in metrics[:4]] == ["0", "1", "1", "2"]
    export_google(zoo, tmp_path / "epochs", final_step=0)
    _, metrics, _ = read(tmp_path / "epochs")
    assert all(line["step"] == line["epoch"] for line in metrics)


def read_as_published(folder: Path) -> dict[str, list[int]]:
    """Models by split, as AllanYangZhou/nfn and its successors find them: rows by index csv, final step, positions."""
    weights, metrics, _ = read(folder)
    order = [int(line) for line in (folder / "splits.csv").read_text().split()]
    assert sorted(order) == list(range(len(weights)))
    final = [row for row in order if metrics[row]["step"] == "86"]
    assert np.isfinite(weights[final]).all()
    half = int(0.5 * len(final))
    places = list(range(half))
    random.Random(0).shuffle(places)
    parts = {"train": places[: int(0.8 * half)], "val": places[int(0.8 * half) :], "test": range(half, len(final))}
    return {split: [int(metrics[final[place]]["model"]) for place in part] for split, part in parts.items()}


def test_published_readers_train_on_no_model_of_another_split(memory: ObjectStore, tmp_path: Path) -> None:
    train(memory, range(60), 2, faulty={4: 2})
    vectorize(memory, description(num_models=60, num_epochs=2), RUN)
    zoo = open_zoo(f"{memory.url}/zoos/tiny-zoo")
    export_google(zoo, tmp_path / "out", splits=True, where="faulty_epoch is None")
    actual = read_as_published(tmp_path / "out")
    split_of = {row["model"]: row["split"] for row in zoo.model_table().to_pylist()}
    members = {split: {model for model, own in split_of.items() if own == split} for split in ("train", "val", "test")}
    assert {split: len(models) for split, models in actual.items()} == {"train": 24, "val": 6, "test": 30}
    assert set(actual["train"]) <= members["train"]
    assert set(actual["val"]) <= members["val"]
    assert set(actual["test"]) >= members["test"]
    assert sorted(model for models in actual.values() for model in models) == list(range(60))


def test_the_names_and_the_deviation_that_the_notebook_needs(zoo: Zoo, tmp_path: Path) -> None:
    export_google(zoo, tmp_path / "out", names="all", epochs=3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "all_metrics.csv", "all_weights.npy", "layout.csv"
    ]  # fmt: skip
    with (tmp_path / "out" / "all_metrics.csv").open(newline="") as file:
        metrics = list(csv.DictReader(file))
    kernels = np.r_[0:8, 10:34]
    for line in metrics:
        values = zoo.weights(models=int(line["model"]), epochs=0).values[0][kernels].astype(np.float64)
        assert float(line["config.init_std"]) == pytest.approx(values.std())


def test_nothing_is_written_into_a_folder_with_files_or_for_an_empty_selection(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(StorageUsageError, match="not empty"):
        export_google(zoo, tmp_path / "full")
    for options in ({"final_step": -1}, {"names": "other"}):
        with pytest.raises(StorageUsageError, match="expected 0 or more"):
            export_google(zoo, tmp_path / "none", **options)  # type: ignore[arg-type]
    with pytest.raises(EpochNotPresent, match="no state matches"):
        export_google(zoo, tmp_path / "none", where="test_acc > 2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_the_command_says_what_it_wrote(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{zoo.store.url}/zoos/tiny-zoo"
    assert main(["store", "export-google", address, str(tmp_path / "out"), "--epochs", "3"]) == 0
    assert "weights.npy [6, 37] of 6 models" in capsys.readouterr().out
    assert main(["store", "export-google", address, str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
