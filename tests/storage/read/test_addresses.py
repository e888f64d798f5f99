"""Addresses of zoos and stores as people write them: paths, stores without a zoo's name, misspelt names."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import EpochNotKept, NotPublished, StorageError, StoreURLError
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two published zoos, and one of which only the spec exists."""
    folder = tmp_path / "store"
    store = LocalStore(folder)
    train(store, range(4), 2, kept=[0, 2])
    for name in ("tiny-zoo", "other-zoo"):
        vectorize(store, description(name), RUN)
    store.put("zoos/not-yet/spec.json", b"{}")
    return folder


def test_a_path_object_is_an_address(store: Path, tmp_path: Path) -> None:
    zoo = zooforge.open_zoo(store / "zoos" / "tiny-zoo", cache=tmp_path / "cache")
    assert zoo.name == "tiny-zoo" and zooforge.list_zoos(store) == ["other-zoo", "tiny-zoo"]
    with pytest.raises(StorageError, match="no store here"):
        zooforge.open_zoo(Path("/nowhere/zoos/a"))
    with pytest.raises(StoreURLError, match="pass it as text"):
        zooforge.open_zoo(Path("s3://bucket/zoos/a"))


def test_a_store_says_which_zoos_it_holds(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    for address in ("./store", store, f"file://{store}"):
        with pytest.raises(StoreURLError, match=r"a store, not a zoo; it holds other-zoo, tiny-zoo: .*/zoos/other-zoo"):
            zooforge.open_zoo(address)
    with pytest.raises(StoreURLError, match="expected STORE/zoos/NAME"):
        zooforge.open_zoo(store.parent / "empty")


def test_a_misspelt_name_is_answered_with_the_nearest_one(store: Path) -> None:
    with pytest.raises(NotPublished, match="did you mean tiny-zoo"):
        zooforge.open_zoo(f"{store}/zoos/tiny-zo")
    with pytest.raises(NotPublished, match="the store holds other-zoo, tiny-zoo"):
        zooforge.open_zoo(f"{store}/zoos/mnist")


def test_a_reader_that_cannot_train_is_not_told_to(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = zooforge.open_zoo(f"{store}/zoos/tiny-zoo")
    calls: list[Any] = [
        lambda: zooforge.open_zoo(f"{store}/zoos/mnist"),
        lambda: zoo.weights(epochs=1),
        lambda: zoo.weights(align="canonical"),
    ]
    for trains in (True, False):
        if not trains:
            monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        for call in calls:
            with pytest.raises(StorageError) as raised:
                call()
            assert ("`zoo " in str(raised.value)) == trains
    with pytest.raises(EpochNotKept, match=r"kept are 0, 2$"):
        zoo.weights(epochs=1)
    np.testing.assert_array_equal(zoo.weights(epochs=-1).epochs, [2] * 4)
