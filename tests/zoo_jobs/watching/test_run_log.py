"""Events of a run, through the store and back."""

import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.made_runs import NAME, MadeRun, parent
from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs import logs
from zooforge.zoo_jobs.catalogue.in_store import register
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.events import PartCommitted, Problem, StageEnded, StageStarted
from zooforge.zoo_jobs.watching.facts import read_facts
from zooforge.zoo_jobs.watching.progress import ProgressObserver
from zooforge.zoo_jobs.watching.run_log import RunLog, StoreLogHandler, read_logs
from zooforge.zoo_jobs.watching.status import status


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def record(message: str, created: float, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "zooforge.x", "levelno": level, "levelname": logging.getLevelName(level)})
    made.msg, made.created = message, created
    return made


def test_events_come_back_by_time_with_the_run_id_on_every_line(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    for source, times in (("driver", (3.0, 1.0)), ("worker-1", (2.0,))):
        handler = StoreLogHandler(store, run.zoo.run_id, run.attempt, source)
        for at in times:
            handler.handle(record(f"{source} at {at:.0f}", at))
            handler.save()
        handler.close()
    lines = list(read_logs(store, run.zoo.run_id))
    assert [event["message"] for event in lines] == ["driver at 1", "worker-1 at 2", "driver at 3"]
    assert {event["run"] for event in lines} == {run.zoo.run_id}


def test_a_store_that_does_not_answer_costs_no_event(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = MadeRun(store, parent())
    handler = StoreLogHandler(store, run.zoo.run_id, run.attempt, "driver")
    handler.handle(record("first", 1.0))

    def fail(*arguments: object, **options: object) -> str:
        raise StoreUnreachable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "put", fail)
        handler.save()
    handler.handle(record("second", 2.0))
    handler.close()
    assert [event["message"] for event in read_logs(store, run.zoo.run_id)] == ["first", "second"]


def test_the_oldest_events_go_first_when_memory_is_short(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    handler = StoreLogHandler(store, run.zoo.run_id, run.attempt, "driver", most=3)
    for number in range(10):
        handler.handle(record(str(number), float(number)))
    handler.close()
    assert [event["message"] for event in read_logs(store, run.zoo.run_id)] == ["7", "8", "9"]


def test_level_and_since_leave_out_the_rest(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    handler = StoreLogHandler(store, run.zoo.run_id, run.attempt, "driver")
    for at, level in ((10.0, logging.WARNING), (20.0, logging.INFO), (30.0, logging.ERROR)):
        handler.handle(record(f"{at:.0f}", at, level))
    handler.close()
    assert [e["message"] for e in read_logs(store, run.zoo.run_id, level="warning")] == ["10", "30"]
    assert [e["message"] for e in read_logs(store, run.zoo.run_id, since=15.0)] == ["20", "30"]


def test_lines_that_are_no_events_are_passed_over(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.log(logging.INFO, "good")
    store.put(f"runs/{run.zoo.run_id}/logs/{run.attempt}/other/000000.jsonl", b'{"time": 3}\nnot json\n[]\n"x"\n\xff\n')
    assert [event["message"] for event in read_logs(store, run.zoo.run_id)] == ["good"]


def test_the_command_prints_sentences_or_the_stored_json(
    store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run = MadeRun(store, parent())
    run.log(logging.WARNING, "a task failed", unit=256, error="no memory")
    assert main(["logs", NAME, "--store", store.url, "--since", "1h"]) == 0
    assert "warning  a task failed (unit=256 error=no memory)" in capsys.readouterr().out
    assert main(["logs", NAME, "--store", store.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unit"] == 256


def test_a_run_without_events_says_so_on_stderr(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    register(store, parent())
    assert main(["logs", NAME, "--store", store.url]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no such events" in shown.err


def committed(zoo: str) -> PartCommitted:
    return PartCommitted(
        zoo=zoo, stage="train", models=(0, 2), epochs=(1,), num_faulty={"nan": 1}, test_accuracy=np.array([0.5, 0.7]),
        sparsity=np.zeros(0), samples=80, train_seconds=1.0, commit_seconds=0.5, bytes_written=9, won=True,
    )  # fmt: skip


def test_events_of_a_run_are_in_its_log_and_problems_reach_the_status(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    now = [0.0]
    with RunLog(store, run.zoo.run_id, run.attempt, clock=lambda: now[0]) as log:
        log(StageStarted(NAME, run.zoo.run_id, "train", 4, 2, 0, 12, 4, "lanes"))
        log(committed(NAME))
        assert list(read_logs(store, run.zoo.run_id)) == []  # saved at most every half minute
        log(Problem(NAME, "train", "preempted", "a worker was lost"))
        assert len(list(read_logs(store, run.zoo.run_id))) == 3
        now[0] = 31.0
        log(committed(NAME))
        assert len(list(read_logs(store, run.zoo.run_id))) == 4
        logging.getLogger("zooforge.zoo_jobs.running.driver").info("a detail", extra={"unit": 7})
        log(StageEnded(NAME, "train", "finished"))
    lines = list(read_logs(store, run.zoo.run_id))
    assert [event["message"] for event in lines][-2:] == ["a detail", "stage ended"]
    assert {"first_model": 0, "epoch": 1, "test_accuracy": 0.6}.items() <= lines[1].items()
    (problem,) = status(read_facts(store, parent()), time.time()).problems
    assert (problem.kind, problem.message) == ("preempted", "a worker was lost")


def test_a_driver_that_fails_leaves_its_error(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    with pytest.raises(OSError, match="no memory"), RunLog(store, run.zoo.run_id, run.attempt):
        raise OSError("no memory")
    run.end("failed")
    assert "no memory" in status(read_facts(store, parent()), time.time()).reason


def test_a_run_log_leaves_loggers_and_the_terminal_as_they_were(
    store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run = MadeRun(store, parent())
    logs.set_up(verbose=False)
    logger = logging.getLogger("zooforge")
    before = logger.level, [(handler, handler.level) for handler in logger.handlers]
    with RunLog(store, run.zoo.run_id, run.attempt):
        logging.getLogger("zooforge.x").info("for the store only")
        logging.getLogger("zooforge.x").warning("for both")
    assert (logger.level, [(handler, handler.level) for handler in logger.handlers]) == before
    assert capsys.readouterr().err == "for both\n"
    assert [event["message"] for event in read_logs(store, run.zoo.run_id)] == ["for the store only", "for both"]


def test_in_pods_events_and_progress_are_json_lines_that_name_the_run(
    store: ObjectStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MadeRun(store, parent())
    with monkeypatch.context() as patched:
        patched.setenv("ZOO_LOG", "json")
        logs.set_up(verbose=False)
    try:
        with RunLog(store, run.zoo.run_id, run.attempt) as log, ProgressObserver() as progress:
            for observer in (progress, log):
                observer(StageStarted(NAME, run.zoo.run_id, "train", 4, 2, 0, 12, 4, "lanes"))
            logging.getLogger("zooforge.x").info("a detail")
        logging.getLogger("zooforge.x").info("of no run")
    finally:
        logs.set_up(verbose=False)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    first = "0 of 12 model-epochs are in the store"
    assert [line["message"][-len(first) :] for line in lines] == [first, "stage started", "a detail", "of no run"]
    assert [line.get("run") for line in lines] == [run.zoo.run_id] * 3 + [None]
    assert [event["message"] for event in read_logs(store, run.zoo.run_id)] == ["stage started", "a detail"]
