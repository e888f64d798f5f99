"""A store of version 0.1, with a run that was interrupted, is resumed, extended, read and published by this version.

`tests/golden/storage/v0.1-run` was written by `zoo run digits8-cnn-s --models 0:4 --epochs 4` with the engine `lanes`,
and SIGTERM in the middle.
"""

import json
import shutil
from pathlib import Path

import pytest

import zooforge
from tests.support.command import content
from tests.support.paths import ROOT
from zooforge.storage.canonical import canonical_json
from zooforge.storage.formats.labels import joined_columns
from zooforge.storage.ops.remove import plan_removal
from zooforge.storage.ops.usage import usage
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import read_attempts
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.cli import main

GOLDEN = ROOT / "tests/golden/storage/v0.1-run"
ZOO = load("digits8-cnn-s")
OPTIONS = ["--no-twins", "--ray", "none", "--slots", "1", "--no-metrics", "--quiet", "--engine", "lanes", "--store"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "old")
    return tmp_path / "old"


def objects(store: Path) -> dict[str, str]:
    """Digests by key, without the folders of locks and of writes under way."""
    return {key: digest for key, digest in content(store).items() if not key.startswith(".")}


def run(store: Path, models: str, epochs: int) -> int:
    return main(["run", ZOO.name, "--models", models, "--epochs", str(epochs), *OPTIONS, str(store)])


def test_the_golden_run_is_half_done() -> None:
    ledger = read_ledger(open_store(str(GOLDEN)), ZOO.run_id)
    assert 0 < sum(ledger.num_epochs(model) for model in range(4)) < 4 * 5


def test_an_interrupted_run_of_0_1_is_shown_resumed_extended_and_published_as_a_run_of_today(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = objects(old)
    assert main(["status", ZOO.name, "--store", str(old)]) == 0
    assert "started by golden on golden" in capsys.readouterr().out
    assert sum(one.num_bytes for one in usage(open_store(str(old)))) > 0
    assert plan_removal(open_store(str(old)), ZOO.name).run == ZOO.run_id
    assert objects(old) == before
    assert run(old, "0:4", 4) == 0
    assert run(old, "0:6", 5) == 0
    assert len(read_attempts(open_store(str(old)), ZOO.run_id)) == 3
    kept = {key: digest for key, digest in before.items() if "/parts/" in key and digest != "folder"}
    assert kept
    assert kept.items() <= objects(old).items()
    assert run(tmp_path / "new", "0:6", 5) == 0
    zoo, new = (zooforge.open_zoo(f"{store}/zoos/{ZOO.name}") for store in (old, tmp_path / "new"))
    assert (zoo.manifest.shards, zoo.manifest.model_table) == (new.manifest.shards, new.manifest.model_table)
    assert zoo.manifest.label_columns == joined_columns()  # a run keeps the labels that it began with
    assert new.manifest.label_columns == joined_columns(["weight_norm", "test_class_correct"])
    assert zoo.labels().equals(new.labels(columns=zoo.labels().column_names))
    assert zoo.labels().num_rows == 6 * 6
    assert main(["verify", ZOO.name, "--store", str(old)]) == 0


def test_a_record_of_a_later_version_is_refused_with_a_sentence(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = next(old.glob("runs/*/parts/*/*.json"))
    record.write_bytes(canonical_json({**json.loads(record.read_text()), "version": 99}))
    assert run(old, "0:4", 4) != 0
    said = capsys.readouterr().err
    assert "format zooforge.part/99 is newer than" in said
    assert "install a later zooforge" in said
    assert "Traceback" not in said
