"""Publishing on Zenodo, against a server that speaks its documented API, in order and with every fault."""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_service import serving
from tests.support.synthetic import RUN, description, train
from tests.support.zenodo_server import TOKEN, Zenodo
from zooforge.storage.deposit import zenodo_client
from zooforge.storage.deposit.parcel import Parcel
from zooforge.storage.deposit.send import target_of
from zooforge.storage.deposit.to_store import Published
from zooforge.storage.errors import CredentialsRefused, StorageError, StorageUsageError, StoreRefused, StoreUnreachable
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.papers import Credits
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.retries import RetryPolicy
from zooforge.storage.zoo import Zoo, open_zoo

JANE = Credits(("Doe, Jane",), 2026)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zenodo]:
    monkeypatch.setattr(zenodo_client, "RETRIES", RetryPolicy(5.0, first_pause_seconds=0.0, max_pause_seconds=0.0))
    with serving(Zenodo()) as running:
        monkeypatch.setenv("ZENODO_URL", running.address)
        monkeypatch.setenv("ZENODO_SANDBOX_TOKEN", TOKEN)
        yield running


def publish(zoo: Zoo, yes: bool = False, credits: Credits = JANE) -> Published:
    target = target_of("zenodo-sandbox", publish_draft=yes)
    return target.publish(Parcel(zoo, credits), lambda size: None)


def count(server: Zenodo, verb: str, part: str) -> int:
    return sum(v == verb and part in path for v, path in server.requests)


def test_the_first_command_leaves_a_draft_and_yes_publishes_it_without_a_second_upload(
    zoo: Zoo, server: Zenodo, tmp_path: Path
) -> None:
    draft = publish(zoo)
    assert draft.draft and draft.doi == "10.5281/zenodo.1000" and server.visible == {}
    uploads = count(server, "PUT", "/api/files/")
    done = publish(zoo, yes=True)
    assert (done.draft, done.new, done.doi) == (False, True, draft.doi)
    assert count(server, "PUT", "/api/files/") == uploads
    (files,) = server.visible.values()
    for line in files["SHA256SUMS"].decode().splitlines():
        sha256, name = line.split("  ")
        assert hashlib.sha256(files[name]).hexdigest() == sha256
    assert b"10.5281/zenodo.1000" in files["CITATION.cff"]
    (tmp_path / "tiny-zoo.zip").write_bytes(files["tiny-zoo.zip"])
    copy = open_zoo(tmp_path / "tiny-zoo.zip/zoos/tiny-zoo")
    assert copy.manifest == zoo.manifest and verify_zoo(copy).ok
    metadata = server.depositions[1000]["metadata"]
    assert metadata["creators"] == [{"name": "Doe, Jane"}] and metadata["license"] == "cc-by-4.0"
    again = publish(zoo, yes=True)
    assert not again.new and len(server.depositions) == 1


def test_the_plan_has_the_files_that_are_uploaded(zoo: Zoo, server: Zenodo) -> None:
    plan = target_of("zenodo-sandbox").plan(Parcel(zoo, JANE))
    publish(zoo)
    assert plan.num_files == len(server.buckets[1000]) and "tiny-zoo.zip holds" in plan.packed
    packed = len(server.buckets[1000]["tiny-zoo.zip"])
    assert abs(plan.num_bytes - sum(map(len, server.buckets[1000].values()))) < 0.25 * packed


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_croissant_of_a_record_loads(zoo: Zoo, server: Zenodo, tmp_path: Path) -> None:
    publish(zoo)
    value = json.loads(server.buckets[1000]["croissant.json"])
    assert {f["containedIn"]["@id"] for f in value["distribution"][1:]} == {"tiny-zoo.zip"}
    mlcroissant: Any = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    for name, data in server.buckets[1000].items():
        (tmp_path / name).write_bytes(data)
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert len(list(dataset.records("labels"))) == zoo.labels().num_rows


