"""Jobs on a store whose conditional writes are not atomic."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import pytest

from tests.support.submitted_jobs import ZOO, submit, wanted
from zooforge.storage.publish.head import list_zoos, read_head
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import read_control
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs import cli
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.unattended.__main__ import main


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, by which files are created atomically."""

    def link(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


def test_a_job_on_a_store_that_is_not_atomic_is_refused_at_once_and_writes_nothing(
    store: ObjectStore, no_hard_links: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(store, monkeypatch, "j1") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoo: not tried again: ") and "the file system has no hard links" in line
    assert "--single-writer allows one driver without rivals" in line
    assert not list(store.list(""))


def test_a_job_of_a_single_writer_trains_on_a_store_that_is_not_atomic_and_publishes_nothing(
    store: ObjectStore, no_hard_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo_run = cli.main
    monkeypatch.setattr(cli, "main", lambda given: zoo_run([*given, "--ray", "none", "--no-metrics", "--quiet"]))
    asked = {"zoo": "digits8-cnn-s", "models": "0:2", "epochs": 1, "no_twins": True, "single_writer": True}
    monkeypatch.setenv("ZOO_REQUEST", json.dumps(asked))
    assert main(["run", "digits8-cnn-s", "--store", store.url, "--slots", "1"]) == 0
    run = entries.load("digits8-cnn-s").run_id
    assert {read_ledger(store, run).num_epochs(model) for model in range(2)} == {2}
    control = read_control(store, run)
    assert control is not None and (control.wanted, control.request["single_writer"]) == ("stopped", True)
    assert "nothing is published here" in control.reason and "`zoo store pull`" in control.reason
    assert list_zoos(store) == ["digits8-cnn-s"] and read_head(store, "digits8-cnn-s") is None


def test_the_run_of_a_single_writer_is_stopped_and_stays_so(
    store: ObjectStore,
    ends: list[Any],
    no_hard_links: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["stop", ZOO, "--store", store.url]) == 2  # nothing says that this store has a single writer
    assert "the file system has no hard links" in capsys.readouterr().err
    assert main(["stop", ZOO, "--store", store.url, "--single-writer"]) == 0  # a run that never began
    monkeypatch.setenv("ZOO_REQUEST", '{"zoo": "mnist5k-cnn-s", "epochs": 2, "single_writer": true}')
    monkeypatch.setenv("ZOO_JOB", "j1")
    ends.append(75)
    arguments = ["run", ZOO, "--store", store.url]
    assert main(arguments) == 75
    assert main(["stop", ZOO, "--store", store.url, "--reason", "holidays"]) == 0
    assert main(arguments) == 0
    assert (wanted(store).wanted, wanted(store).reason) == ("stopped", "holidays")
