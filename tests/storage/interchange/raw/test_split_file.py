"""Splits from the reference's preprocessed data sets are read without its class and without running any code."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.raw_trees import opened, write_model
from zooforge.storage.errors import FormatError, StorageUsageError
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.raw.import_tree import import_raw
from zooforge.storage.interchange.raw.split_file import read_splits
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ObjectStore

SETS = {"trainset": [0, 3, 4], "valset": [1], "testset": [2]}


@pytest.fixture
def store(memory: ObjectStore) -> ObjectStore:
    return memory


@pytest.fixture
def data_set_class() -> Iterator[Any]:
    """A class under the name that the reference's has, so that torch pickles instances as its programs do."""
    package = types.ModuleType("checkpoints_to_datasets")
    module = types.ModuleType("checkpoints_to_datasets.dataset_base")
    fake = type("ModelDatasetBase", (torch.utils.data.Dataset,), {"__module__": module.__name__})
    module.ModelDatasetBase = fake
    sys.modules |= {package.__name__: package, module.__name__: module}
    yield fake
    for name in (package.__name__, module.__name__):
        del sys.modules[name]


def save(path: Path, kind: Any, sets: dict[str, list[Path]], legacy: bool = False) -> Path:
    value = {}
    for name, paths in sets.items():
        one = value[name] = kind()
        one.paths = paths
        one.epochs = [1] * len(paths)
        one.data_in = [{"module_list.0.weight": torch.ones(2, 3)} for _ in paths]
        one.properties = {"test_acc": [0.5] * len(paths)}
        one.root = [paths[0].parent] if paths else []
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_models_get_the_splits_that_were_recorded(
    tree: Path, store: ObjectStore, tmp_path: Path, data_set_class: Any, legacy: bool
) -> None:
    folders = [write_model(tree, index) for index in range(6)]
    sets = {name: [Path("/net/elsewhere") / folders[m].name for m in models] for name, models in SETS.items()}
    recorded = read_splits(save(tmp_path / "set.pt", data_set_class, sets, legacy))
    imported = import_raw(tree, store, "mnist", splits=recorded)
    zoo = opened(store, imported)  # verified there
    expected = {m: name.removesuffix("set") for name, models in SETS.items() for m in models}
    splits = {row["model"]: row["split"] for row in zoo.model_table().to_pylist()}
    assert {m: splits[m] for m in expected} == expected
    assert imported.findings.lines() == ["models 5: no split of it was recorded: it gets one by hash"]
    assert zoo.weights(split="test").models.tolist() == [2] * 4 + ([5] * 4 if splits[5] == "test" else [])
    export_raw(zoo, tmp_path / "again")
    again = import_raw(tmp_path / "again", MemoryStore()).version.manifest
    assert again.to_json() == zoo.manifest.to_json() and again.split.kind == "recorded"
    assert verify_zoo(zoo).ok


def test_any_other_kind_of_file_is_refused(tree: Path, store: ObjectStore, tmp_path: Path, data_set_class: Any) -> None:
    write_model(tree, 0)
    path = tmp_path / "set.pt"
    other = save(path, data_set_class, {"trainset": [Path("/net/another_zoo/model")]})
    with pytest.raises(StorageUsageError, match=r"are of other models, e\.g\. 'model'"):
        import_raw(tree, store, "mnist", splits=read_splits(other))
    save(path, data_set_class, {"trainset": [Path("/a/x")], "testset": [Path("/b/x")]})
    with pytest.raises(FormatError, match="model x is in train and in test"):
        read_splits(path)
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(FormatError, match="no trainset"):
        read_splits(path)
    torch.save({"trainset": {"paths": None}}, path)
    with pytest.raises(FormatError, match="no list of paths"):
        read_splits(path)
    torch.save({"trainset": types.SimpleNamespace(paths=[])}, path)
    with pytest.raises(FormatError, match="SimpleNamespace, which is not on the allow-list"):
        read_splits(path)
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(FormatError, match="not readable"):
        read_splits(path)
