"""`zoo store export-raw`: the reference's own data set class reads from the tree exactly what the zoo holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.raw_trees import SMALL, ReferenceDataset
from tests.support.synthetic import train
from zooforge.storage.errors import EpochNotPresent, StorageUsageError
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.torch_file import read_state_dict
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.open import open_store
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.publishing.describe import describe

NUM_MODELS = 24
SPEC = load("mnist-cnn-s-hyp-fixed")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Models with and without dropout; model 6 stops being finite at epoch 2."""
    folder = f"memory://{tmp_path_factory.mktemp('zoo')}"
    store = open_store(folder)
    description = describe(SPEC)
    train(store, range(NUM_MODELS), 3, run=SPEC.run_id, size=description.layout.size, faulty={6: 2})
    vectorize(store, description, SPEC.run_id)
    return open_zoo(f"{folder}/zoos/{SPEC.name}")


@pytest.fixture(scope="module")
def tree(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "raw"
    export_raw(zoo, folder)
    return folder


def models_of(tree: Path) -> dict[str, int]:
    folders = json.loads((tree / "zooforge.json").read_text())["folders"]
    return {name: folder["model"] for name, folder in folders.items()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_reference_loads_weights_properties_and_filters_of_all_splits(zoo: Zoo, tree: Path) -> None:
    layers = [tuple(item) for item in json.loads((tree / "index_dict.json").read_text())["layer"]]
    assert layers == SMALL
    folders = models_of(tree)
    labels = {(row["model"], row["epoch"]): row for row in zoo.labels().to_pylist()}
    epochs = [0, 1, 2, 3]
    seen = []
    for split in ("train", "val", "test"):
        dataset = ReferenceDataset(tree, layers, epochs, split)
        models = [folders[path.name] for path in dataset.paths]
        for row, (model, epoch) in enumerate(zip(models, dataset.epochs, strict=True)):
            label = labels[model, epoch]
            assert np.array_equal(dataset.weights[row], zoo.weights(models=model, epochs=epoch).values[0])
            theirs = {key: values[row] for key, values in dataset.properties.items()}
            assert theirs == {
                "test_acc": label["test_acc"],
                "training_iteration": epoch,
                "ggap": label["ggap"] if epoch else -999 - label["test_acc"],
                "model::nlin": label["activation"],
                "model::init_type": label["initializer"],
                "optim::optimizer": label["optimizer"],
                "model::dropout": label["dropout_ratio"],
                "optim::lr": label["learning_rate"],
                "optim::wd": label["weight_decay"],
                "seed": label["seed"],
            }
            seen.append((model, epoch))
        limited = ReferenceDataset(tree, layers, epochs, split, weight_threshold=4.0)
        inside = [np.abs(dataset.weights[row]).max() <= np.float32(4.0) for row in range(len(dataset.weights))]
        assert limited.weights.tobytes() == dataset.weights[inside].tobytes()
        even = ReferenceDataset(tree, layers, epochs, split, filter_function=lambda path: folders[path.name] % 2 == 1)
        assert even.weights.tobytes() == dataset.weights[[model % 2 == 0 for model in models]].tobytes()
    assert sorted(seen) == [(m, e) for m in range(NUM_MODELS) for e in epochs if (m, e) not in ((6, 2), (6, 3))]


def test_one_split_of_ours_is_a_tree_of_its_own(zoo: Zoo, tmp_path: Path) -> None:
    models = set()
    for split in ("train", "val", "test"):
        export_raw(zoo, tmp_path / split, split=split, epochs=3)
        folders = models_of(tmp_path / split)
        assert set(folders.values()) == set(zoo.weights(split=split, epochs=3).models.tolist())
        models |= set(folders.values())
    assert models == set(range(NUM_MODELS))


def test_equal_zoos_give_equal_bytes_whatever_is_read_at_once(zoo: Zoo, tree: Path, tmp_path: Path) -> None:
    export_raw(zoo, tmp_path / "again")
    assert files(tmp_path / "again") == files(tree)


@pytest.mark.parametrize("indices", ["plain", "module"])
def test_layer_numbers_are_alike_or_those_of_the_module_with_dropout(zoo: Zoo, tmp_path: Path, indices: Any) -> None:
    export_raw(zoo, tmp_path / "raw", models=[0, 1], epochs=1, indices=indices)
    for model, dropout in ((0, 0.0), (1, 0.5)):
        (folder,) = (tmp_path / "raw").glob(f"*_{model:05d}_*")
        assert json.loads((folder / "params.json").read_text())["model::dropout"] == dropout
        tensors = read_state_dict((folder / "checkpoint_000001" / "checkpoints").read_bytes(), "file")
        expected = zoo.state_dict(0 if indices == "plain" else model, 1)
        assert list(tensors) == list(expected)


def test_an_export_of_chosen_epochs_has_all_metrics(zoo: Zoo, tmp_path: Path) -> None:
    export_raw(zoo, tmp_path / "raw", models=[3], epochs="1:3")
    (folder,) = (path for path in (tmp_path / "raw").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["checkpoint_000001", "checkpoint_000002"]
    assert len((folder / "result.json").read_text().splitlines()) == 4


def test_optimizer_states_are_those_that_torch_loads(zoo: Zoo, tmp_path: Path) -> None:
    rows = {row["model"]: row for row in zoo.model_table().to_pylist()}
    model = next(index for index, row in rows.items() if row["optimizer"] == "adam")
    export_raw(zoo, tmp_path / "raw", models=[model], optimizer=True)
    (folder,) = (path for path in (tmp_path / "raw").iterdir() if path.is_dir())
    assert [path.parent.name for path in folder.rglob("optimizer")] == ["checkpoint_000003"]
    checkpoint = torch.load(folder / "checkpoint_000003" / "checkpoints")
    loaded = torch.load(folder / "checkpoint_000003" / "optimizer")
    (group,) = loaded["param_groups"]
    assert group["params"] == list(loaded["state"]) == list(range(len(checkpoint)))
    assert group["lr"] == rows[model]["learning_rate"]
    assert group["weight_decay"] == rows[model]["weight_decay"]
    for state, tensor in zip(loaded["state"].values(), checkpoint.values(), strict=True):
        assert state["exp_avg"].shape == tensor.shape
        assert state["step"].item() == 7 * 3
    moments = torch.cat([state["exp_avg"].reshape(-1) for state in loaded["state"].values()])
    expected = np.random.default_rng([model, 3 + 1000, 1]).standard_normal(zoo.layout.size, np.float32)
    assert moments.numpy().tobytes() == expected.tobytes()


def test_without_the_run_there_are_no_optimizer_states(zoo: Zoo, tmp_path: Path) -> None:
    from zooforge.storage.ops.pull import pull

    pull(zoo, open_store(f"memory://{tmp_path}/copy"))
    copy = open_zoo(f"memory://{tmp_path}/copy/zoos/{zoo.name}")
    with pytest.raises(StorageUsageError, match="no optimizer states"):
        export_raw(copy, tmp_path / "raw", optimizer=True)
    assert not (tmp_path / "raw").exists()


def test_bad_requests_leave_nothing_behind(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(StorageUsageError, match="not empty"):
        export_raw(zoo, tmp_path / "full")
    with pytest.raises(EpochNotPresent):
        export_raw(zoo, tmp_path / "raw", where="test_acc > 2")
    with pytest.raises(EpochNotPresent):
        export_raw(zoo, tmp_path / "raw", epochs=77)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]
