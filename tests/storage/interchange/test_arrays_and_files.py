"""Zoos as NumPy arrays and as safetensors files: public libraries read them, and every bit is preserved."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.support.module_zoo import module_zoo
from tests.support.residual_zoo import residual_module, residual_zoo
from tests.support.synthetic import RUN, copy_zoo, tiny_zoo
from tests.support.synthetic import weights as own_weights
from zooforge.storage.errors import EpochNotPresent, StorageUsageError
from zooforge.storage.formats.layout import Layout
from zooforge.storage.interchange.google import export_google
from zooforge.storage.interchange.hub_folder import prepare_hub
from zooforge.storage.interchange.npz import export_npz
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.safetensors_files import export_safetensors
from zooforge.storage.interchange.sane import export_sane
from zooforge.storage.interchange.zip import zip_zoo
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main


def opened(folder: Path, made: Any, name: str = "tiny-zoo") -> Zoo:
    store = LocalStore(folder)
    copy_zoo(made, name, store)
    return open_zoo(f"{store.url}/zoos/{name}")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return opened(tmp_path_factory.mktemp("store"), module_zoo())


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Model 5 is faulty from epoch 2 on, so that labels have nulls and weights are not finite."""
    return opened(tmp_path_factory.mktemp("store"), tiny_zoo())


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("form", ["matrix", "tensors"])
def test_arrays_hold_every_state_with_its_labels(faulty: Zoo, tmp_path: Path, form: str) -> None:
    report = export_npz(faulty, tmp_path / "zoo.npz", form=form, models=[5, 2])
    loaded = arrays(tmp_path / "zoo.npz")
    assert set(loaded) == set(report.names) and report.num_states == 8
    states = faulty.weights(models=[2, 5])
    assert loaded["models"].tolist() == states.models.tolist() and loaded["epochs"].tolist() == states.epochs.tolist()
    layout = Layout.of([(entry["name"], tuple(entry["shape"])) for entry in json.loads(str(loaded["layout"]))])
    assert layout == faulty.layout and str(loaded["run"]) == RUN
    if form == "tensors":
        tensors = {n.removeprefix("weights."): v for n, v in loaded.items() if n.startswith("weights.")}
        values = faulty.from_state_dict(tensors)
    else:
        values = loaded["weights"]
    assert np.array_equal(values.view(np.uint32), states.values.view(np.uint32)) and np.isnan(values).any()
    table = states.labels()
    assert {n.removeprefix("labels.") for n in loaded if n.startswith("labels.")} == set(table.column_names)
    for name in table.column_names:
        expected = table[name].to_pylist()
        nulls = loaded.get(f"null.{name}", np.zeros(8, bool)).tolist()
        assert nulls == [value is None for value in expected]
        given = [None if null else v for null, v in zip(nulls, loaded[f"labels.{name}"].tolist(), strict=True)]
        assert given == expected, name
    assert "null.faulty_epoch" in loaded and "null.model" not in loaded


def test_large_selections_are_written_in_pieces_in_the_order_of_rows(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.npz"
    export_npz(zoo, whole, epochs=[3, 0])
    monkeypatch.setattr("zooforge.storage.interchange.folders.pieces.__kwdefaults__", {"num_bytes": 1}, raising=False)
    steps: list[int] = []
    export_npz(zoo, tmp_path / "again.npz", epochs=[0, 3], progress=steps.append)
    assert whole.read_bytes() == (tmp_path / "again.npz").read_bytes() and len(steps) == 2 and sum(steps) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.npz", "whole.npz"]


def test_files_load_into_the_modules_of_their_models(zoo: Zoo, tmp_path: Path) -> None:
    report = export_safetensors(zoo, tmp_path / "out", epochs=[1, 3], where="model < 6")
    assert (report.num_models, report.num_states) == (6, 12)
    with (tmp_path / "out/states.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows[:2]] == [
        "model_00000/epoch_001.safetensors",
        "model_00000/epoch_003.safetensors",
    ]
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.safetensors")} == {
        row["path"] for row in rows
    }
    for row in rows:
        model, epoch = int(row["model"]), int(row["epoch"])
        state = load_file(tmp_path / "out" / row["path"])
        module = zoo.module(0 if model % 2 == 0 else 1, 0)  # the same activation is not needed to load
        module.load_state_dict(state, strict=True)
        assert np.array_equal(zoo.from_state_dict(state), own_weights(model, epoch))
        assert float(row["test_acc"]) == zoo[model, epoch].labels()["test_acc"]
        with safe_open(tmp_path / "out" / row["path"], "numpy") as content:
            origin = json.loads(content.metadata()["provenance"])
        assert origin == {"zoo": "tiny-zoo", "run": RUN, "model": model, "epoch": epoch}


def test_files_with_the_names_of_the_layout_are_alike_for_all_models(zoo: Zoo, tmp_path: Path) -> None:
    export_safetensors(zoo, tmp_path / "out", epochs=1, names="layout")
    for model in range(8):
        state = load_file(tmp_path / f"out/model_{model:05d}/epoch_001.safetensors")
        assert set(state) == {entry.name for entry in zoo.layout}
        assert np.array_equal(zoo.from_state_dict(state), own_weights(model, 1))


