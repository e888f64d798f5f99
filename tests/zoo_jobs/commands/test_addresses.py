"""The ways in which verbs take the name of a zoo and its store, and their message for a store that does not exist."""

import json
from pathlib import Path

import pytest

from tests.support.synthetic import ATTEMPT, description, part_data
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import commit_part
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.catalogue.in_store import register
from zooforge.zoo_jobs.cli import main

ZOO = "digits8-cnn-s"
NAMED = [
    "benchmark",
    "fidelity",
    "logs",
    "report",
    "run",
    "slurm",
    "sparsify",
    "status",
    "train",
    "vectorize",
    "verify",
]
READING = {"benchmark": ["--out", "{tmp}/out"], "fidelity": [], "logs": [], "report": ["--out", "{tmp}/out"],
           "status": [], "vectorize": [], "verify": []}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> str:
    register(open_store(str(tmp_path / "store")), load(ZOO))
    return str(tmp_path / "store")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_name_with_a_store_and_an_address_mean_the_same_zoo(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{store}/zoos/{ZOO}"
    assert main(["status", ZOO, "--store", store]) == 0
    by_name = capsys.readouterr().out
    assert by_name.startswith(f"{ZOO}: waiting")
    for arguments in ([address], [address, "--store", f"{store}/"], [ZOO, address, "--store", store]):
        assert main(["status", *arguments]) == 0
        assert capsys.readouterr().out == by_name
    monkeypatch.setenv("ZOO_STORE", "/elsewhere")
    assert main(["status", address]) == 0
    assert capsys.readouterr().out == by_name


def test_an_address_and_another_store_contradict_each_other(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{store}/zoos/{ZOO}"
    assert "the address of another store" in refused(capsys, "status", address, "--store", f"{store}2")
    assert "zoos of several stores" in refused(capsys, "status", address, f"{store}2/zoos/{ZOO}")
    assert "leave out versions/1" in refused(capsys, "status", f"{address}/versions/1")


@pytest.mark.parametrize("verb", NAMED)
def test_help_names_both_ways(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "NAME may also be an address, STORE/zoos/NAME" in text and "--store URL" in text


@pytest.mark.parametrize("verb", READING)
@pytest.mark.parametrize("form", ["{name} --store {url}", "{url}/zoos/{name}"])
def test_a_store_that_does_not_exist_is_said_to_be_missing(
    verb: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = form.format(name=ZOO, url=tmp_path / "misspelt").split()
    line = refused(capsys, verb, *words, *(word.format(tmp=tmp_path) for word in READING[verb]))
    assert "misspelt" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["ls", "gc", "verify"])
def test_zoo_store_says_that_a_store_is_missing(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert "does not exist" in refused(capsys, "store", verb, "--store", str(tmp_path / "misspelt"))
    assert "which does not exist" in refused(capsys, "store", verb, "--store", str(tmp_path / "dangling"))


@pytest.mark.parametrize("name", ["brought", ZOO])
def test_the_status_of_an_imported_zoo_says_that_it_is_published_and_has_no_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path))
    commit_part(store, "ee" * 16, part_data(range(4), 0), ATTEMPT)
    vectorize(store, description(name, num_models=4), "ee" * 16)
    for asked in (name, "all"):
        assert main(["status", asked, "--store", str(tmp_path)]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: finished, imported as version 1")
    assert main(["status", name, "--store", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1
    if name == "brought":
        assert "was imported into" in refused(capsys, "logs", name, "--store", str(tmp_path))
