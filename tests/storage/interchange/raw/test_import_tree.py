"""`zoo store import-raw`: trees in every state that the reference leaves them in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.raw_trees import config, label_rows, opened, result, save_checkpoint, small, vector, write_model
from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import NotPublished, StorageUsageError
from zooforge.storage.formats.manifest import Parent
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.interchange.raw.architectures import network
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.raw.import_tree import import_raw
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.models.layers import Activation, Architecture
from zooforge.zoo_jobs.models.registry import ResNet18, architecture
from zooforge.zoo_jobs.publishing.describe import layer_json


@pytest.fixture
def store(memory: ObjectStore) -> ObjectStore:
    return memory


def test_all_variants_of_one_zoo_are_read_alike(tree: Path, store: ObjectStore) -> None:
    """Padded and not, dropout 0 as int and float, dropout that shifts indices, both generations of the trainable."""
    write_model(tree, 0)
    write_model(tree, 1, padded=False, old=False)
    write_model(tree, 2, dropout=0.5)
    write_model(tree, 3, dropout=0.0, padded=False)
    imported = import_raw(tree, store, "mnist")
    assert imported.findings.lines() == []
    zoo = opened(store, imported)
    assert zoo.models == [0, 1, 2, 3]
    assert zoo.epochs == [0, 1, 2, 3]
    for model in zoo.models:
        for epoch in zoo.epochs:
            expected = vector(small(), model, epoch)
            assert zoo.weights(models=model, epochs=epoch).values[0].tobytes() == expected.tobytes()
    assert list(zoo.state_dict(2, 3)) == list(small(dropout=True).state_dict_names.values())
    manifest = zoo.manifest
    assert (manifest.architecture["name"], manifest.dataset, manifest.planned_epochs) == ("cnn-s", "mnist", 3)
    hyperparameters = {row["model"]: row for row in zoo.model_table().to_pylist()}
    assert [hyperparameters[m]["dropout_ratio"] for m in zoo.models] == [0.0, 0.0, 0.5, 0.0]
    assert [hyperparameters[m]["seed"] for m in zoo.models] == [1, 2, 3, 4]
    old, new = label_rows(zoo, 0), label_rows(zoo, 1)
    assert (old[0]["train_loss"], old[0]["running_train_loss"], old[0]["ggap"]) == (None, None, None)
    assert (old[1]["val_count"], new[1]["val_count"], new[1]["val_acc"]) == (None, 10_000, 0.75)
    assert (new[0]["train_acc"], new[0]["running_train_acc"]) == (0.8, None)
    assert (new[2]["running_train_acc"], new[2]["test_correct"], new[2]["test_count"]) == (0.82, 102, 10_000)
    assert new[2]["ggap"] == new[2]["running_train_acc"] - new[2]["test_acc"]


def test_missing_and_damaged_files_are_named_and_the_rest_is_read(tree: Path, store: ObjectStore) -> None:
    folders = [write_model(tree, index) for index in range(12)]
    (tree / ".ipynb_checkpoints").mkdir()
    (tree / "plots").mkdir()
    (tree / "experiment_state-2022.json").write_text("{}")
    lines = (folders[1] / "result.json").read_text().splitlines(keepends=True)
    (folders[1] / "result.json").write_text("".join(lines[1:]))  # starts at 1
    (folders[2] / "result.json").write_text("".join(lines[:3]) + lines[3][:40])  # cut off while it was written
    shutil.rmtree(folders[3] / "checkpoint_000002")
    checkpoint = folders[4] / "checkpoint_000003" / "checkpoints"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    (folders[5] / "checkpoint_000001" / "checkpoints").unlink()
    (folders[6] / "params.json").unlink()
    (folders[7] / "result.json").unlink()
    for path in folders[8].glob("checkpoint_*"):
        shutil.rmtree(path)
    (folders[9] / "params.json").write_text('{"seed": 3')
    (folders[9] / "result.json").unlink()
    shutil.rmtree(folders[10] / "checkpoint_000002")
    save_checkpoint(folders[10] / "checkpoint_000002", small(channels=3), vector(small(channels=3), 1, 1))
    values = vector(small(), 11, 2)
    values[7] = np.inf
    for epoch in (2, 3):
        shutil.rmtree(folders[11] / f"checkpoint_{epoch:06d}")
        save_checkpoint(folders[11] / f"checkpoint_{epoch:06d}", small(), values)
    imported = import_raw(tree, store, "mnist")
    assert imported.findings.strays == [".ipynb_checkpoints", "plots"]
    assert imported.findings.absent == {
        8: "no checkpoint in its folder",
        9: "neither params.json nor result.json has its config, so its seed is not known",
    }
    reasons = {
        model: [r for r, models in imported.findings.by_reason.items() if model in models] for model in range(12)
    }
    assert reasons[0] == []
    assert reasons[3] == ["epoch 2: no checkpoint, other models have it: no weights of that epoch"]
    assert reasons[1] == ["result.json has no row of epoch 0: its metrics are null"]
    assert [reason.split(":")[0] for reason in reasons[2]] == ["result.json", "result.json has no row of epoch 3"]
    assert "truncated" in reasons[4][0] and reasons[4][0].startswith("epoch 3")
    assert reasons[5] == ["checkpoint_000001 has no file `checkpoints`: no weights of it"]
    assert reasons[6] == ["no params.json: the config is that of its result.json"]
    assert reasons[7] == ["no result.json: no metrics"]
    assert "conv1.weight has shape [8, 3, 5, 5], the zoo's [8, 1, 5, 5]" in reasons[10][0]
    assert reasons[11] == ["weights are not finite (inf) from epoch 2 on; it stays, labelled"]
    zoo = opened(store, imported)
    assert zoo.models == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    assert dict(zoo.manifest.absent) == imported.findings.absent
    assert [(row["epoch"], row["test_correct"]) for row in label_rows(zoo, 1)] == [
        (0, None),
        (1, 101),
        (2, 102),
        (3, 103),
    ]
    assert [row["test_correct"] for row in label_rows(zoo, 2)] == [100, 101, 102, None]
    assert zoo.weights(epochs=2).models.tolist() == [0, 1, 2, 4, 5, 6, 7, 11]
    assert zoo.weights(epochs=3).models.tolist() == [0, 1, 2, 3, 5, 6, 7, 10, 11]
    assert [row["faulty_reason"] for row in label_rows(zoo, 11)] == [None, None, "inf", "inf"]
    assert [row["test_correct"] for row in label_rows(zoo, 11)] == [1100, 1101, None, None]
    assert [row["seed"] for row in label_rows(zoo, 6)] == [7] * 4


def test_import_export_import_is_lossless(tree: Path, store: ObjectStore, tmp_path: Path) -> None:
    write_model(tree, 0)
    write_model(tree, 1, dropout=0.5, old=False)
    write_model(tree, 4, epochs=(0, 2), padded=False)
    first = import_raw(tree, store, "mnist")
    export_raw(opened(store, first), tmp_path / "raw")
    second = import_raw(tmp_path / "raw", open_store(f"memory://{tmp_path}/second"))
    assert second.findings.lines() == []
    assert second.version.manifest_sha256 == first.version.manifest_sha256
    for folder in (path for path in (tmp_path / "raw").iterdir() if path.is_dir()):
        model = int(folder.name.split("_")[3])
        (theirs,) = tree.glob(f"*_{model:05d}_*")
        configs = [json.loads((path / "params.json").read_text()) for path in (folder, theirs)]
        assert [{name: type(value) for name, value in config.items()} for config in configs] == [
            {name: type(value) for name, value in configs[1].items()}
        ] * 2
        assert configs[0] == {**configs[1], "dataset::dump": "mnist/dataset.pt"}
    (path,) = (tmp_path / "raw").glob("*_00001_*/checkpoint_000002")
    shutil.move(path, tmp_path / "elsewhere")
    damaged = import_raw(tmp_path / "raw", open_store(f"memory://{tmp_path}/damaged"))
    assert damaged.findings.lines() == [
        "models 1: epoch 2: no checkpoint, the export wrote one: no weights of that epoch"
    ]
    shutil.move(tmp_path / "elsewhere", path)
    # Without the metadata that only our exports have, values and model numbers are still the same.
    (tmp_path / "raw" / "zooforge.json").unlink()
    third = import_raw(tmp_path / "raw", open_store(f"memory://{tmp_path}/third"), "mnist")
    theirs, ours = third.version.manifest, first.version.manifest
    assert (theirs.shards, theirs.labels, theirs.model_table) == (ours.shards, ours.labels, ours.model_table)


@pytest.mark.parametrize("twin", [False, True])
def test_a_zoo_of_ours_comes_back_byte_for_byte(tmp_path: Path, store: ObjectStore, twin: bool) -> None:
    parent = Parent("root-zoo", "ab" * 16, 50) if twin else None
    train(store, range(9), 4, faulty={5: 3}, twin=twin)
    version = vectorize(store, description(num_models=64, parent=parent), RUN)
    export_raw(open_zoo(f"{store.url}/zoos/tiny-zoo"), tmp_path / "raw")
    imported = import_raw(tmp_path / "raw", open_store(f"memory://{tmp_path}/copy"))
    assert imported.findings.lines() == []
    assert imported.version.manifest.to_json() == version.manifest.to_json()


def test_masks_and_sparsity_of_sparsified_models_are_recomputed(tree: Path, store: ObjectStore) -> None:
    """Linear layers' ``log_sigma2_bias`` is whatever memory held; it is not looked at."""
    net = small()
    folder = tree / "NN_tune_trainable_from_checkpoint_abcde_00000_0_model=x_2022-09-01_10-00-00"
    settings = config(7, **{"model::type": "CNN_ARD", "training::init_checkpoint_path": "/somewhere/checkpoints"})
    generator = np.random.default_rng(1)
    mask, counted = {}, {}
    folder.mkdir()
    lines = []
    for epoch in (0, 1):
        state: dict[str, torch.Tensor] = {}
        pruned = total = 0
        for name, values in net.layout.unflatten(vector(net, 0, epoch)).items():
            key = net.state_dict_names[name]
            state[key] = torch.from_numpy(np.array(values))
            noise = torch.from_numpy(generator.uniform(-8, 4, values.shape).astype(np.float32))
            if key.endswith("weight"):
                state[key.replace("weight", "log_sigma2")] = noise
            elif name.startswith("conv"):
                state[key.replace("bias", "log_sigma2_bias")] = noise
            else:
                state[key.replace("bias", "log_sigma2_bias")] = torch.full(values.shape, float("nan"))
                continue
            limit = 8.0 if name.startswith("conv") else 10.0
            log_alpha = torch.clamp(noise - 2 * torch.log(state[key].abs() + 1e-15), -limit, limit)
            mask[epoch, name] = (log_alpha < 3).numpy()
            if key.endswith("weight"):
                pruned, total = pruned + int((log_alpha >= 3).sum()), total + values.size
        (folder / f"checkpoint_{epoch:06d}").mkdir()
        torch.save(state, folder / f"checkpoint_{epoch:06d}" / "checkpoints")
        counted[epoch] = (pruned, total)
        lines.append({**result(epoch, settings, 9000, old=False), "sparsity_ratio": pruned / total})
    (folder / "params.json").write_text(json.dumps(settings))
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = import_raw(tree, store, "mnist-vd")
    assert imported.findings.lines() == []
    zoo = opened(store, imported)
    stored, _, epochs = zoo.field("mask")
    assert zoo.manifest.noisy_layout is not None
    for row, epoch in enumerate(epochs.tolist()):
        for name, part in zoo.manifest.noisy_layout.unflatten(stored[row]).items():
            assert (part == mask[epoch, name]).all()
    assert [(row["num_pruned"], row["num_prunable"]) for row in label_rows(zoo, 0)] == [counted[0], counted[1]]
    assert zoo.weights(epochs=1, masked=False).values[0].tobytes() == vector(net, 0, 1).tobytes()


