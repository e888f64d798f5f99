"""`zoo publish` and `zoo cite` as a person types them, with the zoo that comes with the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faulty_service import serving
from tests.support.hub_server import Hub
from tests.support.paths import ROOT
from tests.support.zenodo_server import TOKEN, Zenodo
from zooforge.storage.interchange.zip import copies_of
from zooforge.storage.publish.cards import FIGURES
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data.registry import DATASETS

SOURCE = ["digits-example", "--store", str(ROOT / "storage" / "example")]


def publish(*arguments: str) -> int:
    return main(["publish", *SOURCE, *arguments])


def test_a_dry_run_says_what_would_be_published_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    assert publish("--to", str(target), "--dry-run", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["states"] == 80 and whole["part"] == "" and not whole["estimated"]
    assert publish("--to", str(target), "--dry-run", "--epochs", "last", "--where", "activation == 'tanh'") == 0
    said = capsys.readouterr().out
    assert "about" in said and "A part of the zoo: 8 of its 80 states." in said
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_weights_is_published_only_with_a_new_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "zoos" / "digits-example" / "versions" / "0001"
    assert publish("--to", str(tmp_path), "--weights-table", "--dry-run", "--epochs", "last") == 0
    assert "this estimate lacks it" in capsys.readouterr().err
    assert publish("--to", str(tmp_path)) == 0 and not (folder / "weights.parquet").exists()
    assert publish("--to", str(tmp_path), "--weights-table") == 0
    assert "no weights.parquet was added now" in capsys.readouterr().err
    assert publish("--to", str(tmp_path / "new"), "--weights-table") == 0
    assert "no weights.parquet" not in capsys.readouterr().err
    assert (tmp_path / "new" / folder.relative_to(tmp_path) / "weights.parquet").exists()


def test_zoo_store_publish_is_the_same_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SOURCE, "--to", str(tmp_path / "out"), "--dry-run", "--json", "--epochs", "last"]
    said = []
    for words in (["publish"], ["store", "publish"]):
        assert main([*words, *arguments]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1] and json.loads(said[0].out)["states"] == 16
    assert main(["store", "publish", "digits-example", "--too", "x"]) == 2
    assert "No such option" in capsys.readouterr().err
    assert main(["store", "--help"]) == 0 and "The same as `zoo publish`" in capsys.readouterr().out


def test_a_part_is_published_and_cited_with_its_authors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("--to", str(tmp_path), "--author", "Doe, Jane", "--epochs", "4", "--split", "test") == 0
    out, err = capsys.readouterr()
    assert "version 1: published, every byte read back" in out and "3 of 16 models" in err
    zoo = open_zoo(tmp_path / "zoos" / "digits-example")
    assert zoo.epochs == [4] and len(zoo.models) == 3
    assert main(["cite", "digits-example", "--store", str(tmp_path)]) == 0
    entry = capsys.readouterr().out
    assert "author = {Doe, Jane}" in entry and "A part of the planned zoo: 3 of 80 states" in entry
    assert main(["cite", *SOURCE]) == 0
    assert "The makers of digits-example" in capsys.readouterr().out


def test_the_card_shows_pictures_from_its_folder_with_alternative_texts(tmp_path: Path) -> None:
    assert publish("--to", str(tmp_path / "a")) == 0
    version = "zoos/digits-example/versions/0001"
    sums = (tmp_path / "a" / version / "SHA256SUMS").read_text()
    for folder in (tmp_path / "a", tmp_path / "a" / version):
        shown = re.findall(r'<img src="([^"]+)" width="360" alt="([^"]+)">', (folder / "README.md").read_text())
        assert [name for name, _ in shown] == list(FIGURES)
        for name, alt in shown:
            assert (folder / name).read_bytes().startswith(b"\x89PNG") and name in sums
            assert re.search(r"median.* \d\d\.\d", alt), alt
    assert publish("--to", str(tmp_path / "b"), "--anonymous") == 0
    for name in FIGURES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert set(FIGURES) <= set(copies_of(open_zoo(tmp_path / "a" / "zoos" / "digits-example")))


def test_a_zoo_with_one_set_of_hyperparameters_and_one_epoch_has_two_pictures(tmp_path: Path) -> None:
    chosen = ["--epochs", "4", "--where", "activation == 'tanh' and learning_rate == 0.003"]
    assert publish("--to", str(tmp_path), *chosen) == 0
    assert [name for name in FIGURES if (tmp_path / name).exists()] == list(FIGURES[:2])


def test_images_are_published_if_their_licence_allows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("--to", str(tmp_path / "a")) == 0
    kept = open_zoo(tmp_path / "a" / "zoos" / "digits-example").manifest.images
    assert kept is not None and (tmp_path / "a" / kept.key).is_file()
    assert "their licence: images CC BY 4.0" in (tmp_path / "a" / "README.md").read_text()
    assert publish("--to", str(tmp_path / "b"), "--no-images") == 0
    assert "left out: images: --no-images" in capsys.readouterr().err
    assert open_zoo(tmp_path / "b" / "zoos" / "digits-example").manifest.images is None
    assert not (tmp_path / "b" / kept.key).exists()


def test_images_are_not_published_if_their_licence_forbids_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(DATASETS, "digits8", DATASETS["svhn"])
    assert publish("--to", str(tmp_path)) == 0
    assert "left out: images: licence of digits8: for non-commercial use only" in capsys.readouterr().err
    assert publish("--to", str(tmp_path), "--images", "--dry-run") == 0
    assert "left out" not in capsys.readouterr().out


def test_images_without_a_stated_licence_are_not_published() -> None:
    assert {name for name, entry in DATASETS.items() if entry.redistribute} == {
        "mnist", "fashion-mnist", "eurosat", "mnist5k", "digits8",
    }  # fmt: skip
    assert not any(entry.redistribute for entry in DATASETS.values() if "not stated" in entry.licence)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--to", "https://host/x"], "nothing can be written there"),
        (["--to", "DIR", "--anonymous", "--author", "Doe, Jane"], "contradict each other"),
        (["--to", "DIR", "--epochs", "9"], "no epoch 9"),
        (["--to", "DIR", "--version", "9"], "has no version 9"),
        (["--to", "DIR", "--where", "nonsense > 1"], "nonsense"),
    ],
)
def test_bad_input_is_a_line_and_writes_nothing(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert publish(*arguments) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_zenodo_by_the_command_is_a_draft_until_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Zenodo()) as server:
        monkeypatch.setenv("ZENODO_URL", server.address)
        monkeypatch.setenv("ZENODO_TOKEN", TOKEN)
        assert publish("--to", "zenodo", "--dry-run", "--author", "Doe, Jane") == 0 and server.requests == []
        assert publish("--to", "zenodo", "--author", "Doe, Jane") == 0
        out = capsys.readouterr().out
        assert "a draft that only you see" in out and "its DOI will be 10.5281/zenodo.1000" in out
        assert server.visible == {}
        assert publish("--to", "zenodo", "--author", "Doe, Jane", "--yes", "--json") == 0
        assert json.loads(capsys.readouterr().out)["draft"] is False
        assert len(server.visible) == 1
        monkeypatch.setenv("ZENODO_TOKEN", "expired")
        assert publish("--to", "zenodo", "--author", "Doe, Jane") == 2
        assert "ZENODO_TOKEN is not accepted" in capsys.readouterr().err


def test_a_new_process_publishes_on_the_hub(tmp_path: Path) -> None:
    """huggingface_hub imports its modules when they are first used, so other tests in this process may hide a lack."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    words = ["publish", *SOURCE, "--to", "hf:me/zoos", "--author", "Doe, Jane", "--json"]
    with serving(Hub()) as hub:
        told = {"HF_ENDPOINT": hub.address, "HF_TOKEN": Hub.token, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "zooforge", *words], env=os.environ | told, capture_output=True, text=True
        )
        assert (done.returncode, json.loads(done.stdout or "{}").get("version")) == (0, 1), done.stderr
        assert "zoos/digits-example/HEAD" in hub.files("me/zoos")
