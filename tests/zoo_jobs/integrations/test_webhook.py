"""The webhook posts ends of runs and problems, and its failures do not disturb the run."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.simulated_runs import committed, started
from tests.support.web_server import Quiet, serve
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.events import Problem, StageEnded
from zooforge.zoo_jobs.integrations.webhook import Webhook, webhook_from


@dataclass
class Receiver:
    """Takes POSTs; answers with each of ``statuses``, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(Quiet):
        def do_POST(self) -> None:
            state.tries += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = state.statuses.pop(0) if state.statuses else 200
            if status == 200:
                state.got.append(json.loads(body))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

    with serve(Handler) as address:
        state.url = f"{address}/hook/secret-token"
        yield state


def test_the_end_of_a_run_and_problems_that_need_a_person_are_posted_and_nothing_else(receiver: Receiver) -> None:
    with Webhook(receiver.url, clock=lambda: 86_400.0) as webhook:
        webhook(started("tiny", done=8))
        webhook(committed("tiny", range(8), 1))
        webhook(Problem("tiny", "train", "preempted", "a worker had to leave"))
        webhook(Problem("tiny", "train", "store", "no answer\nfrom the store"))
        webhook(Problem("tiny", "train", "store", "no answer again"))  # said within the hour
        webhook(StageEnded("tiny", "train", "stopped"))
        webhook(StageEnded("tiny", "train", "finished"))
        webhook(StageEnded("tiny", "train", "failed"))
    assert [one["event"] for one in receiver.got] == ["needs-you", "stopped", "finished", "needs-you"]
    assert receiver.got[0]["message"] == "no answer from the store"
    assert receiver.got[2] == {
        "event": "finished",
        "zoo": "tiny",
        "run": "a" * 32,
        "stage": "train",
        "message": "train of tiny finished; 16 model-epochs are in the store",
        "time": "1970-01-02T00:00:00Z",
    }


def test_a_temporary_failure_of_the_receiver_is_tried_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    with Webhook(receiver.url, pauses_seconds=(0.0, 0.0)) as webhook:
        webhook(StageEnded("tiny", "train", "finished"))
    assert len(receiver.got) == 1 and receiver.tries == 3


@pytest.mark.parametrize("status", [404, 302])
def test_a_refusal_is_logged_without_the_url_and_not_tried_again(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [status]
    with Webhook(receiver.url, pauses_seconds=(0.0, 0.0)) as webhook:
        webhook(StageEnded("tiny", "train", "finished"))
        assert "secret-token" not in repr(webhook)
    assert receiver.tries == 1
    (record,) = caplog.records
    assert record.__dict__["reason"] == f"status {status}"
    assert "secret-token" not in str(record.__dict__)


def test_a_receiver_that_is_not_there_is_logged_without_the_url(caplog: pytest.LogCaptureFixture) -> None:
    with Webhook("http://127.0.0.1:9/secret-token", pauses_seconds=(0.1,)) as webhook:
        webhook(StageEnded("tiny", "train", "finished"))
    assert "secret-token" not in str([record.__dict__ for record in caplog.records])
    assert caplog.records[0].__dict__["reason"] == "ConnectionRefusedError"


def test_a_receiver_that_never_answers_delays_neither_the_run_nor_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zooforge.zoo_jobs.integrations.webhook.CLOSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with Webhook(url, timeout_seconds=5, pauses_seconds=()) as webhook:
            webhook(StageEnded("tiny", "train", "finished"))
        assert [record.getMessage() for record in caplog.records] == ["the webhook did not answer in time"]


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.org/secret-token",
        "https://hooks.example.org:secret-token/",
        "https://[secret-token/",
        "https://hooks.example.org/secret-token\nHost: elsewhere",
        "https://somebody:secret-token@hooks.example.org/",
        "https://secret-token@hooks.example.org/",
        "https://@hooks.example.org/secret-token",
    ],
)
def test_anything_but_an_url_without_user_name_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="ZOO_WEBHOOK_URL") as refused:
        webhook_from({"ZOO_WEBHOOK_URL": url})
    assert "secret-token" not in str(refused.value)
    assert refused.value.__cause__ is None and "\n" not in str(refused.value)


def test_without_an_url_there_is_no_webhook() -> None:
    assert webhook_from({}) is None