def test_sparsified_models_are_in_the_split_of_the_model_that_their_config_names(
    tree: Path, store: ObjectStore, tmp_path: Path
) -> None:
    for index in range(20):
        write_model(tree, index, epochs=(0, 1))
    parents = opened(store, import_raw(tree, store, "mnist"))
    sparse = tmp_path / "MNIST" / "ARD"
    for index in range(20):  # in the order in which a file system lists the parents
        source = next(tree.glob(f"*_{19 - index:05d}_*"))
        settings = {**config(1), "training::init_checkpoint_path": f"zoos/{source.name}", "training::sample_epoch": 1}
        write_model(sparse, index, epochs=(0,), settings=settings)
    twins = opened(store, import_raw(sparse, store, "mnist-vd", parent="mnist"))
    assert twins.manifest.parent == Parent("mnist", parents.manifest.run, 1)
    above = {row["model"]: row["split"] for row in parents.model_table().to_pylist()}
    rows = twins.model_table().to_pylist()
    assert [row["parent_model"] for row in rows] == list(range(19, -1, -1))
    assert [row["split"] for row in rows] == [above[row["parent_model"]] for row in rows]
    assert len(set(above.values())) == 3
    export_raw(twins, tmp_path / "raw")
    again = import_raw(tmp_path / "raw", open_store(f"memory://{tmp_path}/again"))
    assert again.version.manifest.to_json() == twins.manifest.to_json()
    with pytest.raises(StorageUsageError, match="does not say which model"):
        import_raw(tree, store, "other", parent="mnist")
    with pytest.raises(NotPublished):
        import_raw(sparse, store, "other", parent="nowhere")


