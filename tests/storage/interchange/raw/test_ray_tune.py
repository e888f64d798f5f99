"""Trees as recent Ray Tune and other trainers leave them: read with the right epochs, or named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.raw_trees import config, label_rows, opened, small, vector, write_model
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.raw.import_tree import import_raw
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.cli import main


@pytest.fixture
def store(memory: ObjectStore) -> ObjectStore:
    return memory


def edit_rows(folder: Path, change: Any) -> None:
    """Write result.json again with ``change`` applied to each row."""
    rows = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    (folder / "result.json").write_text("".join(json.dumps(change(row)) + "\n" for row in rows))


def write_ray(
    tree: Path, index: int, epochs: tuple[int, ...] = (1, 2, 3), *, named: bool = False, **options: Any
) -> Path:
    """A trial of Ray from 2.7 on: folders count from 0, iterations from 1; the function API names folders in rows."""
    folder = write_model(tree, index, epochs=epochs, old=False, **options)
    for place, epoch in enumerate(epochs):
        (folder / f"checkpoint_{epoch:06d}").rename(folder / f"checkpoint_{place:06d}")
    if named:
        places = {epoch: f"checkpoint_{place:06d}" for place, epoch in enumerate(epochs)}
        edit_rows(folder, lambda row: {**row, "checkpoint_dir_name": places[row["training_iteration"]]})
    return folder


def assert_epochs(store: ObjectStore, imported: Any, model: int, epochs: list[int]) -> None:
    """Weights and labels of ``model`` are those of these epochs."""
    zoo = opened(store, imported)
    assert zoo.weights(models=model).epochs.tolist() == epochs
    for epoch in epochs:
        expected = vector(small(), model, epoch)
        assert zoo.weights(models=model, epochs=epoch).values[0].tobytes() == expected.tobytes()
        assert label_rows(zoo, model)[epoch]["test_correct"] == 100 * model + epoch


def test_a_row_that_names_its_folder_decides(tree: Path, store: ObjectStore) -> None:
    """Even if only every second iteration has a checkpoint, and where most models have other numbers."""
    write_ray(tree, 0, named=True)
    write_ray(tree, 1, (2, 4, 6), named=True)
    for index in (2, 3, 4):
        write_model(tree, index, old=False)
    imported = import_raw(tree, store, "mnist")
    assert_epochs(store, imported, 0, [1, 2, 3])
    assert_epochs(store, imported, 1, [2, 4, 6])
    assert_epochs(store, imported, 2, [0, 1, 2, 3])
    assert (
        "models 0:2: epochs of its checkpoints are those that checkpoint_dir_name says, not the folders' numbers"
        in imported.findings.lines()
    )


def test_a_folder_that_no_row_names_follows_the_others_or_is_named(tree: Path, store: ObjectStore) -> None:
    edit_rows(
        write_ray(tree, 0, named=True),
        lambda row: {
            **row,
            "checkpoint_dir_name": row["checkpoint_dir_name"] if row["training_iteration"] > 1 else None,
        },
    )
    edit_rows(
        write_ray(tree, 1, (2, 4, 6, 8), named=True),
        lambda row: {
            **row,
            "checkpoint_dir_name": row["checkpoint_dir_name"] if row["training_iteration"] < 6 else None,
        },
    )
    imported = import_raw(tree, store, "mnist")
    assert_epochs(store, imported, 0, [1, 2, 3])
    assert_epochs(store, imported, 1, [2, 4])
    for place in (2, 3):
        assert (
            f"models 1: checkpoint_{place:06d}: no row of result.json names it: not read" in imported.findings.lines()
        )


def test_most_models_say_that_folders_count_from_0(tree: Path, store: ObjectStore) -> None:
    for index in range(3):
        write_ray(tree, index)
    folder = write_ray(tree, 3)
    shutil.rmtree(folder / "checkpoint_000002")  # stopped before its last checkpoint
    imported = import_raw(tree, store, "mnist")
    for index in range(3):
        assert_epochs(store, imported, index, [1, 2, 3])
    assert_epochs(store, imported, 3, [1, 2])
    lines = imported.findings.lines()
    assert "models 0:4: checkpoint folders count from 0, epochs from 1: checkpoint_000000 is read as epoch 1" in lines
    assert "models 3: epoch 3: no checkpoint, other models have it: no weights of that epoch" in lines
    folder = write_model(tree, 4, old=False)
    edit_rows(folder, lambda row: {**row, "training_iteration": row["training_iteration"] or 3})  # its rows begin at 1
    again = import_raw(tree, store, "again").findings.lines()
    assert "models 4: checkpoint_000000 looks like epoch 0, but is epoch 1 for most models" in again


def test_the_option_decides_where_the_tree_does_not(
    tree: Path, store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_ray(tree, 0, (1, 2, 3, 4))
    shutil.rmtree(folder / "checkpoint_000003")  # stopped before its last checkpoint
    with pytest.raises(StorageUsageError, match="--first-checkpoint 0 or 1"):
        import_raw(tree, store, "mnist")
    assert list(store.list("")) == []
    arguments = ["store", "import-raw", str(tree), "--name", "mnist", "--store", store.url, "--first-checkpoint"]
    assert main([*arguments, "1"]) == 0
    assert "checkpoint_000000 is read as epoch 1" in capsys.readouterr().err
    imported = import_raw(tree, store, "mnist", first_checkpoint=1)
    assert not imported.version.new
    assert_epochs(store, imported, 0, [1, 2, 3])


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_prefixes_of_all_keys_are_left_out_and_every_float_is_read(
    tree: Path, store: ObjectStore, prefix: str, dtype: torch.dtype
) -> None:
    folder = write_model(tree, 0, epochs=(0,))
    file = folder / "checkpoint_000000" / "checkpoints"
    state = {prefix + key: value.to(dtype) for key, value in torch.load(file).items()}
    torch.save(state, file)
    imported = import_raw(tree, store, "mnist")
    lines = imported.findings.lines()
    assert f"models 0: all keys of its checkpoints begin with `{prefix}`, which is left out" in lines
    assert ("models 0: its weights are float64, and are rounded to float32" in lines) == (dtype == torch.float64)
    (weights,) = opened(store, imported).weights().values
    assert weights.tolist() == torch.cat([value.float().reshape(-1) for value in state.values()]).tolist()


def test_a_prefix_that_only_some_keys_have_is_kept(tree: Path, store: ObjectStore) -> None:
    write_model(tree, 0, epochs=(0,))
    file = write_model(tree, 1, epochs=(0,)) / "checkpoint_000000" / "checkpoints"
    state = torch.load(file)
    state["module.module_list.0.bias"] = state.pop("module_list.0.bias")
    torch.save(state, file)
    imported = import_raw(tree, store, "mnist")
    assert "module.module_list.0.bias" in imported.findings.lines()[-1]


def test_metrics_and_seeds_in_other_spellings_are_taken(tree: Path, store: ObjectStore) -> None:
    settings = {**config(1), "seed": 7.0, "optim::lr": "1e-3", "optim::nesterov": "False"}
    folder = write_model(tree, 0, epochs=(0, 1), settings=settings)
    edit_rows(
        folder,
        lambda row: {
            **row,
            "training_iteration": float(row["training_iteration"]),
            "test_acc": f"tensor({row['test_acc']:.4f})",
            "note": "two\u2028lines",
        },
    )
    for name in ("params.json", "result.json"):
        text = (folder / name).read_text().replace("\\u2028", "\u2028")
        (folder / name).write_bytes(text.encode("utf-8-sig" if name == "params.json" else "utf-16"))
    write_model(tree, 1, epochs=(0, 1), settings={**config(2), "seed": "8"})
    imported = import_raw(tree, store, "mnist")
    zoo = opened(store, imported)
    rows = {row["model"]: row for row in zoo.model_table().to_pylist()}
    assert [rows[0]["seed"], rows[0]["learning_rate"], rows[0]["nesterov"], rows[1]["seed"]] == [7, 0.001, False, 8]
    assert [row["test_correct"] for row in label_rows(zoo, 0)] == [0, 1]
    assert imported.findings.lines() == [
        "models 0: test_acc is text or a list: the number in it is taken, as it was rounded"
    ]


def test_empty_and_unreadable_files_are_named(tree: Path, store: ObjectStore) -> None:
    (write_model(tree, 0, epochs=(0,)) / "result.json").write_text("\n")
    (write_model(tree, 1, epochs=(0,)) / "params.json").write_text("[1]")
    folder = write_model(tree, 2, epochs=(0,))
    edit_rows(folder, lambda row: {**row, "test_loss": 10**400, "deep": json.loads("[" * 90 + "]" * 90)})
    folder = write_model(tree, 3, epochs=(0,))
    edit_rows(folder, lambda row: {**row, "test_loss": 10**400, "test_acc": "\ud800"})
    with (folder / "result.json").open("a") as file:
        file.write((folder / "result.json").read_text())
    (write_model(tree, 4, epochs=(0,), settings={**config(5), "optim::lr": 10**400}) / "x").touch()
    imported = import_raw(tree, store, "mnist")
    assert sorted(imported.findings.lines()) == [
        "models 0: result.json is empty: no metrics",
        "models 1: params.json is not readable: the config is that of its result.json",
        "models 2: result.json: the last line is not readable (it is nested too deeply): no metrics of that epoch",
        "models 3: result.json has epoch 0 twice: the last row is taken",
        "models 3: test_acc is other text at epoch 0: null there",
        "models 3: test_loss is not finite at epoch 0: null there",
        "models 4: left out: its config is not one of the reference (an integer of more than 60 digits is no number)",
    ]


def test_models_one_folder_deeper_are_taken_and_two_such_folders_named(tree: Path, store: ObjectStore) -> None:
    write_model(tree / "inner", 0, epochs=(0,))
    (tree / "plots").mkdir()
    imported = import_raw(tree, store, "mnist")
    assert imported.findings.lines() == ["the models are one folder deeper, in inner"]
    assert opened(store, imported).models == [0]
    write_model(tree / "other", 1, epochs=(0,))
    with pytest.raises(StorageUsageError, match="no model in it, but in inner, other: name one of these folders"):
        import_raw(tree, store, "mnist")


def test_a_checkpoint_file_of_another_name_is_taken_or_named(tree: Path, store: ObjectStore) -> None:
    for index, names in enumerate((["model.pt"], ["a.pth", "b.pth"])):
        folder = write_model(tree, index, epochs=(0, 1)) / "checkpoint_000001"
        for name in names:
            shutil.copy(folder / "checkpoints", folder / name)
        (folder / "checkpoints").unlink()
        (folder / "log.txt").write_text("no weights")
    imported = import_raw(tree, store, "mnist")
    assert sorted(imported.findings.lines()) == [
        "models 0: checkpoints are read from files `model.pt`, not `checkpoints`",
        "models 1: checkpoint_000001 has no file `checkpoints`, but a.pth, but b.pth: no weights of it",
    ]
    assert opened(store, imported).weights(epochs=1).models.tolist() == [0]


def test_configs_that_canonical_json_cannot_hold_do_not_end_import_or_export(
    tree: Path, store: ObjectStore, tmp_path: Path
) -> None:
    odd = {"a": float("nan"), "b": 10**30, "c": "\ud800", "d": float("inf")}
    write_model(tree, 0, epochs=(0,), settings={**config(1), **odd})
    zoo = opened(store, import_raw(tree, store, "mnist"))
    export_raw(zoo, tmp_path / "raw")
    (params,) = (tmp_path / "raw").rglob("params.json")
    exported = json.loads(params.read_text())
    assert {name: exported[name] for name in odd} == {"a": "NaN", "b": str(10**30), "c": "?", "d": "Infinity"}


def test_names_that_are_not_text_do_not_end_the_import(tree: Path, store: ObjectStore) -> None:
    root = tree / "bad\udcff"
    write_model(root, 0, epochs=(0,))
    (root / "stray\udcff\n").mkdir()
    imported = import_raw(root, store, "mnist")
    assert imported.findings.lines() == ["stray\ufffd\ufffd: not the folder of a model, skipped"]
