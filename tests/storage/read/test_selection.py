"""Selectors of epochs and models: nothing is rounded, dropped or put in another order without an error."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import zooforge
from tests.support.synthetic import RUN, description, train, weights
from zooforge.storage.errors import EpochNotPresent, FormatError, StorageUsageError
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.read.selection import select
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo


@pytest.fixture
def zoo(local: ObjectStore) -> Zoo:
    """Models 0 to 5 to epoch 3, models 6 and 7 to epoch 2."""
    train(local, range(6), 3)
    train(local, range(6, 8), 2, unit=6)
    vectorize(local, description(), RUN)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


def test_slices_take_available_numbers_and_listed_numbers_are_taken_literally() -> None:
    assert select("1:5,9", [0, 2, 4, 6], "epochs") == [2, 4, 9]
    assert select("0:7:4", range(10), "epochs") == [0, 4]
    assert select(slice(np.int64(1), None, 2), range(6), "models") == [1, 3, 5]
    assert select(None, [1], "epochs") is None
    with pytest.raises(StorageUsageError, match=r"write e\.g\. 0,21:26,last"):
        select("1-5", [1], "epochs")


@pytest.mark.parametrize("kind", [list, tuple, np.array, pa.array, iter])
def test_the_callers_order_and_duplicates_are_kept(kind: Any) -> None:
    assert select(kind([5, 0, 5, 2]), range(9), "models") == [5, 0, 5, 2]


@pytest.mark.parametrize("number", [3, np.int64(3), np.int32(3), np.uint8(3), np.array(3), [np.int64(3)], "3"])
def test_every_integer_type_is_accepted(number: Any) -> None:
    assert select(number, range(9), "models") == [3]


def test_a_mask_of_the_right_length_selects_and_another_is_refused() -> None:
    available = [0, 2, 4, 6]
    for mask in ([False, True, True, False], np.array([0, 1, 1, 0], bool), pa.array([False, True, True, False])):
        assert select(mask, available, "models") == [2, 4]
    assert select([False] * 4, available, "epochs") == []
    for wrong in ([True, False, True], np.ones(9, bool), [True, None, True, True], [True, 1, 0, False]):
        with pytest.raises(StorageUsageError, match="a mask"):
            select(wrong, available, "models")


@pytest.mark.parametrize("bad", [1.7, [1.7], [1.0], np.array([1.0]), np.float64(3), True, [None], ["a"], ["3"], print])
def test_a_selector_that_is_not_an_integer_is_refused(bad: Any) -> None:
    with pytest.raises(StorageUsageError):
        select(bad, range(9), "models")


def test_epochs_count_from_the_end_and_models_do_not() -> None:
    kept = [0, 1, 2, 10, 20]
    assert select(-1, kept, "epochs") == select("last", kept, "epochs") == select([-1], kept, "epochs") == [20]
    assert select("-2,0,last", kept, "epochs") == [10, 0, 20]
    assert select("-2:", kept, "epochs") == select(slice(-2, None), kept, "epochs") == [10, 20]
    assert select(":-1", kept, "epochs") == [0, 1, 2, 10] and select("-99:", kept, "epochs") == kept
    with pytest.raises(EpochNotPresent, match="only 5 epochs"):
        select(-6, kept, "epochs")
    for models in (-1, [-1], "-3:", slice(-3, None), "last"):
        with pytest.raises(StorageUsageError, match="only epochs count from the end"):
            select(models, range(9), "models")


def pairs_of(models: Any, epochs: Any) -> list[tuple[int, int]]:
    return list(zip(np.asarray(models).tolist(), np.asarray(epochs).tolist(), strict=True))


def test_weights_labels_and_datasets_have_one_order(zoo: Zoo) -> None:
    asked: dict[str, Any] = {"models": [5, 0, 5], "epochs": [3, 1]}
    expected = [(5, 3), (5, 1), (0, 3), (0, 1), (5, 3), (5, 1)]
    states, table = zoo.weights(**asked), zoo.labels(**asked)
    dataset: Any = zoo.dataset(**asked)
    assert pairs_of(states.models, states.epochs) == expected
    assert pairs_of(table["model"], table["epoch"]) == expected
    assert pairs_of(dataset.models, dataset.epochs) == expected
    assert pairs_of(*(dataset.labels(name) for name in ("model", "epoch"))) == expected
    for row, (model, epoch) in enumerate(expected):
        np.testing.assert_array_equal(states.values[row], weights(model, epoch))
        np.testing.assert_array_equal(dataset[row][0], weights(model, epoch))
    np.testing.assert_array_equal(states.trajectories()[2, 1], weights(5, 1))
    stream: Any = zoo.dataset(**asked, stream=True)
    assert sorted((int(labels["model"]), int(labels["epoch"])) for _, _, labels in stream) == sorted(expected)


def test_a_filter_keeps_the_order(zoo: Zoo) -> None:
    asked: dict[str, Any] = {"models": [4, 2, 1], "epochs": [2, 0], "where": "test_acc > 0.015"}
    expected = [(4, 2), (4, 0), (2, 2), (2, 0), (1, 2)]
    assert pairs_of(zoo.weights(**asked).models, zoo.weights(**asked).epochs) == expected
    assert zoo.labels(**asked)["model"].to_pylist() == [m for m, _ in expected]


def test_a_mask_over_the_models_takes_those_models(zoo: Zoo) -> None:
    accuracies = zoo.labels(epochs=2)["test_acc"].to_numpy()
    good = [m for m in range(8) if (m + 6) % 100 / 100 > 0.09]
    assert np.unique(zoo.weights(models=accuracies > 0.09).models).tolist() == good == [4, 5, 6, 7]
    with pytest.raises(StorageUsageError, match="a mask of 30 values, but there are 8 models"):
        zoo.weights(models=zoo.labels()["test_acc"].to_numpy() > 0.05)


def test_every_pair_of_listed_models_and_epochs_must_exist(zoo: Zoo) -> None:
    for read in (zoo.weights, zoo.labels):
        with pytest.raises(EpochNotPresent, match="model 6 has no epoch 3"):
            read(models=[1, 6], epochs=[2, 3])
        assert len(read(models=[1, 6], epochs="2:4")) == 3
        assert len(read(epochs=3)) == 6


def test_one_state_takes_the_same_numbers(zoo: Zoo) -> None:
    last = zoo.state_dict(np.int64(2), -1)["module_list.0.bias"]
    np.testing.assert_array_equal(last, weights(2, 3)[8:10])
    np.testing.assert_array_equal(zoo.state_dict(2, "last")["module_list.0.bias"], last)
    for model, epoch in ((1.0, 0), (True, 0), (1, 0.5), ([1, 2], 0), (1, [0, 1])):
        with pytest.raises(StorageUsageError):
            zoo.state_dict(model, epoch)  # type: ignore[call-overload]


def test_the_target_of_a_sequence_is_the_next_later_epoch_whatever_the_order(zoo: Zoo) -> None:
    dataset: Any = zoo.dataset(models=[3, 1, 3], epochs=[2, 0], task="sequence")
    assert pairs_of(*(dataset.labels(name) for name in ("model", "epoch"))) == [(3, 0), (1, 0), (3, 0)]
    for place, model in enumerate((3, 1, 3)):
        np.testing.assert_array_equal(dataset[place][1], weights(model, 2))
    assert len(list(zoo.dataset(models=[3, 1, 3], epochs=[2, 0], task="sequence", stream=True))) == 3


def test_a_label_table_in_another_order_is_refused(zoo: Zoo) -> None:
    table = zoo.labels()
    del zoo._tables.__dict__["_extents"]
    zoo._tables.__dict__["labels"] = table.take(np.arange(table.num_rows)[::-1])
    with pytest.raises(FormatError, match="one row per model and epoch"):
        zoo.labels(epochs=1)


def test_a_label_table_of_another_length_is_refused_before_it_is_read(zoo: Zoo) -> None:
    manifest = zoo.manifest
    shorter = replace(manifest, labels=replace(manifest.labels, rows=manifest.labels.rows - 1))
    with pytest.raises(FormatError, match="30 rows, the manifest says 29"):
        Zoo(zoo.store, shorter, 1, None, None).labels()