def test_a_zoo_that_grew_is_a_new_version_of_its_record(zoo: Zoo, server: Zenodo) -> None:
    publish(zoo, yes=True)
    train(zoo.store, range(6), 4)
    vectorize(zoo.store, description(num_models=6, num_epochs=3), RUN)
    grown = open_zoo(f"{zoo.store.url}/zoos/tiny-zoo")
    done = publish(grown, yes=True)
    assert (done.number, done.new, sorted(server.visible)) == (2, True, [1000, 1001])
    assert set(server.buckets[1001]) == set(server.buckets[1000])
    assert b'version: "2"' in server.buckets[1001]["CITATION.cff"]


@pytest.mark.parametrize("fault", [429, 500, 503, "cut"])
def test_temporary_failures_are_retried(fault: int | str, zoo: Zoo, server: Zenodo) -> None:
    met: set[tuple[str, str]] = set()

    def once(verb: str, path: str) -> int | str | None:
        if (verb, path) in met or (fault == "cut" and verb != "PUT"):
            return None
        met.add((verb, path))
        return fault

    server.fault = once
    seen: list[int] = []
    target = target_of("zenodo-sandbox", publish_draft=True)
    done = target.publish(Parcel(zoo, JANE), seen.append)
    assert done.new and sum(seen) == sum(map(len, server.visible[1000].values()))


@pytest.mark.parametrize("number", range(1, 24, 2))
def test_a_publication_killed_at_any_request_shows_nothing_and_can_continue(
    number: int, zoo: Zoo, server: Zenodo
) -> None:
    server.die_after(number)
    try:
        done = publish(zoo, yes=True)
    except StorageError:
        assert server.visible == {} or "actions/publish" in server.requests[-2][1]
    else:
        assert not done.draft
    server.fault = lambda verb, path: None
    publish(zoo, yes=True)
    assert len(server.visible) == 1 and len(server.depositions) <= 2


@pytest.mark.parametrize(
    "break_it, error, said",
    [
        (
            lambda m, s: m.setenv("ZENODO_SANDBOX_TOKEN", "expired"),
            CredentialsRefused,
            "has expired.*make a new one at",
        ),
        (lambda m, s: m.delenv("ZENODO_SANDBOX_TOKEN"), CredentialsRefused, "no token; make one"),
        (lambda m, s: setattr(s, "quota", 100), StoreRefused, "no room.*publish a part"),
        (lambda m, s: setattr(s, "fault", lambda v, p: 403), StorageError, "needs deposit:write"),
        (lambda m, s: setattr(s, "fault", lambda v, p: 429), StoreUnreachable, "answers 429.*run again later"),
    ],
)
def test_permanent_failures_give_one_line_that_says_what_to_do(
    break_it: Any, error: type[StorageError], said: str, zoo: Zoo, server: Zenodo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zenodo_client, "RETRIES", RetryPolicy(0.0))
    break_it(monkeypatch, server)
    with pytest.raises(error, match=said) as refusal:
        publish(zoo, yes=True)
    assert "\n" not in str(refusal.value) and TOKEN not in str(refusal.value)
    assert server.visible == {}


def test_other_bytes_that_come_back_are_not_published(
    zoo: Zoo, server: Zenodo, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = server.of_file

    def other(verb: str, number: int, name: str, body: bytes) -> tuple[int, Any]:
        status, value = answer(verb, number, name, body)
        return status, value[:-1] + b"?" if verb == "GET" and name.endswith(".zip") else value

    monkeypatch.setattr(server, "of_file", other)
    with pytest.raises(StorageError, match="came back with other bytes; the draft was not published"):
        publish(zoo, yes=True)
    assert server.visible == {}


def test_zenodo_needs_an_author_and_accepts_anonymous(zoo: Zoo, server: Zenodo) -> None:
    with pytest.raises(StorageUsageError, match="--author"):
        target_of("zenodo-sandbox").plan(Parcel(zoo))
    publish(zoo, credits=Credits(anonymous=True))
    assert server.depositions[1000]["metadata"]["creators"] == [{"name": "Anonymous"}]


def test_the_token_goes_to_no_other_host(zoo: Zoo, server: Zenodo, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = server.shown

    @functools.wraps(shown)
    def elsewhere(number: int) -> dict[str, Any]:
        value = shown(number)
        value["links"]["bucket"] = "http://127.0.0.2:1/api/files/b"
        return value

    monkeypatch.setattr(server, "shown", elsewhere)
    with pytest.raises(StoreRefused, match="another host"):
        publish(zoo)