def test_networks_with_batch_normalisation_keep_their_122_entries(
    tree: Path, store: ObjectStore, tmp_path: Path
) -> None:
    """The names of ResNet-18, each tensor as small as can be."""
    net = architecture("resnet18", 3, "relu", False, num_classes=10, image_size=32)
    assert isinstance(net, ResNet18)
    generator = np.random.default_rng(3)
    state: dict[str, torch.Tensor] = {}

    def tensor(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.standard_normal(shape, np.float32))

    for entry in net.layout.entries:
        state[entry.name] = tensor(*(min(n, 3) for n in entry.shape))
        module, _, part = entry.name.rpartition(".")
        if part == "bias" and module != "fc":
            state[f"{module}.running_mean"], state[f"{module}.running_var"] = tensor(3), tensor(3)
            state[f"{module}.num_batches_tracked"] = torch.tensor(len(state))
    assert len(state) == 122
    folder = tree / "NN_tune_trainable_abcde_00000_0_seed=1_2022-05-31_10-00-00"
    (folder / "checkpoint_000000").mkdir(parents=True)
    torch.save(state, folder / "checkpoint_000000" / "checkpoints")
    settings = config(1, **{"model::type": "Resnet18", "model::channels_in": 3})
    (folder / "params.json").write_text(json.dumps(settings))
    (folder / "result.json").write_text(json.dumps(result(0, settings, 1000, old=False)) + "\n")
    zoo = opened(store, import_raw(tree, store, "cifar10", dataset="cifar10"))
    assert zoo.manifest.architecture["name"] == "resnet18"
    export_raw(zoo, tmp_path / "raw")
    (path,) = (tmp_path / "raw").rglob("checkpoints")
    loaded = torch.load(path)
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("name", ["cnn-s", "cnn2", "cnn-l"])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_are_known_by_their_shapes(name: str, channels: int) -> None:
    plain, dropout = (architecture(name, channels, "tanh", with_dropout) for with_dropout in (False, True))
    assert isinstance(plain, Architecture) and isinstance(dropout, Architecture)
    actual = network({plain.state_dict_names[entry.name]: entry.shape for entry in plain.layout.entries})
    assert (actual.name, actual.layout, actual.image_size) == (name, plain.layout, plain.image_size)
    variants = {"plain": plain} if plain == dropout else {"plain": plain, "dropout": dropout}
    assert actual.state_dict_names == {variant: net.state_dict_names for variant, net in variants.items()}
    assert actual.layers == {
        variant: [
            {"type": "activation"} if isinstance(layer, Activation) else layer_json(layer) for layer in net.layers
        ]
        for variant, net in variants.items()
    }  # an activation without a name is the model's own


