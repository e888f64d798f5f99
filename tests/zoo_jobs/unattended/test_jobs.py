"""The exit statuses for a scheduler, and the end of retries."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.controls import set_control
from tests.support.submitted_jobs import RUN, ZOO, submit, wanted
from zooforge.storage.runs.run_files import Attempt, Control, read_attempts, read_control, stop_run
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs import cli
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.unattended import life
from zooforge.zoo_jobs.unattended.__main__ import main
from zooforge.zoo_jobs.unattended.listing import pending
from zooforge.zoo_jobs.unattended.lives import job_attempts, reason_to_give_up


def attempt(parts: int, status: int | None, resumed: bool = False) -> Attempt:
    start = {"stage": "job", "parts": parts, "resumed": resumed, "job": "j"}
    return Attempt("a", start, None if status is None else {"status": status})


@pytest.mark.parametrize(
    ("known", "parts_now", "stops"),
    [
        ([attempt(0, 1)] * 2, 0, False),
        ([attempt(0, 1)] * 3, 0, True),
        ([attempt(0, 1)] * 3, 1, False),
        ([attempt(0, 1), attempt(0, 1), attempt(5, 1)], 5, False),
        ([attempt(5, 1), attempt(5, 75), attempt(5, 1), attempt(5, None), attempt(5, 1)], 5, True),
        ([attempt(0, 75)] * 30, 0, False),
        ([attempt(0, None)] * 9, 0, False),
        ([attempt(0, None)] * 10, 0, True),
        ([attempt(0, None)] * 5 + [attempt(0, 75)] + [attempt(0, None)] * 5, 0, False),
        ([attempt(0, 1), attempt(0, 1), attempt(0, 1, resumed=True)], 0, False),
        ([attempt(0, 1)] * 3 + [attempt(0, 0)], 0, False),
    ],
)
def test_three_failures_or_ten_kills_without_a_new_part_are_enough(
    known: list[Attempt], parts_now: int, stops: bool
) -> None:
    assert (reason_to_give_up(known, parts_now) is not None) == stops


def test_a_run_that_ends_well_ends_with_0(store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ends.append(0)
    assert submit(store, monkeypatch, "j1") == 0
    (one,) = job_attempts(read_attempts(store, RUN))
    assert one.end is not None
    assert (one.start["job"], one.end["status"]) == ("j1", 0)
    assert pending(store, "zoos/zooforge") == []


def test_preemption_is_tried_again_without_end(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.extend([75] * 5)
    assert [submit(store, monkeypatch, "j1") for _ in range(5)] == [75] * 5


def test_a_crash_that_repeats_costs_three_lives_and_is_not_begun_a_fourth_time(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.extend([1] * 3)
    assert [submit(store, monkeypatch, "j1") for _ in range(4)] == [1, 1, 0, 0]
    assert wanted(store).wanted == "stopped"
    assert "3 attempts failed" in wanted(store).reason


def test_a_run_begins_as_often_as_allowed_however_much_it_commits_and_goes_on_when_submitted_again(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that is lost again and again resets every counter of KubeRay, but not the one in the store."""
    monkeypatch.setenv("ZOO_MAX_LIVES", "4")
    ends.extend([75] * 8)
    assert [submit(store, monkeypatch, f"j{number}") for number in range(4)] == [75] * 4
    assert submit(store, monkeypatch, "j4") == 0
    assert wanted(store).wanted == "stopped"
    assert wanted(store).reason.startswith("it has begun 4 times, and run.maxLives allows 4; 0 parts are committed")
    assert submit(store, monkeypatch, "j3") == 0  # the job that was stopped stays stopped
    assert len(ends) == 4
    assert [submit(store, monkeypatch, f"j{number}") for number in range(5, 9)] == [75] * 4
    assert submit(store, monkeypatch, "j9") == 0


