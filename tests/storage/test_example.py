"""The example in the wheel is small and complete, and training its spec gives the same weights."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import zooforge
from tests.support.paths import ROOT
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.zoo import open_zoo

FOLDER = ROOT / "storage" / "example"


def test_the_example_is_small_and_whole() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 1_500_000  # as a wheel has them
    assert zooforge.list_zoos(FOLDER) == ["digits-example", "digits-example-vd"]
    for name in zooforge.list_zoos(FOLDER):
        assert verify_zoo(open_zoo(FOLDER / "zoos" / name)).problems == ()


def test_its_models_have_learned_and_its_twins_are_sparse() -> None:
    zoo, twins = zooforge.example(), zooforge.example(twins=True)
    assert (len(zoo), zoo.epochs, zoo.parent) == (16, [0, 1, 2, 3, 4], None)
    assert min(zoo.labels(epochs=-1)["test_acc"].to_pylist()) > 0.85
    assert max(zoo.labels(epochs=0)["test_acc"].to_pylist()) < 0.25
    assert set(zoo.model_table()["split"].to_pylist()) == {"train", "val", "test"}
    assert twins.parent is not None and (twins.parent.zoo, twins.parent.epoch) == (zoo.name, 4)
    table = twins.labels(epochs=2)
    tensors = twins.weights(epochs=2).unflatten()
    zeros = sum((v == 0).reshape(16, -1).sum(axis=1) for name, v in tensors.items() if name.endswith(".weight"))
    assert zeros.tolist() == table["num_pruned"].to_pylist()
    shares = table["sparsity_ratio"].to_numpy()
    assert shares.min() > 0.36 and shares.max() < 0.63
    assert min(table["test_acc"].to_pylist()) > 0.8


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("split", ["val", "test"])
def test_its_images_give_the_accuracy_that_was_stored(twins: bool, split: str) -> None:
    """Counts for every state; the stored counts come from the training engine, the counts here from torch."""
    zoo = zooforge.example(twins=twins)
    for epoch in zoo.epochs:
        actual, stored = zoo.evaluate(epoch=epoch, split=split), zoo.labels(epochs=epoch)
        assert actual["model"].to_pylist() == list(range(16)) and set(actual["epoch"].to_pylist()) == {epoch}
        assert actual["correct"].to_pylist() == stored[f"{split}_correct"].to_pylist()
        assert actual["acc"].to_pylist() == stored[f"{split}_acc"].to_pylist()
        np.testing.assert_allclose(actual["loss"].to_numpy(), stored[f"{split}_loss"].to_numpy(), atol=1e-5)


@pytest.mark.slower
def test_its_spec_grows_its_weights(tmp_path: Path) -> None:
    """Two of its models, and the images."""
    command = [sys.executable, "-m", "zooforge", "run", str(FOLDER / "digits-example.yaml"), "--store", str(tmp_path)]
    quiet = ["--models", "0:2", "--slots", "1", "--ray", "none", "--no-metrics", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ZOO_CACHE": str(tmp_path / "cache")}
    images = tmp_path / "images.safetensors"
    export = [*command[:3], "data", "export", command[4], str(images)]
    subprocess.run(export, env=environment, cwd=tmp_path, capture_output=True, check=True)
    kept_images = zooforge.example().manifest.images
    assert kept_images is not None and images.read_bytes() == (FOLDER / kept_images.key).read_bytes()
    done = subprocess.run([*command, *quiet], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for twins, name in ((False, "digits-example"), (True, "digits-example-vd")):
        zoo = open_zoo(tmp_path / "zoos" / name)
        kept = zooforge.example(twins=twins)
        assert zoo.manifest.run == kept.manifest.run
        actual, expected = zoo.weights(masked=False), kept.weights(models=[0, 1], masked=False)
        assert np.array_equal(actual.values.view(np.uint32), expected.values.view(np.uint32))
        columns = ["model", "epoch", "split", "test_correct", "test_loss", "seed"]
        assert actual.labels(columns).equals(expected.labels(columns))