def test_models_are_numbered_by_trial_else_by_name(tree: Path, store: ObjectStore, tmp_path: Path) -> None:
    write_model(tree, 9, epochs=(0,), name="NN_tune_trainable_fffff_00002_2_seed=10_2022")
    write_model(tree, 8, epochs=(0,), name="NN_tune_trainable_aaaaa_00005_5_seed=9_2022")
    zoo = opened(store, import_raw(tree, store, "by-trial"))
    assert {row["model"]: row["seed"] for row in zoo.model_table().to_pylist()} == {2: 10, 5: 9}
    assert dict(zoo.manifest.absent) == dict.fromkeys((0, 1, 3, 4), "no folder in the tree")
    write_model(tree, 7, epochs=(0,), name="NN_tune_trainable_bbbbb_00005_5_seed=8_2022")
    zoo = opened(store, import_raw(tree, store, "by-name"))
    assert {row["model"]: row["seed"] for row in zoo.model_table().to_pylist()} == {0: 9, 1: 8, 2: 10}


def test_accuracies_of_another_number_of_images_are_kept_exactly(tree: Path, store: ObjectStore) -> None:
    folder = write_model(tree, 0, epochs=(0, 1))
    lines = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    for line, correct in zip(lines, (123, 456), strict=True):
        line["test_acc"] = correct / 5_400
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    zoo = opened(store, import_raw(tree, store, "guessed", dataset="eurosat"))
    assert [row["test_acc"] for row in label_rows(zoo, 0)] == [123 / 5_400, 456 / 5_400]
    zoo = opened(store, import_raw(tree, store, "told", images=(0, 0, 5_400)))
    assert [(row["test_correct"], row["test_count"]) for row in label_rows(zoo, 0)] == [(123, 5_400), (456, 5_400)]


