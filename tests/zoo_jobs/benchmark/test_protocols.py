"""Each protocol on the example that comes with the package, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.module_zoo import module_zoo
from tests.support.paths import ROOT
from tests.support.synthetic import copy_zoo
from zooforge.storage.interchange.google import export_google
from zooforge.storage.interchange.google_import import import_google
from zooforge.storage.interchange.safetensors_files import export_safetensors
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.benchmark import controls
from zooforge.zoo_jobs.benchmark.protocols.small_cnn_zoo import published_splits
from zooforge.zoo_jobs.benchmark.splits import draw
from zooforge.zoo_jobs.cli import main

STORE = str(ROOT / "storage" / "example")
EXAMPLE = "digits-example"
QUICK = ["--seeds", "2", "--methods", "linear-statistics"]


def value(capsys: pytest.CaptureFixture[str], *arguments: str, store: str = STORE, zoo: str = EXAMPLE) -> Any:
    capsys.readouterr()
    assert main(["benchmark", zoo, "--store", store, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, store: str = STORE, zoo: str = EXAMPLE) -> str:
    capsys.readouterr()
    assert main(["benchmark", zoo, "--store", store, *arguments]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example without its twins, the same as Google's matrix imported, and a zoo of another layout."""
    root = tmp_path_factory.mktemp("benchmark")
    shutil.copytree(Path(STORE), root / "store")
    shutil.rmtree(root / "store" / "zoos" / f"{EXAMPLE}-vd")
    target = open_store(str(root / "store"))
    copy_zoo(module_zoo(24), "tiny-zoo", target)
    export_google(zooforge.example(), root / "google", splits=True)
    import_google(root / "google", target, "google-zoo")
    (root / "google" / "splits.csv").rename(root / "order.csv")
    return str(root / "store")


# nfn and relu


def test_the_published_split_follows_the_position_of_a_row() -> None:
    splits = published_splits(30)
    assert (splits[15:] == "test").all() and (splits[:15] != "test").all()
    assert (splits == "train").sum() == 12 and (splits == "val").sum() == 3
    assert np.flatnonzero(splits == "val").tolist() == [
        6,
        12,
        13,
    ]  # the last three of range(15) after shuffling with seed 0


def test_nfn_has_no_target_for_other_zoos_and_does_not_change_with_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    found = value(capsys, "--protocol", "nfn", *QUICK)
    assert {key: found["states"][0][key] for key in ("train", "val", "test")} == {"train": 6, "val": 2, "test": 8}
    for row in found["rows"]:
        assert len(set(row["scores"]["tau"]["seeds"])) == 1
    assert main(["benchmark", EXAMPLE, "--store", STORE, "--protocol", "nfn", *QUICK]) == 0
    assert "so there is no target" in capsys.readouterr().out


def test_relu_leaves_others_out_after_the_split(capsys: pytest.CaptureFixture[str]) -> None:
    found = value(capsys, "--protocol", "relu", *QUICK)
    assert found["excluded"]["the activation is not relu"] == 8
    splits = published_splits(16)[1::2]  # the odd models have ReLU
    assert found["states"][0]["train"] == (splits == "train").sum()
    assert found["states"][0]["test"] == 4


