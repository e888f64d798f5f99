"""A published zoo can be read: states, their accuracy, labels, splits, and the number of published models."""

from pathlib import Path

import numpy as np
import pytest
import torch

import zooforge
from tests.support.acceptance_specs import NUM_EPOCHS, NUM_MODELS, NUM_TWIN_EPOCHS, write
from tests.support.command import Command, done, refused
from zooforge.storage.errors import EpochNotKept, EpochNotPresent
from zooforge.storage.zoo import Zoo
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.data.prepare import load
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.models.registry import architecture
from zooforge.zoo_jobs.models.torch_module import torch_module
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.twins import twins_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def data(zoo: Command, spec: Path) -> PreparedData:
    return load(load_file(spec), Path(zoo.environment["ZOO_CACHE"]))


@pytest.fixture(scope="module")
def grown(quiet: Path) -> Zoo:
    return zooforge.open_zoo(f"{quiet}/zoos/small")


@pytest.fixture(scope="module")
def twins(quiet: Path) -> Zoo:
    return zooforge.open_zoo(f"{quiet}/zoos/small-vd")


def num_correct(opened: Zoo, spec: Path, data: PreparedData, model: int, epoch: int) -> int:
    """The number of test images that the published state classifies correctly, computed with plain PyTorch."""
    parent = load_file(spec)
    row = rows(parent if opened.name == parent.name else twins_of(parent))[model]
    network = architecture(parent.architecture, 1, row.activation, row.dropout_ratio > 0, num_classes=10, image_size=28)
    module = torch_module(network, row.dropout_ratio)
    module.load_state_dict(opened.state_dict(model, epoch, torch=True), strict=True)
    module.eval()
    mean, std = parent.preprocessing.mean[0], parent.preprocessing.std[0]
    images = (torch.from_numpy(data.test.images).float() / 255 - mean) / std
    with torch.no_grad():
        return int((module(images).argmax(dim=1) == torch.from_numpy(data.test.labels.astype(np.int64))).sum())


@pytest.mark.parametrize("of_twins", [False, True], ids=["zoo", "twins"])
def test_a_published_state_loads_strictly_and_has_the_accuracy_of_its_label(
    grown: Zoo, twins: Zoo, spec: Path, data: PreparedData, of_twins: bool
) -> None:
    opened = twins if of_twins else grown
    labels = opened.labels(columns=["model", "epoch", "test_correct", "test_count", "test_acc", "dropout_ratio"])
    off_by = []
    for label in labels.to_pylist():
        if label["model"] % 3 == 0 and label["epoch"] in (0, NUM_TWIN_EPOCHS):
            correct = num_correct(opened, spec, data, label["model"], label["epoch"])
            off_by.append(abs(correct - label["test_correct"]))
            assert label["test_acc"] == label["test_correct"] / label["test_count"]
    assert len(off_by) >= 20
    assert max(off_by) <= 1 and sum(off_by) <= 1, "one image may lie on the border between two classes"
    with_dropout = {label["dropout_ratio"] > 0 for label in labels.to_pylist()}
    assert with_dropout == ({False} if of_twins else {False, True})


def test_states_of_twins_are_masked_by_their_published_masks(twins: Zoo) -> None:
    masks, models, epochs = twins.field("mask", epochs=NUM_TWIN_EPOCHS)
    table = twins.labels(epochs=NUM_TWIN_EPOCHS, columns=["model", "num_pruned", "num_prunable"])
    pruned = dict(zip(table["model"].to_pylist(), table["num_pruned"].to_pylist(), strict=True))
    for mask, model, epoch in zip(masks, models, epochs, strict=True):
        assert int((~mask).sum()) >= pruned[model] - mask.size // 10  # biases count in one and not in the other
        masked = twins.weights(models=[int(model)], epochs=int(epoch)).values
        unmasked = twins.weights(models=[int(model)], epochs=int(epoch), masked=False).values
        assert int((masked != unmasked).sum()) == int((~mask).sum())
        assert not masked[masked != unmasked].any()


