"""Runs that are stopped or removed: they stay so until somebody submits them again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.controls import set_control
from tests.support.submitted_jobs import RUN, ZOO, submit, wanted
from zooforge.storage.publish.head import list_zoos
from zooforge.storage.runs.run_files import Control, read_attempts, read_control, stop_run
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.spec.twins import Zoo, twins_of
from zooforge.zoo_jobs.unattended import life
from zooforge.zoo_jobs.unattended.__main__ import main
from zooforge.zoo_jobs.unattended.lives import job_attempts


def test_stopped_stays_stopped_for_the_same_job_and_goes_on_for_a_new_one(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.append(75)
    submit(store, monkeypatch, "j1")
    assert main(["stop", ZOO, "--store", store.url, "--reason", "holidays"]) == 0
    assert submit(store, monkeypatch, "j1") == 0
    assert (wanted(store).wanted, wanted(store).reason) == ("stopped", "holidays")
    ends.append(0)
    assert submit(store, monkeypatch, "j2") == 0
    assert wanted(store).wanted == "run"
    resumed = {one.start["job"]: one.start["resumed"] for one in job_attempts(read_attempts(store, RUN))}
    assert resumed == {"j1": False, "j2": True}


def test_a_stop_just_before_a_life_starts_is_obeyed(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.append(75)
    submit(store, monkeypatch, "j1")
    count = life.num_parts

    def stop_meanwhile(opened: ObjectStore, stages: Sequence[Zoo]) -> int:
        stop_run(store, stages[-1].run_id, "enough")
        return count(opened, stages)

    monkeypatch.setattr(life, "num_parts", stop_meanwhile)
    monkeypatch.setenv("ZOO_REQUEST", '{"zoo": "mnist5k-cnn-s", "epochs": 2, "again": true}')
    monkeypatch.setenv("ZOO_JOB", "j2")
    assert main(["run", ZOO, "--store", store.url]) == 0
    assert (wanted(store).wanted, wanted(store).reason) == ("stopped", "enough")


def test_a_zoo_that_is_being_removed_is_not_started(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends.append(75)
    submit(store, monkeypatch, "j1")
    stop_run(store, RUN, "it is being removed", removing=True)
    capsys.readouterr()
    assert submit(store, monkeypatch, "j2") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{ZOO} is being removed from {store.url}; `zoo store rm {ZOO} --yes` finishes that" in line
    assert wanted(store).removing
    # The remover died before its last deletion, or has not done it yet.
    store.delete(f"zoos/{ZOO}/spec.json")
    assert submit(store, monkeypatch, "j2") == 0
    assert "at this moment; try again in a few minutes" in capsys.readouterr().err
    monkeypatch.setattr(life.in_store, "REMOVAL_VOID_SECONDS", -10.0)
    ends.append(75)
    assert submit(store, monkeypatch, "j2") == 75
    assert (wanted(store).wanted, wanted(store).removing) == ("run", False)
    assert list_zoos(store) == [ZOO]


def test_a_job_whose_zoo_is_removed_meanwhile_ends_and_writes_no_more(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def removed() -> int:
        for stat in [*store.list("runs/"), *store.list("zoos/")]:
            store.delete(stat.key)
        return 75

    ends.append(removed)
    assert submit(store, monkeypatch, "j1") == 0
    assert f"{ZOO} was removed meanwhile, with its run" in capsys.readouterr().err
    assert read_attempts(store, RUN) == [] and read_control(store, RUN) is None


def test_a_stop_of_the_twins_alone_stops_the_next_attempt(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = twins_of(entries.load(ZOO), source_epoch=2).run_id

    def killed_after_its_cap() -> int:
        stop_run(store, twins, "the cap of 3 dollars is reached")
        raise KeyboardInterrupt

    ends.append(killed_after_its_cap)
    with pytest.raises(KeyboardInterrupt):
        submit(store, monkeypatch, "j1")
    assert submit(store, monkeypatch, "j1") == 0
    assert (wanted(store).wanted, wanted(store).reason) == ("stopped", "the cap of 3 dollars is reached")


def test_a_job_that_was_stopped_before_its_first_life_was_on_record_stays_stopped(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(life, "start_attempt", killed)
        submit(store, patched, "j1")
    assert main(["stop", ZOO, "--store", store.url, "--reason", "enough"]) == 0
    assert submit(store, monkeypatch, "j1") == 0
    assert wanted(store).wanted == "stopped"


def test_the_store_records_who_began_a_run_and_who_stopped_it(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_ACCOUNT", "zoos/zooforge")
    monkeypatch.setenv("LOGNAME", "ada")
    ends.append(75)
    assert submit(store, monkeypatch, "j1") == 75
    (one,) = job_attempts(read_attempts(store, RUN))
    assert {name: one.start[name] for name in ("user", "host", "account")} == {
        "user": "ada",
        "host": platform.node(),
        "account": "zoos/zooforge",
    }
    monkeypatch.delenv("ZOO_ACCOUNT")
    assert main(["stop", ZOO, "--store", store.url]) == 0
    assert wanted(store).reason == f"by ada on {platform.node()}"


def test_stopping_a_zoo_stops_the_twins_of_the_request(store: ObjectStore) -> None:
    set_control(store, RUN, Control("run", "", {"models": [0, 4], "epochs": 2}))
    assert main(["stop", ZOO, "--store", store.url, "--reason", "enough"]) == 0
    assert (wanted(store).wanted, wanted(store).request["epochs"]) == ("stopped", 2)
    twins = read_control(store, twins_of(entries.load(ZOO), source_epoch=2).run_id)
    assert twins is not None
    assert (twins.wanted, twins.reason) == ("stopped", "enough")
