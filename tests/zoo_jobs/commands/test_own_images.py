"""A user's own images, from a spec's file to the reader: afterwards only the store is needed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zooforge
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.catalogue.in_store import stored
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data.own import OwnImages
from zooforge.zoo_jobs.spec.zoo import ZooSpec

QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1"]
RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.integers(0, 256, (60, 28, 28), dtype=np.uint8)
LABELS = np.arange(60) % 3

SPEC = """
name: own
description: "Three classes of noise."
source: "a test"
origin: ours
dataset: {dataset}
preprocessing: {{mean: [0.5], std: [0.25]}}
split: {{train: 40, val: 10, test: 10, seed: 1}}
architecture: cnn-s
axes: {{activation: [tanh], dropout_ratio: [0.0], initializer: [uniform], optimizer: [adam], learning_rate: [1e-3],
  weight_decay: [0.0]}}
seeds: "1:3"
batch_size: 10
num_epochs: 2
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, dataset: str = "{npz: ./mine.npz}", **arrays: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "mine.npz", **{"images": IMAGES, "labels": LABELS, **arrays})
    path = folder / "own.yaml"
    path.write_text(SPEC.format(dataset=dataset))
    return path


def test_the_run_id_follows_from_the_values_wherever_they_lie(tmp_path: Path) -> None:
    first = load_file(written(tmp_path / "a"))
    second = load_file(written(tmp_path / "b", images=IMAGES[..., None]))
    other = load_file(written(tmp_path / "c", labels=LABELS[::-1]))
    assert first == second
    assert first.run_id == second.run_id != other.run_id
    assert str(tmp_path) not in json.dumps(first.to_json())
    assert ZooSpec.from_json(first.to_json()) == first


def test_a_zoo_of_own_images_goes_on_from_its_store_alone(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = written(tmp_path / "mine"), tmp_path / "store"
    assert main(["train", str(spec), "--epochs", "1", "--store", str(store), *QUIET]) == 0
    zoo = stored(open_store(str(store)), "own")
    assert isinstance(zoo, ZooSpec)
    images = load_file(spec).dataset
    assert isinstance(images, OwnImages)
    digest = images.digest
    assert (store / "datasets" / "own" / digest / "images.safetensors").is_file()
    shutil.rmtree(tmp_path / "mine")
    shutil.rmtree(cache)
    assert main(["run", "own", "--store", str(store), *QUIET]) == 0
    shutil.rmtree(cache)
    capsys.readouterr()
    assert main(["verify", "own", "--deep", "--deep-models", "1", "--store", str(store)]) == 0
    assert "equal" in capsys.readouterr().out
    assert main(["report", "own", "--store", str(store), "--out", str(tmp_path / "report")]) == 0
    opened = zooforge.open_zoo(store / "zoos" / "own")
    assert opened.manifest.dataset == f"images-{digest[:8]}"
    assert opened.weights(epochs=-1).values.shape[0] == 2


def test_missing_images_are_named_before_anything_is_written(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = load_file(written(tmp_path / "mine")).to_json()["dataset"]
    shutil.rmtree(cache)
    spec = written(tmp_path / "other", json.dumps(facts))
    assert main(["train", str(spec), "--store", str(tmp_path / "store"), *QUIET]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"images-{facts['digest'][:8]}: the images are not in the cache" in told
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").iterdir())


def test_a_copy_in_the_store_that_was_changed_is_refused(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = written(tmp_path / "mine"), tmp_path / "store"
    assert main(["train", str(spec), "--epochs", "1", "--store", str(store), *QUIET]) == 0
    (copy,) = store.glob("datasets/own/*/images.safetensors")
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.chmod(0o644)
    copy.write_bytes(content)
    shutil.rmtree(cache)
    capsys.readouterr()
    assert main(["train", "own", "--store", str(store), *QUIET]) == 2
    assert "does not hold the images of its digest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "arrays", "message"),
    [
        ("{npz: ./mine.npz}", {"images": IMAGES / 255}, "mine.npz: images are float64, expected uint8"),
        ("{npz: ./mine.npz}", {"labels": LABELS + 300}, "mine.npz: labels are 300 to 302, expected 0 to 255"),
        ("{npz: ./none.npz}", {}, "none.npz: no such file"),
        ("{npz: ./mine.npz, folder: ./x}", {}, "give npz, or folder"),
        ("{npz: ./mine.npz, classes: 3}", {}, "unknown field 'classes'"),
        ("{digest: abc}", {}, "dataset: image_size, channels, num_classes and num_images are required"),
        ("mine", {}, "dataset is 'mine'"),
    ],
)
def test_bad_images_are_one_line_and_nothing_is_written(
    dataset: str, arrays: dict[str, Any], message: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = written(tmp_path / "mine", dataset, **arrays)
    assert main(["train", str(spec), "--store", str(tmp_path / "store"), *QUIET]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "store").exists()
    assert not cache.exists()


def test_names_serve_several_specs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "mine")
    npz = str(tmp_path / "mine" / "mine.npz")
    assert main(["data", "add", "noise", "--npz", npz, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    spec = load_file(written(tmp_path / "elsewhere", "noise"))
    assert spec.dataset_name == f"images-{facts['digest'][:8]}"
    assert main(["data", "list", "--json"]) == 0
    (row,) = (row for row in json.loads(capsys.readouterr().out) if row["dataset"] == "noise")
    assert (row["num_images"], row["state"]) == (60, "here")
    store = open_store(str(tmp_path / "store"))
    for said in ("sent to", "is in"):
        assert main(["data", "mirror", "noise", "--store", str(tmp_path / "store")]) == 0
        assert said in capsys.readouterr().out
    assert [stat.key for stat in store.list("datasets/")] == [f"datasets/own/{facts['digest']}/images.safetensors"]
    written(tmp_path / "mine", labels=LABELS[::-1])
    for arguments, message in (
        (["noise", "--npz", npz], "noise is images-"),
        (["mnist", "--npz", npz], "mnist is a data set of the registry"),
        (["Noise", "--npz", npz], "lower-case words"),
        (["other"], "give npz, or folder"),
    ):
        assert main(["data", "add", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine" / "pictures"
    for number, pixels in enumerate(IMAGES):
        path = folder / f"class-{number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    path = written(tmp_path / "mine", "{folder: ./pictures}")
    first = load_file(path)
    assert first.image_facts.num_classes == 3

    def undecodable(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr("zooforge.zoo_jobs.data.own_values.read_folder", undecodable)
    assert load_file(path) == first
    Image.fromarray(IMAGES[1]).save(folder / "class-0" / "00.jpg")
    with pytest.raises(AssertionError, match="decoded again"):
        load_file(path)