def test_labels_are_joined_with_rows_and_splits(grown: Zoo, spec: Path) -> None:
    table = grown.labels()
    assert table.num_rows == NUM_MODELS * (NUM_EPOCHS + 1)
    expected = rows(load_file(spec))
    for label in table.to_pylist():
        row = expected[label["model"]]
        for name in (
            "activation",
            "dropout_ratio",
            "initializer",
            "optimizer",
            "learning_rate",
            "weight_decay",
            "seed",
        ):
            assert label[name] == getattr(row, name)
        assert label["row_digest"] == row.digest
        assert (label["running_train_loss"] is None) == (label["epoch"] == 0)
        assert (label["train_correct"] is not None) == (label["epoch"] in (0, NUM_EPOCHS))


def test_splits_partition_the_models_and_twins_follow_their_parents(grown: Zoo, twins: Zoo) -> None:
    parts = {split: set(grown.weights(epochs=0, split=split).models.tolist()) for split in ("train", "val", "test")}
    assert all(parts.values())
    assert sum(map(len, parts.values())) == NUM_MODELS == len(set().union(*parts.values()))
    for split, models in parts.items():
        assert set(twins.weights(epochs=0, split=split).models.tolist()) == models


def test_twins_begin_with_the_weights_of_their_parents(grown: Zoo, twins: Zoo) -> None:
    first = twins.weights(epochs=0, masked=False)
    assert first.values.tobytes() == grown.weights(epochs=NUM_EPOCHS).values.tobytes()


def test_a_slice_of_epochs_and_layers_is_that_part_of_the_whole(grown: Zoo) -> None:
    whole = grown.weights()
    part = grown.weights(epochs="2:4", layers=["conv1"], where="test_acc >= 0")
    at = (whole.epochs >= 2) & (whole.epochs < 4)
    assert part.values.tobytes() == np.ascontiguousarray(whole.values[at][:, : part.values.shape[1]]).tobytes()


def test_a_partial_zoo_says_how_many_of_its_models_are_published(grown: Zoo, twins: Zoo) -> None:
    assert "32 of 2,560 models" in repr(grown)
    assert "32 of 2,560 models" in repr(twins)
    with pytest.raises(EpochNotPresent, match="32 of 2,560 models"):
        grown.weights(epochs=NUM_EPOCHS + 1)


def test_a_dataset_gives_torch_tensors_of_the_split(grown: Zoo) -> None:
    samples = grown.dataset("train", epochs=NUM_EPOCHS)
    assert len(samples) == len(grown.weights(epochs=NUM_EPOCHS, split="train"))
    assert torch.is_tensor(samples[0][0])


@pytest.mark.s3
def test_an_epoch_that_was_not_kept_is_named_with_its_price_and_made_again(
    s3_zoo: Command, s3_store_url: str, tmp_path: Path
) -> None:
    path = write(tmp_path, save_epochs=[0, 2], num_epochs=2, train_eval_epochs=[0])
    made = done(s3_zoo("run", path, "--models", "0:4", "--store", s3_store_url, "--no-twins"))
    assert "4 of 2,560 models, 2 epochs" in made.out
    opened = zooforge.open_zoo(f"{s3_store_url}/zoos/small")
    assert opened.epochs == [0, 2]
    assert opened.labels(epochs=1).num_rows == 4
    with pytest.raises(EpochNotKept, match=r"kept are 0, 2; `zoo train small --refill 1` makes them again, `zoo plan"):
        opened.weights(epochs=1)
    said = ("epoch 1 of 4 models of small was trained, but its weights were not kept", "--refill 1", "zoo plan small")
    refused(s3_zoo("sparsify", path, "--epochs", "1", "--models", "0:4", "--store", s3_store_url), *said)
    done(s3_zoo("train", path, "--models", "0:4", "--refill", "1", "--store", s3_store_url))
    done(s3_zoo("vectorize", "small", "--store", s3_store_url))
    again = zooforge.open_zoo(f"{s3_store_url}/zoos/small")
    assert again.epochs == [0, 1, 2]
    assert again.weights(epochs=[0, 2]).values.tobytes() == opened.weights().values.tobytes()