def test_the_reference_s_split_on_request(tree: Path, store: ObjectStore) -> None:
    for index in range(10):
        write_model(tree, index, epochs=(0,))
    zoo = opened(store, import_raw(tree, store, "mnist", split=SplitRule(kind="reference")))
    split = {row["model"]: row["split"] for row in zoo.model_table().to_pylist()}
    order = [7, 3, 2, 8, 5, 6, 9, 4, 0, 1]  # of ten folders, shuffled by Python with seed 42
    assert [split[model] for model in order] == ["train"] * 7 + ["val"] + ["test"] * 2


def test_the_commands_say_what_was_read_and_written(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"memory://{tmp_path}/store"
    write_model(tree, 0)
    folder = write_model(tree, 1)
    shutil.rmtree(folder / "checkpoint_000000")
    assert main(["store", "import-raw", str(tree), "--name", "mnist", "--store", url]) == 0
    out, err = capsys.readouterr()
    assert out == f"{url}/zoos/mnist version 1: 2 models, 3 epochs, 7 states\n"
    assert err == "models 1: epoch 0: no checkpoint, other models have it: no weights of that epoch\n"
    assert main(["store", "export-raw", f"{url}/zoos/mnist", str(tmp_path / "raw"), "--epochs", "1:3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "zoo": "mnist",
        "folder": str(tmp_path / "raw"),
        "models": 2,
        "states": 4,
    }
    assert main(["store", "import-raw", str(tmp_path / "raw"), "--store", url]) == 2
    assert "has 3 states that the tree lacks, e.g. model 0 at epoch 0" in capsys.readouterr().err
    assert main(["store", "import-raw", str(tmp_path / "raw"), "--store", f"{url}2", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["zoo"], output["version"], output["states"], output["findings"]) == ("mnist", 1, 4, [])


def test_options_that_a_tree_of_ours_would_ignore_are_refused(
    tree: Path, store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tree, 0)
    export_raw(opened(store, import_raw(tree, store, "mnist")), tmp_path / "raw")
    options = [
        "--dataset",
        "mnist",
        "--source",
        "me",
        "--split-rule",
        "hash",
        "--parent",
        "a",
        "--first-checkpoint",
        "0",
    ]
    url = f"memory://{tmp_path}/other"
    assert main(["store", "import-raw", str(tmp_path / "raw"), "--store", url, *options]) == 2
    said = "zooforge.json describes the zoo; leave --dataset, --source, --split-rule, --parent, --first-checkpoint out"
    assert capsys.readouterr().err.rstrip().endswith(said)
    assert list(open_store(url).list("")) == []
