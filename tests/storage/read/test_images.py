"""Images as the networks saw them: stored with a version or in a file, verified, and used to evaluate states."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.module_zoo import module_zoo
from tests.support.networks import logits
from tests.support.synthetic import RUN, copy_zoo, description, tiny_zoo, weights
from zooforge.storage.errors import FormatError, StorageUsageError
from zooforge.storage.formats.images import decode_images, encode_images
from zooforge.storage.formats.tensors import decode, encode
from zooforge.storage.interchange.copy_zoo import import_zoo
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data.registry import DATASETS

SHAPE = (1, 5, 5)


def bytes_of(number: int = 100, split: str = "test") -> bytes:
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (number, *SHAPE), np.uint8), rng.integers(0, 3, number).astype(np.uint8)
    values = np.linspace(-1, 2, 256, dtype=np.float32)[None]
    return bytes(encode_images(values, {split: (images, labels)}, {"dataset": "none"}))


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Its labels say that 100 images were tested."""
    store = LocalStore(tmp_path / "store")
    copy_zoo(module_zoo(), "tiny-zoo", store)
    return open_zoo(f"{store.url}/zoos/tiny-zoo")


def test_pixels_are_the_values_of_bytes() -> None:
    data = bytes_of()
    tensors, facts = decode(data)
    pixels, labels = decode_images(data, "test", SHAPE, "file")
    assert pixels.dtype == np.float32 and labels.dtype == np.int64 and facts["dataset"] == "none"
    expected = tensors["pixel_values"][0][tensors["test.images"]]
    assert np.array_equal(pixels, expected) and np.array_equal(labels, tensors["test.labels"])


def test_colours_have_values_of_their_own() -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    values = np.stack([np.arange(256) * scale for scale in (1, 10, 100)]).astype(np.float32)
    data = bytes(encode_images(values, {"val": (images, np.array([1, 0], np.uint8))}, {}))
    pixels, labels = decode_images(data, "val", (3, 2, 2), "file")
    assert np.array_equal(pixels, images * np.array([1, 10, 100], np.float32)[:, None, None]) and labels.tolist() == [
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test.labels": np.zeros(100, np.uint8)}, "not the images that were written there"),
        ({"pixel_values": np.zeros((1, 256), np.float32)}, "not the images that were written there"),
        ({"more": np.zeros(1, np.uint8)}, "not the images that were written there"),
    ],
)
def test_a_file_with_other_bytes_is_refused(change: dict[str, Any], message: str) -> None:
    tensors, facts = decode(bytes_of())
    with pytest.raises(FormatError, match=message):
        decode_images(bytes(encode({**tensors, **change}, facts)), "test", SHAPE, "file")
    with pytest.raises(FormatError, match="the tensors end at"):
        decode_images(bytes_of()[:-1], "test", SHAPE, "file")


def test_images_are_in_the_published_zoo_or_in_a_file(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(
        StorageUsageError, match=r"its images, of none, are not published with it.*`zoo data export tiny-zoo FILE`"
    ):
        zoo.images()
    with pytest.raises(StorageUsageError, match="images: cannot be read"):
        zoo.images("test", tmp_path / "images")
    (tmp_path / "images").write_bytes(bytes_of())
    pixels, labels = zoo.images("test", tmp_path / "images")
    assert pixels.shape == (100, *SHAPE) and labels.shape == (100,)
    version = vectorize(zoo.store, description(architecture="layers"), RUN, images=memoryview(bytes_of()))
    assert version.new and version.manifest.images in version.manifest.refs
    assert not vectorize(zoo.store, description(architecture="layers"), RUN).new  # later versions keep the images
    zoo = open_zoo(f"{zoo.store.url}/zoos/tiny-zoo")
    assert np.array_equal(zoo.images()[0], pixels)
    with pytest.raises(StorageUsageError, match="has the images of test, not those of val"):
        zoo.images("val")
    with pytest.raises(StorageUsageError, match="expected one of train, val, test"):
        zoo.images("tests")
    target = LocalStore(tmp_path / "other")
    import_zoo(zoo, target)
    assert np.array_equal(open_zoo(f"{target.url}/zoos/tiny-zoo").images()[0], pixels)


def test_images_of_another_shape_or_number_are_refused(zoo: Zoo, tmp_path: Path) -> None:
    file = tmp_path / "images"
    file.write_bytes(bytes_of(99))
    with pytest.raises(FormatError, match=r"has 99 images of test, the models were evaluated on 100"):
        zoo.images("test", file)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 1, 6, 6), np.uint8)
    values = np.zeros((1, 256), np.float32)
    file.write_bytes(bytes(encode_images(values, {"test": (images, np.zeros(100, np.uint8))}, {})))
    with pytest.raises(FormatError, match=r"the networks take \[1, 5, 5\]"):
        zoo.images("test", file)


