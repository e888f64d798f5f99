"""`zoo status`: the state of a run, its progress, cost and problems, as text and as JSON."""

import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from rich.console import Console

from tests.support import synthetic
from tests.support.controls import set_control
from tests.support.made_runs import NAME, MadeRun, parent, twins, whole_run
from zooforge.storage.errors import IncompleteRun, StoreRefused
from zooforge.storage.keys import publications_prefix
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.run_files import Control
from zooforge.storage.stores.clock import store_now
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.publishing.publish import publish
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.watching.facts import read_facts
from zooforge.zoo_jobs.watching.status import Status, status
from zooforge.zoo_jobs.watching.status_screen import lines, screen, span, watch


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def now_status(store: ObjectStore) -> Status:
    return status(read_facts(store, parent()), time.time())


def test_a_run_that_nobody_started_waits_with_nothing_done(store: ObjectStore) -> None:
    shown = now_status(store)
    assert (shown.state, shown.done, shown.last_commit, shown.eta_seconds) == ("waiting", 0, None, None)
    assert shown.total == 51 * shown.request["models"][1]


def test_a_run_is_live_while_its_driver_holds_its_claim(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.commit((0, 2), 0)
    shown = now_status(store)
    assert (shown.state, shown.done, shown.total) == ("live", 2, 12)
    assert shown.rate is not None
    assert shown.rate > 0
    run.leave()
    assert now_status(store).state == "waiting"


def test_a_driver_that_is_gone_without_a_record_is_a_problem_with_advice(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.commit((0, 2), 0)
    run.leave()
    (problem,) = now_status(store).problems
    assert problem.kind == "gone"
    assert "run the same command again" in problem.advice


def test_the_time_left_is_an_interval_once_a_few_parts_are_committed(store: ObjectStore) -> None:
    run = MadeRun(store, parent(), (0, 8), 4)
    for epoch in range(3):
        run.commit((0, 2), epoch)
        run.commit((1, 3), epoch)
    low, high = now_status(store).eta_seconds or (-1.0, -1.0)
    assert 0 < low <= high


def test_a_run_is_finished_when_everything_requested_is_committed(store: ObjectStore) -> None:
    whole_run(store, parent())
    shown = now_status(store)
    assert (shown.state, shown.done, shown.total) == ("finished", 12, 12)
    assert "not published yet" in shown.reason
    publish(store, parent())
    assert now_status(store).version == 1
    assert "version 1" in now_status(store).reason


def test_a_refused_publication_is_told_until_one_succeeds(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise StoreRefused("conditional writes are not atomic")

    whole_run(store, parent())
    with monkeypatch.context() as patch:
        patch.setattr("zooforge.zoo_jobs.publishing.publish.vectorize", refuse)
        with pytest.raises(StoreRefused):
            publish(store, parent())
    shown = now_status(store)
    assert shown.reason == "everything requested is trained, publishing it was refused"
    assert (shown.problems[-1].kind, shown.problems[-1].message) == (
        "refused",
        "not published: conditional writes are not atomic",
    )
    assert f"zoo vectorize {NAME}" in shown.problems[-1].advice
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setattr("platform.node", lambda: "workstation")
    publish(store, parent())
    shown = now_status(store)
    assert shown.problems == () and shown.published_by == "ann on workstation"
    assert any("version 1 published by ann on workstation" in line for line in lines(shown, time.time()))


def test_a_version_that_was_there_already_keeps_the_name_of_its_publisher(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_run(store, parent())
    for user in ("ann", "bob"):
        monkeypatch.setenv("LOGNAME", user)
        publish(store, parent())
    assert now_status(store).published_by.startswith("ann on ")


def test_publishing_what_is_not_trained_leaves_no_note(store: ObjectStore) -> None:
    MadeRun(store, parent())
    with pytest.raises(IncompleteRun):
        publish(store, parent())
    assert list(store.list(publications_prefix(parent().run_id))) == []


def test_a_stopped_run_says_why(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.end("stopped")
    set_control(store, parent().run_id, Control("stopped", "the cap of 3 dollars is reached"))
    shown = now_status(store)
    assert (shown.state, shown.reason) == ("stopped", "the cap of 3 dollars is reached")


def test_a_failed_run_gives_its_last_error_and_where_to_look(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.log(logging.ERROR, "unit 0 failed 3 times")
    run.end("failed")
    shown = now_status(store)
    assert (shown.state, shown.reason) == ("failed", "unit 0 failed 3 times")
    assert f"zoo logs {NAME}" in shown.problems[-1].advice


def test_dollars_are_split_by_the_time_that_ended_in_commits(store: ObjectStore) -> None:
    whole_run(store, parent())
    assert now_status(store).dollars == pytest.approx((1.5, 0.5))


def test_the_last_five_problems_are_shown_the_newest_last(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    for number in range(7):
        run.log(logging.WARNING, "x" * number + " gone", kind="preempted")
    problems = now_status(store).problems
    assert len(problems) == 5
    assert problems[-1].message == "xxxxxx gone"
    assert problems[-1].advice.startswith("nothing:")


@pytest.mark.parametrize(("ahead", "side"), [(3600.0, "behind"), (-3600.0, "ahead of")])
def test_a_clock_an_hour_off_is_named_and_times_are_the_stores(store: ObjectStore, ahead: float, side: str) -> None:
    run = MadeRun(store, parent())
    run.commit((0, 2), 0)
    with (
        mock.patch.object(time, "time", side_effect=lambda now=time.time: now() - ahead),
        mock.patch.object(store, "clock_ahead_seconds", ahead, create=True),
    ):
        shown = status(read_facts(store, parent()), store_now(store))
    assert (shown.state, shown.problems[-1].kind) == ("live", "clock")
    assert f"this machine's clock is 60 min {side} the store's" in shown.problems[-1].message
    assert shown.rate is not None


def test_silence_of_a_live_run_is_a_problem(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.commit((0, 2), 0)
    facts = read_facts(store, parent())
    assert status(facts, time.time()).problems == ()
    (problem,) = status(facts, time.time() + 3600).problems
    assert problem.kind == "quiet"


def test_many_faulty_models_are_a_problem(store: ObjectStore) -> None:
    whole_run(store, parent(), faulty={0: 1})
    shown = now_status(store)
    assert shown.models["faulty"] == 1
    assert [problem.kind for problem in shown.problems] == ["faulty"]


def test_faulty_models_are_no_problem_in_a_zoo_that_expects_them(store: ObjectStore) -> None:
    zoo = with_overrides(parent(), ["expected_faulty_ratio=0.3"], name="tiny-bold")
    assert zoo.run_id == parent().run_id
    whole_run(store, zoo, faulty={0: 1})
    shown = status(read_facts(store, zoo), time.time())
    assert (shown.models["faulty"], shown.problems) == (1, ())


def test_twins_whose_parents_are_not_trained_do_not_count(store: ObjectStore) -> None:
    whole_run(store, parent(), 4, 1)
    MadeRun(store, twins(1), (0, 8), 1)
    shown = status(read_facts(store, twins(1)), time.time())
    assert (shown.stage, shown.total) == ("sparsify", 8)


def test_a_second_read_of_the_status_reads_only_new_records(store: ObjectStore) -> None:
    run = whole_run(store, parent())
    facts = read_facts(store, parent())
    before = store.traffic.num_requests
    again = read_facts(store, run.zoo, facts.ledger)
    assert store.traffic.num_requests - before < 25
    assert status(again, 0.0) == status(facts, 0.0)


def test_json_has_the_keys_that_scripts_rely_on(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    whole_run(store, parent())
    assert main(["status", NAME, "--store", store.url, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    wanted = {"zoo", "run", "state", "reason", "request", "done", "total", "eta_seconds", "dollars", "last_commit"}
    assert wanted | {"problems"} <= set(shown)
    assert set(shown["dollars"]) == {"committed", "wasted"}


def test_several_names_or_all_give_a_list(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    whole_run(store, parent())
    assert main(["status", "all", "--store", store.url, "--json"]) == 0
    assert [one["zoo"] for one in json.loads(capsys.readouterr().out)] == [NAME]
    assert main(["status", NAME, "mnist5k-cnn-s", "--store", store.url, "--json"]) == 0
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == ["finished", "waiting"]


def test_people_see_the_twins_with_their_zoo(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    whole_run(store, parent(), 4, 1)
    whole_run(store, twins(1), 4, 2)
    assert main(["status", NAME, "--store", store.url]) == 0
    shown = capsys.readouterr().out
    assert f"{NAME}: finished" in shown
    assert f"{NAME}-vd-e001: finished" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "digits9-cnn-s"], "did you mean 'digits8-cnn-s'"),
        (["status", "all"], "holds no zoo"),
        (["status", NAME, "--watch", "--json"], "--watch is for people"),
        (["logs", NAME, "--since", "yesterday"], "expected an age such as"),
        (["logs", NAME, "--level", "loud"], "is not one of"),
        (["report", "digits8-cnn-s", "--out", "x"], "no published version"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    store: ObjectStore, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert store.root is not None
    store.root.mkdir()
    assert main([*arguments, "--store", store.url]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_screen_fits_eighty_columns_and_says_everything(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    run.commit((0, 2), 0)
    run.log(logging.WARNING, "a worker was lost", kind="preempted")
    stream = io.StringIO()
    shown = now_status(store)
    Console(file=stream, width=80).print(screen([shown], time.time()))
    shown = stream.getvalue()
    assert all(len(line) <= 80 for line in shown.splitlines())
    for word in (NAME, "live", "2 of 12 model-epochs", "last commit", "a worker was lost", "taken up by another"):
        assert word in shown


def test_watching_without_a_terminal_prints_each_change_once_and_ends_with_the_run(store: ObjectStore) -> None:
    run = MadeRun(store, parent())
    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: run.commit((0, 2), 0),
        lambda: run.end("stopped"),
        lambda: set_control(store, parent().run_id, Control("stopped", "enough")),
    ]

    def look() -> list[Status]:
        return [now_status(store)]

    def sleep(seconds: float) -> None:
        steps.pop(0)()

    stream = io.StringIO()
    watch(look, 0.0, stream, clock=lambda: 0.0, sleep=sleep)
    shown = stream.getvalue()
    assert f"{NAME}: live" in shown
    assert shown.rstrip().splitlines()[-4:][0].startswith(f"{NAME}: stopped, enough")
    assert steps == []


def test_lines_name_the_request(store: ObjectStore) -> None:
    whole_run(store, parent())
    assert "models 0:4 to epoch 2" in "\n".join(lines(now_status(store), time.time()))


@pytest.mark.parametrize(
    ("low", "high", "said"), [(240, 360, "4 to 6 min"), (240, 240, "4 min"), (90, 9000, "90 s to 2.5 h")]
)
def test_an_interval_has_its_unit_once(low: float, high: float, said: str) -> None:
    assert span(low, high) == said


def test_an_imported_zoo_is_finished_and_has_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path))
    synthetic.train(store, (0, 1), 2, run="ee" * 16, faulty={1: 2})
    vectorize(store, synthetic.description("brought", num_models=2), "ee" * 16)
    for names in (["brought"], ["all"]):
        assert main(["status", *names, "--store", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        assert "brought: finished, imported as version 1, nothing was grown in this store" in text
        assert "1 done, 0 training, 0 waiting, 1 faulty" in text
    assert main(["status", "brought", "--json", "--store", str(tmp_path)]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["state"], value["done"], value["total"], value["version"]) == ("finished", 6, 6, 1)
    assert main(["status", "brough", "--store", str(tmp_path)]) == 2