def test_files_of_resnets_have_their_running_statistics(tmp_path: Path) -> None:
    zoo = opened(tmp_path / "store", residual_zoo(2), "narrow")
    export_safetensors(zoo, tmp_path / "out")
    for model in range(2):
        expected = residual_module(model).state_dict()
        loaded = load_file(tmp_path / f"out/model_{model:05d}/epoch_000.safetensors")
        assert set(loaded) == set(expected) and all(torch.equal(loaded[n], t) for n, t in expected.items())


def test_equal_zoos_give_equal_bytes(zoo: Zoo, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_npz(zoo, tmp_path / f"{name}.npz")
        export_safetensors(zoo, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 25
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_the_verbs_write_what_the_functions_write(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{zoo.store.url}/zoos/tiny-zoo"
    export_npz(zoo, tmp_path / "zoo.npz", form="tensors", split="train")
    command = ["store", "export-npz", address, str(tmp_path / "verb.npz"), "--form", "tensors", "--split", "train"]
    assert main([*command, "--json"]) == 0
    assert (tmp_path / "verb.npz").read_bytes() == (tmp_path / "zoo.npz").read_bytes()
    assert "weights.conv1.bias" in json.loads(capsys.readouterr().out)["arrays"]
    command = ["store", "export-safetensors", address, str(tmp_path / "out"), "--epochs", "last", "--names", "layout"]
    assert main(command) == 0 and "8 files of 8 models" in capsys.readouterr().out


def test_bad_options_write_nothing(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(StorageUsageError, match="expected matrix or tensors"):
        export_npz(zoo, tmp_path / "zoo.npz", form="list")
    with pytest.raises(StorageUsageError, match="expected module or layout"):
        export_safetensors(zoo, tmp_path / "out", names="torch")
    with pytest.raises(EpochNotPresent):
        export_npz(zoo, tmp_path / "zoo.npz", where="test_acc > 2")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "zoo.npz").write_text("mine")
    with pytest.raises(StorageUsageError, match="exists already"):
        export_npz(zoo, tmp_path / "zoo.npz")
    assert (tmp_path / "zoo.npz").read_text() == "mine"


def test_every_export_takes_text_and_the_home_folder(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folders: list[Any] = [export_google, export_sane, export_raw, export_safetensors, prepare_hub]
    for number, export in enumerate(folders):
        export(zoo, f"~/text{number}")
        export(zoo, Path("~") / f"path{number}")
        assert (tmp_path / f"text{number}").is_dir() and (tmp_path / f"path{number}").is_dir()
    for export in (export_npz, zip_zoo):
        export(zoo, f"~/{export.__name__}")
        assert (tmp_path / export.__name__).is_file()
    assert not (tmp_path / "~").exists()


def test_every_export_leaves_out_states_with_large_weights_and_says_how_many(
    zoo: Zoo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = zoo.weights()
    largest = np.abs(whole.values).max(axis=1)
    limit = float(np.median(largest))
    kept = whole[largest <= limit]
    export_npz(zoo, tmp_path / "zoo.npz", weight_threshold=limit)
    assert (arrays(tmp_path / "zoo.npz")["weights"] == kept.values).all()
    assert export_safetensors(zoo, tmp_path / "files", weight_threshold=limit).num_states == len(kept)
    assert len(list((tmp_path / "files").rglob("*.safetensors"))) == len(kept)
    export_google(zoo, tmp_path / "google", weight_threshold=limit)
    assert len(np.load(tmp_path / "google" / "weights.npy")) == len(kept)
    export_sane(zoo, tmp_path / "sane", weight_threshold=limit)
    assert len(list((tmp_path / "sane").rglob("sample_*.pt"))) == len(kept)
    said = {record.getMessage().split(";")[0] for record in caplog.records}
    assert f"weight_threshold {limit:g}: {len(whole) - len(kept)} of {len(whole)} states left out" in said
    with pytest.raises(EpochNotPresent, match="no state matches"):
        export_npz(zoo, tmp_path / "none.npz", weight_threshold=1e-30)
    assert not (tmp_path / "none.npz").exists()


def test_the_verbs_take_a_weight_threshold(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{zoo.store.url}/zoos/{zoo.name}"
    limit = float(np.median(np.abs(zoo.weights().values).max(axis=1)))
    assert main(["store", "export-npz", address, str(tmp_path / "zoo.npz"), "--weight-threshold", str(limit)]) == 0
    assert len(arrays(tmp_path / "zoo.npz")["models"]) == len(zoo.select(weight_threshold=limit)) < len(zoo.select())
    assert main(["store", "export-npz", address, str(tmp_path / "other.npz"), "--weight-threshold", "-1"]) == 2
    assert "expected a number above zero" in capsys.readouterr().err and not (tmp_path / "other.npz").exists()