def test_evaluation_counts_what_the_networks_answer(zoo: Zoo) -> None:
    """Models 0, 4 are tanh networks without and 1 is one with dropout; model 2 has relu."""
    pixels = np.random.default_rng(0).standard_normal((4, 1, 5, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, 0])
    table = zoo.evaluate([4, 2, 0, 1], 1, images=(pixels, labels))
    assert table["model"].to_pylist() == [4, 2, 0, 1] and table["count"].to_pylist() == [4] * 4
    for place, model in ((0, 4), (2, 0), (3, 1)):
        answers = logits([weights(model, 1)])[0]
        chances = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
        assert table["correct"][place].as_py() == int((answers.argmax(axis=1) == labels).sum())
        assert table["acc"][place].as_py() == table["correct"][place].as_py() / 4
        assert table["loss"][place].as_py() == pytest.approx(-np.log(chances[range(4), labels]).mean(), rel=1e-5)
    single = zoo.module(2, 1)
    import torch

    with torch.no_grad():
        assert table["correct"][1].as_py() == int((single(torch.from_numpy(pixels)).argmax(1).numpy() == labels).sum())


def test_states_that_are_not_finite_have_no_accuracy(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    copy_zoo(tiny_zoo(), "tiny-zoo", store)
    zoo = open_zoo(f"{store.url}/zoos/tiny-zoo")
    with pytest.raises(StorageUsageError, match="lists no layers of tiny"):
        zoo.evaluate([5], 1, images=(np.zeros((1, *SHAPE), np.float32), np.zeros(1, np.int64)))
    example = zooforge.example()
    pixels, labels = example.images()
    table = example.evaluate([0], images=(np.full_like(pixels, np.nan), labels))
    assert [table[name].to_pylist() for name in ("correct", "acc", "loss", "count")] == [[None], [None], [None], [270]]


def test_the_task_says_what_the_networks_were_trained_for() -> None:
    expected = {"name": "classification", "dataset": "digits8", "num_classes": 10, "image_shape": (1, 28, 28)}
    assert zooforge.example().task == zooforge.example(twins=True).task == expected


@pytest.mark.slower
def test_the_verb_writes_images_and_refuses_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    spec, file = str(Path(zooforge.__file__).parent / "storage/example/digits-example.yaml"), tmp_path / "images"
    assert main(["data", "export", spec, str(file), "--splits", "test,train"]) == 0
    assert "1,257 train, 270 test images of digits8" in capsys.readouterr().out
    kept = zooforge.example()
    for one, other in zip(kept.images("test", file), kept.images("test"), strict=True):
        assert np.array_equal(one, other)
    assert kept.images("train", file)[0].shape == (1257, 1, 28, 28)
    before = file.read_bytes()
    for arguments, message in (
        ([spec, str(file)], "exists already"),
        ([spec, str(tmp_path / "b"), "--splits", "test,tests"], "'tests' is none of train, val, test"),
        ([spec, str(tmp_path / "no/such/folder")], "cannot be written"),
        (["nosuch", str(tmp_path / "b")], "nosuch"),
    ):
        assert main(["data", "export", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert file.read_bytes() == before and not (tmp_path / "b").exists()


def test_images_are_published_if_their_licence_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    spec = tmp_path / "tiny.yaml"
    text = (Path(zooforge.__file__).parent / "storage/example/digits-example.yaml").read_text()
    spec.write_text(text.replace("name: digits-example", "name: tiny"))
    store = ["--store", str(tmp_path / "store")]
    grow = ["train", str(spec), "--models", "0:1", "--epochs", "1", "--ray", "none", "--no-metrics", "--quiet"]
    assert main([*grow, *store]) == 0
    assert main(["vectorize", str(spec), "--images", "val,tests", *store]) == 2
    assert "'tests' is none of train, val, test" in capsys.readouterr().err
    assert main(["vectorize", str(spec), *store]) == 0
    tiny = open_zoo(tmp_path / "store" / "zoos" / "tiny")
    assert tiny.manifest.data is not None
    with pytest.raises(StorageUsageError, match=rf"of digits8, from .*http.*, digest {tiny.manifest.data['digest']}"):
        tiny.images()
    assert main(["vectorize", str(spec), "--images", "test", *store]) == 0
    tiny = open_zoo(tmp_path / "store" / "zoos" / "tiny")
    assert tiny.manifest.data is not None
    counts = tiny.manifest.data["class_counts"]
    _, labels = tiny.images("test")
    assert np.bincount(labels).tolist() == counts["test"] and sum(counts["train"]) == 1257
    metrics = tiny.class_metrics(0, 1).to_pylist()[0]
    (label,) = tiny.labels(models=0, epochs=1).to_pylist()
    recalls = [right / true for right, true in zip(label["test_class_correct"], counts["test"], strict=True)]
    assert metrics["recall"] == recalls and metrics["macro_recall"] == pytest.approx(np.mean(recalls))
    assert metrics["largest_predicted_share"] == max(label["test_class_predicted"]) / len(labels)
    with pytest.raises(StorageUsageError, match="expected one of train, val, test"):
        tiny.class_metrics(split="tests")
    monkeypatch.setitem(DATASETS, "digits8", DATASETS["digits8"].model_copy(update={"redistribute": False}))
    assert main(["vectorize", str(spec), "--images", "test", *store]) == 2
    assert "may not be published with tiny" in capsys.readouterr().err