def test_an_order_of_rows_moves_the_models_between_the_sets(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    order = str(Path(store).parent / "order.csv")
    ordered = value(capsys, "--protocol", "nfn", *QUICK, "--order", order, store=store, zoo="google-zoo")
    plain = value(capsys, "--protocol", "nfn", *QUICK, store=store, zoo="google-zoo")
    assert ordered["settings"]["splits"] == "published, order of a file" and ordered["rows"] != plain["rows"]
    assert "was not imported" in refused(capsys, "--protocol", "nfn", "--order", order)
    short = Path(store).parent / "short.csv"
    short.write_text("0\n1\n")
    arguments = ["--protocol", "nfn", "--order", str(short)]
    assert "each of the 80 rows of the matrix once" in refused(capsys, *arguments, store=store, zoo="google-zoo")


# sparsity


def test_sparsity_is_that_of_the_twins_and_predicted_from_their_parents(capsys: pytest.CaptureFixture[str]) -> None:
    of_parents = value(capsys, "--protocol", "sparsity", *QUICK, "--thresholds", "0,0.86")
    of_twins = value(capsys, "--protocol", "sparsity", *QUICK, "--thresholds", "0,0.86", zoo=f"{EXAMPLE}-vd")
    assert of_parents["rows"] == of_twins["rows"]
    assert {row["target"] for row in of_parents["rows"]} == {"sparsity_ratio"}
    strong = (zooforge.example().labels(epochs=-1)["test_acc"].to_numpy() >= 0.86).sum()
    assert sum(of_parents["states"][1][split] for split in ("train", "val", "test")) == strong


def test_a_zoo_without_twins_has_no_sparsity(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no published twins" in refused(capsys, "--protocol", "sparsity", store=store)


# forecast


def test_a_forecast_of_weights_is_scored_against_the_last_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    found = value(capsys, "--protocol", "forecast", *QUICK, "--first", "2")
    rows = {(row["target"], row["method"]): row["scores"] for row in found["rows"]}
    assert {method for target, method in rows if target == "final test_acc"} == {
        "last-value", "linear-extrapolation", "floor", "linear-statistics",
    }  # fmt: skip
    zoo = zooforge.example()
    groups = np.array([f"{EXAMPLE}/{model}" for model in zoo.models], object)
    for seed in (0, 1):
        test = draw(groups, seed, EXAMPLE) == "test"
        before, seen, final = (zoo.weights(epochs=epoch).values[test].astype(np.float64) for epoch in (1, 2, 4))
        spread = ((final - final.mean(axis=0)) ** 2).sum()
        for method, guess in (("last-value", seen), ("linear-extrapolation", seen + 2 * (seen - before))):
            wanted = 1 - ((final - guess) ** 2).sum() / spread
            assert rows["final weights", method]["r2"]["seeds"][seed] == pytest.approx(wanted)
    fitted = rows["final weights", "linear-by-tensor"]["r2"]["mean"]
    assert fitted > rows["final weights", "last-value"]["r2"]["mean"]


@pytest.mark.parametrize("first", ["0", "4"])
def test_a_forecast_needs_epochs_on_both_sides(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "at least two must be seen" in refused(capsys, "--protocol", "forecast", "--first", first)


# transfer


def test_a_method_is_tested_on_zoos_that_it_can_read(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["--seeds", "2", "--methods", "linear-weights,linear-pooled"]
    found = value(capsys, "--protocol", "transfer", *methods, "--on", "google-zoo,tiny-zoo", store=store)
    rows = {(row["on"], row["method"]): row for row in found["rows"]}
    assert set(rows) == {
        (zoo, method)
        for zoo in (EXAMPLE, "google-zoo", "tiny-zoo")
        for method in ("floor", "linear-weights", "linear-pooled")
    }
    assert "laid out otherwise" in rows["tiny-zoo", "linear-weights"]["note"]
    assert all(row["scores"] for key, row in rows.items() if key != ("tiny-zoo", "linear-weights"))


def test_twins_are_in_the_split_of_their_parents(capsys: pytest.CaptureFixture[str]) -> None:
    found = value(capsys, "--protocol", "transfer", *QUICK, "--on", f"{EXAMPLE}-vd")  # else it ends with a leak
    assert {(one["on"], one["test"]) for one in found["states"]} == {(EXAMPLE, 2), (f"{EXAMPLE}-vd", 2)}


def test_transfer_needs_other_zoos(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--on NAME" in refused(capsys, "--protocol", "transfer")
    assert "named twice" in refused(capsys, "--protocol", "transfer", "--on", EXAMPLE)


# generate


def test_copies_of_training_models_have_no_novelty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = zooforge.example()
    where = "activation == 'tanh'"
    export_safetensors(zoo, tmp_path / "copies", epochs=-1, split="train", where=where)
    arguments = [
        "--protocol",
        "generate",
        "--samples",
        str(tmp_path / "copies"),
        "--activation",
        "tanh",
        "--seeds",
        "2",
    ]
    found = value(capsys, *arguments)
    assert found == value(capsys, *arguments)
    rows = {row["method"]: row["scores"] for row in found["rows"]}
    assert list(rows) == ["submitted", "noise", "interpolation", "kernel-density", "training models"]
    assert rows["submitted"]["novelty"]["mean"] == 0 and rows["submitted"]["diversity"]["mean"] == pytest.approx(1)
    stored = zoo.labels(epochs=-1, split="train", where=where)["test_acc"].to_numpy()
    assert rows["submitted"]["accuracy"]["mean"] == pytest.approx(stored.mean())
    assert rows["submitted"]["accuracy_best"]["mean"] == pytest.approx(stored.max())
    assert 0 < rows["noise"]["novelty"]["mean"] < 0.5 < rows["kernel-density"]["novelty"]["mean"]


def test_a_permuted_copy_is_no_novelty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.numpy import save_file

    zoo = zooforge.example()
    train = zoo.weights(epochs=-1, split="train", where="activation == 'tanh'")
    for place, vector in enumerate(zoo.permuted(train.values, seed=3)):
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in zoo.layout.unflatten(vector).items()}
        save_file(tensors, tmp_path / f"{place}.safetensors")
    found = value(capsys, "--protocol", "generate", "--samples", str(tmp_path), "--activation", "tanh", "--seeds", "1")
    assert found["rows"][0]["scores"]["novelty"]["mean"] == pytest.approx(0, abs=1e-6)


def test_a_file_that_cannot_be_graded_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--protocol", "generate", "--activation", "tanh"]
    assert "--samples DIR" in refused(capsys, *arguments)
    folder = ["--samples", str(tmp_path)]
    assert "no .safetensors file" in refused(capsys, *arguments, *folder)
    assert "no such folder" in refused(capsys, *arguments, "--samples", str(tmp_path / "none"))
    (tmp_path / "bad.safetensors").write_bytes(b"no network")
    assert "bad.safetensors" in refused(capsys, *arguments, *folder)
    named = refused(capsys, "--protocol", "generate", *folder)
    assert "has models with relu, tanh" in named
    assert "sigmoid" in refused(capsys, "--protocol", "generate", *folder, "--activation", "sigmoid")


def test_the_bandwidth_is_the_likeliest_for_models_that_are_not_in_training() -> None:
    rng = np.random.default_rng(0)
    train, val = (rng.normal(size=(500, 2)).astype(np.float32) for _ in range(2))
    near, far = controls.bandwidth(train, val), controls.bandwidth(train[:5], val)
    assert 0.1 < near < 0.6 < far
