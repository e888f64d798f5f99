"""A zoo whose models learn images: training, publishing, report, benchmark and what a reader sees."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import zooforge
from tests.support.image_learners import SPEC, images, learners
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.zoo import Zoo
from zooforge.zoo_jobs.cli import main

NUM_MODELS = 24
QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1", "--engine", "sequential"]
FIELDS: dict[str, Any] = {
    "image": f"0:{NUM_MODELS}",
    "num_epochs": 2,
    "axes": SPEC["axes"] | {"learning_rate": [0.01]},
    "sparsify": {"method": "magnitude", "sparsity_ratio": 0.5, "num_epochs": 1},
}


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "learners.yaml"
    path.write_text(yaml.safe_dump(SPEC | FIELDS))
    return path


@pytest.fixture(scope="module")
def store(spec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    store = str(tmp_path_factory.mktemp("store"))
    assert main(["run", str(spec_file), "--store", store, *QUIET]) == 0
    return store


def opened(store: str, name: str = "learners") -> Zoo:
    return zooforge.open_zoo(f"{store}/zoos/{name}")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_the_published_zoo_names_its_task_and_has_columns_of_its_own(store: str) -> None:
    zoo = opened(store)
    assert zoo.manifest.task == {"name": "image_regression", "image_shape": [1, 8, 8], "steps_per_epoch": 5}
    assert zoo.task == {
        "name": "image_regression", "dataset": "digits8", "image_shape": (1, 8, 8), "steps_per_epoch": 5,
    }  # fmt: skip
    labels = zoo.labels()
    assert {"train_mse", "running_train_mse", "psnr", "exact", "image", "weight_norm"} <= set(labels.column_names)
    assert not {"test_acc", "test_loss", "ggap", "test_class_correct"} & set(labels.column_names)
    assert zoo.row(7)["image"] == 7
    assert zoo.manifest.root_zoo == "images of digits8"
    psnr = labels.filter(labels["epoch"].to_numpy() == 2)["psnr"].to_numpy()
    assert psnr.min() > 10
    assert len(zoo.labels(where="psnr > 0 and image < 3")) == 9
    assert "PSNR in dB" in zoo._repr_html_()


def test_modules_compute_what_the_labels_say(store: str) -> None:
    zoo = opened(store)
    data = images(learners(**FIELDS))
    made = zoo.reconstruct(epoch=2)
    assert made.shape == (NUM_MODELS, 1, 8, 8)
    originals = data.train.images[:NUM_MODELS] / np.float32(255)
    mse = ((made - originals).astype(np.float64) ** 2).mean(axis=(1, 2, 3))
    stored = zoo.labels(epochs=2)["train_mse"].to_numpy()
    np.testing.assert_allclose(mse, stored, rtol=1e-4)
    side = torch.linspace(-1, 1, 8)
    points = torch.cartesian_prod(side, side)
    with torch.no_grad():
        alone = zoo.module(5, 2)(points).reshape(8, 8).numpy()
    np.testing.assert_allclose(alone, made[5, 0], atol=1e-5)
    assert zoo.reconstruct(models=[5], side=3).shape == (1, 1, 3, 3)
    twins = opened(store, "learners-magnitude-50")
    assert 0.4 < float((twins.weights(epochs=-1).values == 0).mean()) < 0.55
    assert twins.labels(epochs=1)["psnr"].null_count == 0
    assert twins.manifest.split_counts == zoo.manifest.split_counts


def test_forms_of_the_weights_are_those_of_any_zoo(store: str) -> None:
    zoo = opened(store)
    for layout in ("vector", "tokens", "graph"):
        dataset = zoo.dataset("train", -1, layout=layout)
        _, _, labels = dataset[0]
        assert {"psnr", "image"} <= set(labels)


def test_a_reader_says_what_these_networks_cannot_do(store: str) -> None:
    zoo = opened(store)
    with pytest.raises(StorageUsageError, match="its networks do not classify"):
        zoo.evaluate()
    with pytest.raises(StorageUsageError, match="not counted by class"):
        zoo.class_metrics()
    with pytest.raises(StorageUsageError, match="its networks classify"):
        zooforge.example().reconstruct()


def test_the_spec_of_the_store_and_a_deep_verification(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "learners", "--deep", "--deep-models", "1", "--store", store]) == 0
    out = capsys.readouterr().out
    assert "mean squared error" in out or "equal" in out
    assert main(["status", "learners", "--store", store]) == 0


def test_verify_names_a_state_whose_error_is_not_the_stored_one(store: str) -> None:
    from zooforge.storage.stores.open import open_store
    from zooforge.zoo_jobs.catalogue.in_store import stored
    from zooforge.zoo_jobs.publishing.recompute import _compare_error, recompute

    spec = stored(open_store(store), "learners")
    assert spec is not None
    checks = recompute(store, spec, 5)
    assert len(checks) == 5
    assert {check.outcome for check in checks} <= {"equal", "within tolerance"}
    assert _compare_error(1, 2, 0.0103, 0.01).outcome == "differs"


@pytest.mark.parametrize("verb", ["export-raw", "export-google", "export-sane"])
def test_formats_that_are_about_accuracy_refuse_the_zoo(
    verb: str, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb in (text := refused(["store", verb, f"{store}/zoos/learners", str(tmp_path / "out")], capsys)) or (
        "is one's own" in text
    )
    assert not (tmp_path / "out").exists()


def test_variational_twins_and_protocols_about_accuracy_are_refused(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    twins = ["sparsify", "learners", "--method", "variational-dropout", "--store", store, *QUIET]
    assert "twins of image_regression are by magnitude" in refused(twins, capsys)
    benchmark = ["benchmark", "learners", "--store", store, "--protocol", "accuracy"]
    assert "protocol accuracy is about classification" in refused(benchmark, capsys)
    assert "is one's own" in refused(["fidelity", "learners", "--store", store], capsys)


def test_the_report_shows_the_images_that_models_compute(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "learners", "--store", store, "--out", str(tmp_path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert all(q is not None for q in value["psnr_quantiles"])
    assert value["findings"][0].startswith("At epoch 2 the median model reproduces its image with ")
    page = (tmp_path / "index.html").read_text()
    assert "Learned images" in page and "Contact sheet" in page
    assert "Coloured by PSNR" in page and "PSNR against sparsity" in page
    (finding,) = [line for line in value["findings"] if "sparsification" in line]
    assert re.fullmatch(
        r"After .* the median twin has lost \d\d\.\d% of its weights, and median PSNR went .* dB\.", finding
    )
    assert "test accuracy" not in page.lower()
    for name in ("learned-images", "weights", "sparsification"):
        assert (tmp_path / f"{name}.png").is_file()


def test_the_benchmark_predicts_the_class_of_an_image_from_its_network(
    spec_file: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "images.safetensors"
    assert main(["data", "export", str(spec_file), str(file), "--splits", "train"]) == 0
    capsys.readouterr()
    command = ["benchmark", "learners", "--store", store, "--protocol", "inr", "--images", str(file), "--json"]
    assert main([*command, "--methods", "linear-weights", "--seeds", "1"]) == 0
    results = json.loads(capsys.readouterr().out)["rows"]
    assert {result["target"] for result in results} == {"class, raw", "class, aligned", "class, queried"}
    assert all(0 <= result["scores"]["accuracy"]["mean"] <= 1 for result in results if result["scores"])


def test_a_run_that_was_interrupted_publishes_the_same_bytes(spec_file: Path, store: str, tmp_path: Path) -> None:
    other = str(tmp_path)
    for more in (["--models", "0:10", "--epochs", "1"], ["--chunk-models", "5"]):
        assert main(["run", str(spec_file), "--store", other, "--no-twins", *more, *QUIET]) == 0
    assert opened(other).manifest.to_json() == opened(store).manifest.to_json()
