"""Reading a published zoo: by epochs, splits, layers, models and predicates; from any store, every byte checked."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.synthetic import LAYOUT, NOISY, RUN, copy_zoo, description, mask, noise, row, train, weights
from tests.support.web_server import serve_folder
from zooforge.storage.errors import (
    EpochNotKept,
    EpochNotPresent,
    ModelNotPresent,
    NewerFormat,
    NotPublished,
    PredicateError,
    StorageUsageError,
    StoreURLError,
)
from zooforge.storage.formats.manifest import Parent
from zooforge.storage.formats.splits import assign_splits
from zooforge.storage.keys import head_key, manifest_key
from zooforge.storage.publish.head import move_head, read_head, split_zoo_url
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo

KEPT = [0, 1, 2, 4, 6]


@pytest.fixture(scope="module")
def published() -> MemoryStore:
    store = MemoryStore()
    train(store, range(24), 6, kept=KEPT, faulty={5: 2})
    vectorize(store, description(), RUN)
    return store


@pytest.fixture
def zoo(local: ObjectStore, published: MemoryStore) -> Zoo:
    copy_zoo(published, "tiny-zoo", local)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


@pytest.fixture
def twin(local: ObjectStore) -> Zoo:
    train(local, range(8), 2, twin=True)
    vectorize(local, description("tiny-zoo-vd", parent=Parent("tiny-zoo", "ab" * 16, 6)), RUN)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo-vd")


def test_weights_are_model_major_and_exact(zoo: Zoo) -> None:
    states = zoo.weights(epochs="1:5", models=[0, 3])
    assert states.models.tolist() == [0, 0, 0, 3, 3, 3] and states.epochs.tolist() == [1, 2, 4] * 2
    for values, model, epoch in zip(states.values, states.models, states.epochs, strict=True):
        np.testing.assert_array_equal(values, weights(int(model), int(epoch)))
    np.testing.assert_array_equal(states.trajectories()[1, 2], weights(3, 4))


@pytest.mark.parametrize("epochs", [4, "4", [4], range(4, 5), slice(4, 5), "4:5", np.array([4])])
def test_epochs_can_be_written_in_many_ways(zoo: Zoo, epochs: Any) -> None:
    assert zoo.weights(epochs=epochs).epochs.tolist() == [4] * 24


def test_layers_are_a_part_of_the_layout(zoo: Zoo) -> None:
    states = zoo.weights(epochs=1, models=2, layers=["linear1.bias", "conv1"])
    expected = LAYOUT.unflatten(weights(2, 1))
    assert [e.name for e in states.layout.entries] == ["conv1.weight", "conv1.bias", "linear1.bias"]
    named = states.layout.unflatten(states.values[0])
    for name, value in named.items():
        np.testing.assert_array_equal(value, expected[name])


def test_splits_divide_the_models(zoo: Zoo) -> None:
    expected = assign_splits(zoo.manifest.split, "tiny-zoo", range(24), {}, 64)
    for split in ("train", "val", "test"):
        models = [m for m, s in enumerate(expected) if s == split]
        assert sorted(set(zoo.weights(epochs=0, split=split).models.tolist())) == models
    assert zoo.manifest.split_counts == {s: expected.count(s) for s in ("train", "val", "test")}


def test_a_predicate_selects_states_by_their_labels(zoo: Zoo) -> None:
    states = zoo.weights(where="test_acc >= 0.1 and activation == 'tanh' and not epoch in [6]")
    expected = [
        (m, e)
        for m in range(24)
        for e in KEPT
        if e != 6 and row(m)["activation"] == "tanh" and (m + 3 * e) / 100 >= 0.1 and not (m == 5 and e >= 2)
    ]
    assert list(zip(states.models.tolist(), states.epochs.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("faulty_epoch is None", 23 * 7 + 2),
        ("faulty_epoch is not None", 5),
        ("0.05 < test_acc <= 0.06", 3),
        ("model in [1, 2] or model == 3", 21),
        ("test_correct / test_count == test_acc", 23 * 7 + 2),
        ("not nesterov", 168),
        ("momentum == -0.0 and seed in (1,)", 28),
        ("True", 168),
    ],
)
def test_predicates_mean_what_they_say(zoo: Zoo, where: str, count: int) -> None:
    assert zoo.labels(where=where).num_rows == count


@pytest.mark.parametrize(
    "where",
    ["tst_acc > 1", "__import__('os').system('true')", "test_acc", "test_acc > 'x'", "(lambda: 1)()", "model.x == 1",
     "epoch ==", "model in epoch", "f'{model}' == '1'", "1 if model else 2", "x" * 3000, "model[0] == 1"],
)  # fmt: skip
def test_refuses_other_predicates_in_one_line(zoo: Zoo, where: str) -> None:
    with pytest.raises(PredicateError) as raised:
        zoo.weights(where=where)
    assert str(raised.value).startswith("where: ") and "\n" not in str(raised.value)


def test_each_reason_for_a_missing_state_has_its_own_exception(zoo: Zoo) -> None:
    with pytest.raises(EpochNotKept, match=r"epoch 3 was trained.*zoo train tiny-zoo --refill 3.*price"):
        zoo.weights(epochs=[0, 3])
    with pytest.raises(EpochNotPresent, match="no epoch 7; it has 24 of 64 models, 6 of 8 epochs"):
        zoo.weights(epochs=7)
    with pytest.raises(ModelNotPresent, match="no model 24"):
        zoo.state_dict(24, 0)
    with pytest.raises(StorageUsageError, match="no layer 'conv9'; there are conv1"):
        zoo.weights(layers=["conv9"])
    for bad in ("5:2", "a", "-9", "", "1:2:0", [1.5, "x"], True):
        with pytest.raises(StorageUsageError):
            zoo.weights(epochs=bad)


def test_labels_cover_epochs_that_were_not_kept(zoo: Zoo) -> None:
    table = zoo.labels(models=5, columns=["epoch", "test_acc", "faulty_epoch", "faulty_reason"])
    assert table["epoch"].to_pylist() == list(range(7))
    assert table["test_acc"].to_pylist() == [0.05, 0.08, None, None, None, None, None]
    assert table["faulty_epoch"].to_pylist() == [None, None, 2, 2, 2, 2, 2]
    assert table["faulty_reason"].to_pylist()[2] == "nan"


def test_ggap_is_running_train_minus_test(zoo: Zoo) -> None:
    first = zoo.labels(models=1, columns=["ggap", "running_train_acc", "test_acc"]).to_pylist()[1]
    assert first["ggap"] == first["running_train_acc"] - first["test_acc"]


def test_a_state_dict_has_the_names_of_the_models_own_module(zoo: Zoo) -> None:
    plain, dropout = zoo.state_dict(0, 1), zoo.state_dict(1, 1)
    assert list(plain) == ["module_list.0.weight", "module_list.0.bias", "module_list.3.weight", "module_list.3.bias"]
    assert "module_list.4.weight" in dropout and "module_list.3.weight" not in dropout
    np.testing.assert_array_equal(plain["module_list.3.weight"], LAYOUT.unflatten(weights(0, 1))["linear1.weight"])


def test_a_state_dict_of_torch_owns_its_memory(zoo: Zoo) -> None:
    tensors = zoo.state_dict(0, 1, torch=True)
    tensors["module_list.0.bias"].zero_()
    np.testing.assert_array_equal(zoo.state_dict(0, 1)["module_list.0.bias"], weights(0, 1)[8:10])


def test_a_dataset_gives_states_and_the_following_states(zoo: Zoo) -> None:
    dataset: Any = zoo.dataset("train", "0:5", task="sequence")
    given, target, labels = dataset[1]
    np.testing.assert_array_equal(given, weights(labels["model"], 1))
    np.testing.assert_array_equal(target, weights(labels["model"], 2))
    assert labels["epoch"] == 1 and labels["split"] == "train"
    assert len(dataset) == 3 * len(set(dataset.models.tolist()))
    with pytest.raises(EpochNotPresent, match="two epochs"):
        zoo.dataset("train", 1, task="sequence")


def test_a_dataset_of_state_dicts_loads_into_modules(zoo: Zoo) -> None:
    dataset: Any = zoo.dataset("test", 6, layout="state_dict")
    given, target, labels = dataset[0]
    assert given is target
    np.testing.assert_array_equal(given["module_list.0.bias"], weights(labels["model"], 6)[8:10])
    with pytest.raises(StorageUsageError, match="layout"):
        zoo.dataset(layout="picture")


def test_twins_are_masked_unless_told_otherwise(twin: Zoo) -> None:
    raw = twin.weights(epochs=2, models=3, masked=False).values[0]
    np.testing.assert_array_equal(raw, weights(3, 2))
    masked = LAYOUT.unflatten(twin.weights(epochs=2, models=3).values[0])
    named = NOISY.unflatten(mask(3, 2))
    for name, value in LAYOUT.unflatten(weights(3, 2)).items():
        np.testing.assert_array_equal(masked[name], value * named[name] if name in named else value)
    np.testing.assert_array_equal(twin.state_dict(3, 2)["module_list.4.bias"], weights(3, 2)[-3:])


def test_twins_have_their_noise_and_masks(twin: Zoo) -> None:
    values, models, epochs = twin.field("log_sigma2", epochs=[0, 2], models=[1, 2])
    assert models.tolist() == [1, 1, 2, 2] and epochs.tolist() == [0, 2, 0, 2]
    np.testing.assert_array_equal(values[3], noise(2, 2))
    bits, _, _ = twin.field("mask", epochs=1, models=4)
    np.testing.assert_array_equal(bits[0], mask(4, 1))
    one = twin.labels(models=2, epochs=1).to_pylist()[0]
    assert one["sparsity_ratio"] == one["num_pruned"] / one["num_prunable"]
    assert (one["parent_zoo"], one["parent_model"], one["parent_epoch"]) == ("tiny-zoo", 2, 6)
    with pytest.raises(StorageUsageError, match="no field 'moments'; it has log_sigma2, mask"):
        twin.field("moments")


@pytest.mark.parametrize("kind", ["s3_store_url", "tls_store_url"])
def test_reads_the_same_from_s3(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue(kind)
    store = open_store(url)
    train(store, range(8), 3)
    vectorize(store, description(), RUN)
    zoo = zooforge.open_zoo(f"{url}/zoos/tiny-zoo", cache=str(tmp_path / "cache"))
    for _ in range(2):
        states = zoo.weights(epochs="1:3")
        expected = np.stack([weights(m, e) for m in range(8) for e in (1, 2)])
        np.testing.assert_array_equal(states.values, expected)
    before = zoo.store.traffic.read_bytes
    zoo.weights(epochs="1:3")
    assert zoo.store.traffic.read_bytes == before  # from the cache


def test_one_slice_of_epochs_is_one_request(s3_store_url: str) -> None:
    store = open_store(s3_store_url)
    train(store, range(8), 6)
    vectorize(store, description(), RUN)
    zoo = zooforge.open_zoo(f"{s3_store_url}/zoos/tiny-zoo")
    before = zoo.store.traffic.num_requests
    zoo.weights(epochs="2:6")
    assert zoo.store.traffic.num_requests == before + 1


@pytest.fixture
def web(zoo: Zoo, tmp_path: Path) -> Iterator[str]:
    with serve_folder(tmp_path / "store") as address:
        yield address


def test_reads_from_a_plain_web_server(web: str) -> None:
    zoo = zooforge.open_zoo(f"{web}/zoos/tiny-zoo")
    np.testing.assert_array_equal(zoo.weights(epochs=6, models=7).values[0], weights(7, 6))
    with pytest.raises(NotPublished, match="no version 9"):
        zooforge.open_zoo(f"{web}/zoos/tiny-zoo", 9)


def test_versions_stay_readable_by_number(local: ObjectStore) -> None:
    train(local, range(4), 1)
    vectorize(local, description(), RUN)
    train(local, range(4), 2)
    vectorize(local, description(), RUN)
    url = f"{local.url}/zoos/tiny-zoo"
    assert zooforge.open_zoo(url).version == 2
    assert zooforge.open_zoo(url, 1).epochs == [0, 1]
    assert zooforge.open_zoo(f"{url}/versions/0001").epochs == [0, 1]
    with pytest.raises(NotPublished, match="no version 3"):
        zooforge.open_zoo(url, 3)
    with pytest.raises(NotPublished, match="`zoo vectorize other` makes one"):
        zooforge.open_zoo(f"{local.url}/zoos/other")


def test_a_newer_format_is_refused_in_words(local: ObjectStore) -> None:
    train(local, range(4), 1)
    vectorize(local, description(), RUN)
    key = manifest_key("tiny-zoo", 1)
    newer = local.get(key)[0].replace(b'"twin":false,"version":3', b'"twin":false,"version":4')
    local.put(key, newer)
    assert move_head(local, "tiny-zoo", 1, newer, read_head(local, "tiny-zoo"))
    with pytest.raises(NewerFormat, match="install a later zooforge") as raised:
        zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")
    assert raised.value.exit_status == 2
    assert local.stat(head_key("tiny-zoo")) is not None


@pytest.mark.parametrize("url", ["/store", "s3://bucket/prefix", "/zoos/", "s3://b/zoos/a/b", "x/zoos/a/versions/z"])
def test_refuses_addresses_that_name_no_zoo(url: str) -> None:
    with pytest.raises(StoreURLError, match="expected STORE/zoos/NAME"):
        split_zoo_url(url)


def test_reading_imports_neither_torch_nor_boto3_nor_ray(zoo: Zoo) -> None:
    code = (
        "import sys, zooforge\n"
        "assert not {'numpy', 'pyarrow', 'torch', 'boto3', 'ray'} & set(sys.modules)\n"
        f"zoo = zooforge.open_zoo({zoo.store.url + '/zoos/tiny-zoo'!r})\n"
        "zoo.weights(split='train', epochs='0:2'); zoo.labels(); zoo.state_dict(0, 1)\n"
        "print(sorted({'torch', 'boto3', 'botocore', 'ray', 'obstore'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_duckdb_and_pandas_read_the_labels_directly(zoo: Zoo, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    path = tmp_path / "store/zoos/tiny-zoo/versions/0001/labels.parquet"
    connection = duckdb.connect()
    rows = connection.sql(f"select count(*), max(test_acc) from '{path}' where split = 'train'").fetchall()
    connection.close()
    table = zoo.labels(split="train")
    assert rows == [(table.num_rows, max(a for a in table["test_acc"].to_pylist() if a is not None))]