def test_a_run_whose_time_is_over_does_not_begin(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MAX_RUN_HOURS", "24")
    ends.extend([75, 75])
    assert submit(store, monkeypatch, "j1") == 75
    now = life.store_now(store)
    monkeypatch.setattr(life, "store_now", lambda store: now + 23.9 * 3600)
    assert submit(store, monkeypatch, "j1") == 75
    monkeypatch.setattr(life, "store_now", lambda store: now + 24.1 * 3600)
    assert submit(store, monkeypatch, "j1") == 0
    assert wanted(store).reason.startswith("it was begun more than 24 hours ago, which run.maxHours allows")


def test_a_run_whose_time_ends_is_stopped_while_it_works(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_stopped() -> int:
        while wanted(store).wanted == "run":
            time.sleep(0.01)
        return 75

    monkeypatch.setenv("ZOO_MAX_RUN_HOURS", "0.00001")
    ends.append(until_stopped)
    assert submit(store, monkeypatch, "j1") == 0
    assert "run.maxHours" in wanted(store).reason
    assert pending(store, "zoos/zooforge") == []


@pytest.mark.parametrize("name", ["ZOO_MAX_LIVES", "ZOO_MAX_RUN_HOURS"])
def test_a_bound_that_is_no_number_is_bad_input(
    name: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "many")
    assert submit(store, monkeypatch, "j1") == 0
    assert (
        "bad input, not tried again: ZOO_MAX_LIVES and ZOO_MAX_RUN_HOURS have to be numbers" in capsys.readouterr().err
    )
    assert read_attempts(store, RUN) == []


def test_bad_input_is_not_tried_again(store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ends.append(2)
    assert submit(store, monkeypatch, "j1") == 0
    assert wanted(store).reason.startswith("refused: ")


def test_an_unknown_zoo_is_not_tried_again(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mnist5k-cnn-x", "--store", store.url]) == 0
    assert "bad input, not tried again: unknown zoo 'mnist5k-cnn-x'" in capsys.readouterr().err


def test_a_cap_ends_the_run_and_keeps_its_reason(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def capped() -> int:
        set_control(store, RUN, Control("stopped", "the cap of 0 dollars is reached"))
        return 75

    ends.append(capped)
    assert submit(store, monkeypatch, "j1") == 0
    assert wanted(store).reason == "the cap of 0 dollars is reached"


def test_a_cap_that_its_twins_reach_ends_the_zoo_too(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = twins_of(entries.load(ZOO), source_epoch=2).run_id

    def capped() -> int:
        stop_run(store, twins, "the cap of 3 dollars is reached")
        return 75

    ends.append(capped)
    assert submit(store, monkeypatch, "j1") == 0
    assert (wanted(store).wanted, wanted(store).reason) == ("stopped", "the cap of 3 dollars is reached")
    control = read_control(store, twins)
    assert control is not None and control.wanted == "stopped"


def test_a_defect_is_a_failed_life_and_is_shown(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect() -> int:
        raise RuntimeError("a defect")

    ends.append(defect)
    assert submit(store, monkeypatch, "j1") == 1
    assert "RuntimeError: a defect" in capsys.readouterr().err


def test_the_request_alone_decides_what_is_trained(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda given: arguments.append(given) or 0)
    asked = {"models": "0:4", "epochs": 2, "no_twins": True, "max_hours": 2.5, "max_workers": 3, "zoo": ZOO}
    asked |= {"single_writer": True, "allow_code": True}
    monkeypatch.setenv("ZOO_REQUEST", json.dumps(asked))
    assert main(["run", ZOO, "--store", store.url, "--slots", "8"]) == 0
    options = "--unattended --models 0:4 --epochs 2 --no-twins --single-writer --allow-code --max-hours 2.5 --slots 8"
    assert arguments == [["run", ZOO, "--store", store.url, *options.split()]]
    control = read_control(store, RUN)
    assert control is not None
    assert control.request == asked


def test_a_spec_travels_with_its_request(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(cli, "main", lambda given: seen.append(Path(given[1]).read_text()) or 0)
    spec = (entries.FOLDER / f"{ZOO}.yaml").read_text().replace(f"name: {ZOO}", "name: my-zoo")
    monkeypatch.setenv("ZOO_REQUEST", json.dumps({"zoo": "my-zoo", "spec": spec}))
    assert main(["run", "my-zoo", "--store", store.url]) == 0
    assert seen == [spec]


def test_a_scheduler_starts_the_package_as_a_program(store: ObjectStore) -> None:
    command = [sys.executable, "-m", "zooforge.zoo_jobs.unattended", "begun", "--store", store.url, "--origin", "a"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ("[1]", "not a JSON object"), ('{"epochs": "2"}', "epochs")]
)
def test_a_request_that_cannot_be_read_is_not_tried_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    monkeypatch.setenv("ZOO_REQUEST", text)
    assert main(["run", ZOO, "--store", store.url]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoo: bad input, not tried again: ZOO_REQUEST") and said in line
    assert not list(store.list(""))
