"""Standardisation is fitted on the train states of what was selected, and can be kept and passed on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.synthetic import LAYOUT, copy_zoo, tiny_zoo
from zooforge.storage.errors import FormatError, StorageUsageError
from zooforge.storage.formats.layout import Layout
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.views.standardize import Standardizer
from zooforge.storage.zoo import Zoo


@pytest.fixture
def zoo(local: ObjectStore) -> Zoo:
    copy_zoo(tiny_zoo(), "tiny-zoo", local)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "selected",
    [{"where": "test_acc < 0.1"}, {"models": "0:12"}, {"epochs": [3, 1]}, {"models": range(20), "where": "epoch > 1"}],
)
def test_it_is_fitted_on_the_train_states_that_were_selected(zoo: Zoo, selected: Any, stream: bool) -> None:
    states = zoo.weights(split="train", **selected).values
    states = states[np.isfinite(states).all(axis=1)].astype(np.float64)
    for split in (None, "test"):
        fitted: Any = zoo.dataset(split, **selected, standardize=True, stream=stream)
        for entry in LAYOUT.entries:
            own = states[:, entry.offset : entry.stop]
            np.testing.assert_allclose(fitted.standardizer.mean[entry.offset], own.mean(), rtol=1e-9)
            np.testing.assert_allclose(fitted.standardizer.deviation[entry.offset], own.std(), rtol=1e-9)
        assert fitted.standardizer == zoo.standardizer(**selected)


def test_a_selection_without_train_states_is_refused_unless_a_fitted_one_is_passed(zoo: Zoo, tmp_path: Path) -> None:
    chosen: Any = {"where": "split == 'test'"}
    with pytest.raises(StorageUsageError, match="no finite state of the train split"):
        zoo.dataset(**chosen, standardize=True)
    fitted = zoo.standardizer(epochs="0:2")
    fitted.save(tmp_path / "fitted.json")
    loaded = Standardizer.load(str(tmp_path / "fitted.json"))
    assert loaded == fitted and hash(loaded) == hash(fitted)
    dataset: Any = zoo.dataset(**chosen, standardize=loaded)
    np.testing.assert_array_equal(dataset[0][0], fitted.apply(dataset.values[0].numpy()))
    np.testing.assert_allclose(dataset.standardizer.invert(dataset[0][0].numpy()), dataset.values[0], atol=1e-6)


def test_a_standardisation_of_another_layout_and_a_damaged_file_are_refused(zoo: Zoo, tmp_path: Path) -> None:
    other = Standardizer(Layout.of([("a", (2,))]), (0.0,), (1.0,))
    with pytest.raises(StorageUsageError, match="another layout"):
        zoo.dataset(standardize=other)
    path = tmp_path / "fitted.json"
    with pytest.raises(StorageUsageError, match="cannot be read"):
        Standardizer.load(path)
    other.save(path)
    text = path.read_text()
    changes = {
        '"mean"': '"man"',
        "standardizer": "zoo",
        '"deviation": 1.0': '"deviation": 0.0',
        '"offset": 0': '"offset": 1',
    }
    for damaged in ("[]", text[:40], *(text.replace(old, new) for old, new in changes.items())):
        path.write_text(damaged)
        with pytest.raises(FormatError):
            Standardizer.load(path)


def test_epochs_that_come_from_an_iterator_are_selected_and_fitted_alike(zoo: Zoo) -> None:
    fitted: Any = zoo.dataset("val", iter([1, 2]), standardize=True)
    assert fitted.standardizer == zoo.standardizer(epochs=[1, 2])


@pytest.mark.parametrize("stream", [False, True])
def test_states_with_large_weights_are_neither_samples_nor_fitted(zoo: Zoo, stream: bool) -> None:
    whole = zoo.weights()
    largest = np.abs(whole.values).max(axis=1)
    limit = float(np.nanmedian(largest))
    options = {"stream": True, "shuffle": False} if stream else {}
    made: Any = zoo.dataset(weight_threshold=limit, standardize=True, **options)
    kept = whole[largest <= limit]
    assert len(made) == len(kept) < len(whole)
    train = kept[kept.labels(["split"])["split"].to_numpy(zero_copy_only=False) == "train"]
    wanted = Standardizer.fit([train.values], zoo.layout)
    assert made.standardizer.means == pytest.approx(wanted.means)
    assert made.standardizer.deviations == pytest.approx(wanted.deviations)
