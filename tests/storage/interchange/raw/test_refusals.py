"""Trees that `zoo store import-raw` refuses, and parts that it leaves out or does not change."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw_trees import config, label_rows, opened, write_model
from zooforge.storage.errors import FormatError, StorageError, StorageUsageError
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.raw.import_tree import import_raw
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.cli import main


@pytest.fixture
def store(memory: ObjectStore) -> ObjectStore:
    return memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import-raw", "nowhere", "--name", "mnist"], "no such folder"),
        (["import-raw", "nowhere", "--name", "mnist", "--images", "7"], "expected three counts"),
        (["export-raw", "memory://nothing/zoos/mnist", "raw"], "no published version"),
    ],
)
def test_bad_commands_end_with_one_line_and_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_STORE", "memory://nothing")
    assert main(["store", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_refused_before_anything_is_written(tree: Path, tmp_path: Path) -> None:
    store = open_store(f"memory://{tmp_path}/refused")
    with pytest.raises(StorageUsageError, match="no such folder"):
        import_raw(tmp_path / "nowhere", store, "mnist")
    with pytest.raises(StorageUsageError, match="no model in it"):
        import_raw(tree, store, "mnist")
    folder = write_model(tree, 0)
    with pytest.raises(StorageUsageError, match="--name"):
        import_raw(tree, store)
    with pytest.raises(StorageUsageError, match="expected"):
        import_raw(tree, store, "No Name")
    for path in folder.rglob("checkpoints"):
        path.write_bytes(b"nothing")
    with pytest.raises(FormatError, match="no readable checkpoint"):
        import_raw(tree, store, "mnist")
    assert list(store.list("")) == []


def test_another_zoo_of_the_name_is_not_touched(tree: Path, store: ObjectStore) -> None:
    write_model(tree, 0)
    first = import_raw(tree, store, "mnist")
    assert import_raw(tree, store, "mnist").version == first.version.__class__(
        first.version.zoo, 1, False, first.version.manifest, first.version.manifest_sha256
    )
    write_model(tree, 1)
    with pytest.raises(StorageUsageError, match="with other models"):
        import_raw(tree, store, "mnist")
    assert opened(store, first).models == [0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": "seven"}, "'seven' is no seed"),
        ({"seed": 2**70}, "is no seed"),
        ({"optim::lr": "fast"}, "'fast' is no number"),
        ({"model::nlin": 3}, "3 is no name"),
    ],
)
def test_a_config_of_another_kind_leaves_the_model_out(
    tree: Path, store: ObjectStore, change: dict[str, Any], reason: str
) -> None:
    write_model(tree, 0, epochs=(0,))
    write_model(tree, 1, epochs=(0,), settings={**config(2), **change})
    imported = import_raw(tree, store, "mnist")
    assert reason in imported.findings.absent[1]
    assert opened(store, imported).models == [0]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("folders", {"x": 1}),
        ("rows", [[1]]),
        ("row_columns", ["model", "seed"]),
        ("state_dict_names", {"plain": {"conv1.weight": "x"}}),
        ("run", "../../x"),
        ("layout", []),
        ("split", {"kind": "coin"}),
        ("version", 2),
        ("format", "no"),
    ],
)
def test_a_tampered_file_of_the_root_is_refused_in_one_line(
    tree: Path, tmp_path: Path, member: str, value: Any
) -> None:
    write_model(tree, 0, epochs=(0,))
    store = open_store(f"memory://{tmp_path}/store")
    export_raw(opened(store, import_raw(tree, store, "mnist")), tmp_path / "raw")
    path = tmp_path / "raw" / "zooforge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), member: value}))
    target = open_store(f"memory://{tmp_path}/target")
    with pytest.raises(StorageError) as error:
        import_raw(tmp_path / "raw", target)
    assert "zooforge.json" in str(error.value) and "\n" not in str(error.value)
    assert list(target.list("")) == []


def test_absurd_numbers_do_not_fill_the_memory(tree: Path, store: ObjectStore) -> None:
    folder = write_model(tree, 0, epochs=(0,))
    (folder / "checkpoint_999999999").mkdir()
    with (folder / "result.json").open("a") as file:
        for row in ({"training_iteration": 10**9}, {"training_iteration": 1, "test_acc": 1e300, "test_loss": 1e999}):
            file.write(json.dumps(row) + "\n")
    imported = import_raw(tree, store, "mnist")
    assert label_rows(opened(store, imported), 0)[1]["test_loss"] is None
    assert len(label_rows(opened(store, imported), 0)) == 2
