"""Labels of samples: one rule for nulls in Arrow, NumPy and torch, and few tensors in a batch."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

import zooforge
from tests.support.synthetic import copy_zoo, tiny_zoo
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.formats.tables import numpy_column
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo


@pytest.fixture
def zoo(local: ObjectStore) -> Zoo:
    """Model 5 is faulty from epoch 2 on: its metrics are null there."""
    copy_zoo(tiny_zoo(), "tiny-zoo", local)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


def samples(zoo: Zoo, **options: Any) -> list[list[dict[str, Any]]]:
    """Labels of all samples, of the dataset in memory and of the stream."""
    memory: Any = zoo.dataset(**options)
    stream: Any = zoo.dataset(stream=True, shuffle=False, **options)
    return [[memory[i][2] for i in range(len(memory))], [labels for _, _, labels in stream]]


def test_a_null_is_none_in_arrow_nan_or_masked_in_numpy_and_nan_or_absent_in_torch(zoo: Zoo) -> None:
    asked: dict[str, Any] = {"models": [5, 4], "epochs": "1:3"}
    table = zoo.labels(**asked)
    assert table["test_acc"].to_pylist() == [0.08, None, 0.07, 0.1]
    assert table["test_correct"].to_pylist() == [8, None, 7, 10]
    accuracy, correct, reason = (numpy_column(table[n]) for n in ("test_acc", "test_correct", "faulty_reason"))
    assert math.isnan(accuracy[1]) and accuracy[0] == 0.08
    assert isinstance(correct, np.ma.MaskedArray) and correct.mask.tolist() == [False, True, False, False]
    assert correct.tolist() == [8, None, 7, 10] and correct.dtype == np.int32
    assert reason.tolist() == [None, "nan", None, None]
    for given in samples(zoo, **asked, columns="all"):
        by_state = {(int(labels["model"]), int(labels["epoch"])): labels for labels in given}
        assert math.isnan(by_state[5, 2]["test_acc"]) and by_state[4, 2]["test_acc"] == 0.1
        assert all(not {"test_correct", "faulty_reason", "faulty_epoch"} & set(labels) for labels in given)
        default_collate(given)


def test_a_column_that_torch_cannot_hold_is_refused_by_name(zoo: Zoo) -> None:
    for stream in (False, True):
        with pytest.raises(StorageUsageError, match=r"'test_correct' is null for 1 of 2 .* is not None"):
            zoo.dataset(models=5, epochs="1:3", columns=["test_correct"], stream=stream)
    dataset: Any = zoo.dataset(models=5, epochs="1:3")
    with pytest.raises(StorageUsageError, match="'faulty_reason' is null for 1 of 2"):
        dataset.labels("faulty_reason")
    chosen: Any = zoo.dataset(models=5, epochs="1:3", columns="test_correct", where="test_correct is not None")
    assert chosen[0][2] == {"test_correct": 8}


def test_text_is_text_and_numbers_are_tensors(zoo: Zoo) -> None:
    dataset: Any = zoo.dataset(models=[3, 0], epochs=[1], columns=["optimizer", "dropout_ratio", "nesterov"])
    assert dataset.labels("optimizer") == ["adam", "adam"]
    assert dataset.labels("seed").dtype == torch.int64 and dataset.labels("seed").tolist() == [1, 1]
    assert dataset.labels("test_acc").dtype == torch.float64
    for given in samples(zoo, models=[3, 0], epochs=[1], columns=["optimizer", "nesterov"]):
        assert all(type(labels["optimizer"]) is str and not labels["nesterov"] for labels in given)
    with pytest.raises(StorageUsageError, match="no label column 'optimiser'; did you mean optimizer"):
        dataset.labels("optimiser")


def test_a_batch_has_few_tensors_unless_more_columns_are_asked_for(zoo: Zoo) -> None:
    for stream in (False, True):
        batch = next(iter(DataLoader(zoo.dataset(stream=stream), batch_size=4)))
        assert sorted(batch[2]) == ["epoch", "ggap", "model", "split", "test_acc"]
        assert sum(torch.is_tensor(value) for value in batch[2].values()) == 4
