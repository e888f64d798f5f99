"""Publishing on the Hugging Face Hub with its own client, against a server that answers as the Hub does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_service import serving
from tests.support.hub_server import TOKEN, Hub
from tests.support.synthetic import RUN, description, train
from zooforge.storage.deposit.parcel import Parcel
from zooforge.storage.deposit.send import target_of
from zooforge.storage.deposit.to_store import Published
from zooforge.storage.errors import (
    AccessDenied,
    CredentialsRefused,
    StorageError,
    StorageUsageError,
    StoreUnreachable,
    StoreURLError,
    Superseded,
)
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.papers import Credits
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import shared_memory_store
from zooforge.storage.zoo import Zoo, open_zoo

package = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
JANE = Credits(("Doe, Jane",), 2026)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the server speaks Git LFS
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with serving(Hub()) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def publish(zoo: Zoo, name: str = "hf:me/zoos", *, private: bool = False) -> Published:
    return target_of(name, private=private).publish(Parcel(zoo, JANE), lambda size: None)


def test_a_data_set_is_one_commit_that_reads_and_verifies(
    zoo: Zoo, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = target_of("hf:me/zoos").plan(Parcel(zoo, JANE))
    published = publish(zoo)
    assert capsys.readouterr() == ("", "")
    assert (published.address, published.new, len(hub.commits["me/zoos"])) == ("hf://me/zoos/zoos/tiny-zoo", True, 2)
    assert (plan.num_files, plan.num_bytes) == (
        len(hub.files("me/zoos")), sum(map(len, hub.files("me/zoos").values())),
    )  # fmt: skip
    copy = open_zoo(published.address)
    assert copy.manifest == zoo.manifest and verify_zoo(copy).ok
    files = hub.files("me/zoos")
    assert b'zooforge.open_zoo("hf://me/zoos/zoos/tiny-zoo")' in files["README.md"]
    assert files["README.md"].split(b"data_files: ")[1].splitlines()[0].decode() in files
    assert not publish(zoo).new and len(hub.commits["me/zoos"]) == 2


def test_a_zoo_that_has_grown_is_a_new_version_and_the_old_one_stays(zoo: Zoo, hub: Hub) -> None:
    publish(zoo)
    train(zoo.store, range(8), 3)
    vectorize(zoo.store, description(num_models=8, num_epochs=3), RUN)
    published = publish(open_zoo(f"{zoo.store.url}/zoos/tiny-zoo"))
    assert published.number == 2 and len(open_zoo("hf://me/zoos/zoos/tiny-zoo").models) == 8
    assert open_zoo("hf://me/zoos/zoos/tiny-zoo", 1).manifest == zoo.manifest


def test_a_second_zoo_leaves_the_card_of_the_first(zoo: Zoo, hub: Hub) -> None:
    publish(zoo)
    card = hub.files("me/zoos")["README.md"]
    train(zoo.store, range(2), 1, run="f" * 32)
    vectorize(zoo.store, description("other", num_models=2, num_epochs=1), "f" * 32)
    publish(open_zoo(f"{zoo.store.url}/zoos/other"))
    assert hub.files("me/zoos")["README.md"] == card
    assert verify_zoo(open_zoo("hf://me/zoos/zoos/other")).ok


def test_a_private_data_set_reads_with_the_token_alone(
    zoo: Zoo, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published = publish(zoo, private=True)
    assert hub.private["me/zoos"] and open_zoo(published.address).manifest == zoo.manifest
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(AccessDenied, match="HF_TOKEN"):
        open_zoo(published.address)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert open_zoo(published.address).manifest == zoo.manifest


def test_the_token_goes_to_no_host_that_the_hub_redirects_to(zoo: Zoo, hub: Hub) -> None:
    open_zoo(publish(zoo).address).weights(epochs=0)
    assert hub.told and not any(known for _, known in hub.told)


@pytest.mark.parametrize("fault", [429, 503, "cut"])
def test_temporary_failures_are_retried(fault: int | str, zoo: Zoo, hub: Hub) -> None:
    met: set[str] = set()

    def once(verb: str, path: str) -> int | str | None:
        if path in met or not (path.startswith("/lfs/") or "preupload" in path):
            return None
        met.add(path)
        return fault

    hub.fault = once
    assert publish(zoo).new and met


@pytest.mark.parametrize("number", range(0, 26, 3))
def test_a_publication_killed_at_any_request_shows_nothing_partial_and_can_continue(
    number: int, zoo: Zoo, hub: Hub
) -> None:
    hub.die_after(number)
    try:
        publish(zoo)
    except StorageError:
        whole = {"zoos/tiny-zoo/HEAD", *(ref.key for ref in zoo.manifest.refs)}
        assert all(set(files) == {".gitattributes"} or whole <= set(files) for files in dict(commits(hub)).values())
    hub.fault = lambda verb, path: None
    before = set(hub.large)
    hub.requests.clear()
    publish(zoo)
    assert verify_zoo(open_zoo("hf://me/zoos/zoos/tiny-zoo")).ok
    assert not {path.removeprefix("/lfs/") for verb, path in hub.requests if verb == "PUT"} & before
    assert len(hub.commits["me/zoos"]) == 2


@pytest.mark.parametrize(
    "break_it, error, said",
    [
        (
            lambda m, h: m.setenv("HF_TOKEN", "hf_expired"),
            CredentialsRefused,
            "is not accepted, or has expired; make one",
        ),
        (lambda m, h: m.setenv("HF_TOKEN", ""), CredentialsRefused, "no token; make one"),
        (lambda m, h: fail(h, "/commit/", 429), StoreUnreachable, "run again later, what was uploaded is kept"),
        (lambda m, h: fail(h, "/preupload/", 403), AccessDenied, "the account to hold so much"),
        (lambda m, h: fail(h, "/commit/", 412), Superseded, "run again"),
        (lambda m, h: fail(h, "/lfs/", "cut"), StoreUnreachable, "run again"),
    ],
)
def test_permanent_failures_give_one_line_that_says_what_to_do(
    break_it: Any, error: type[StorageError], said: str, zoo: Zoo, hub: Hub, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    break_it(monkeypatch, hub)
    with pytest.raises(error, match=said) as refusal:
        publish(zoo)
    assert "\n" not in str(refusal.value) and TOKEN not in str(refusal.value)
    assert all(set(files) == {".gitattributes"} for _, files in hub.commits.get("me/zoos", []))


def commits(hub: Hub) -> list[tuple[str, dict[str, bytes]]]:
    return hub.commits.get("me/zoos", [])


def fail(hub: Hub, part: str, how: int | str) -> None:
    hub.fault = lambda verb, path: how if part in path else None


def test_a_data_set_of_another_owner_is_refused(zoo: Zoo, hub: Hub) -> None:
    with pytest.raises(AccessDenied, match="refused"):
        publish(zoo, "hf:others/zoos")


@pytest.mark.parametrize("address", ["hf:", "hf:me", "hf:me/a b", "hf:me/a/b", "hf:me/a?x"])
def test_an_invalid_data_set_name_is_refused(address: str) -> None:
    with pytest.raises(StoreURLError, match="expected hf:OWNER/NAME"):
        target_of(address)


def test_another_zoo_of_the_name_is_refused_before_anything_is_sent(zoo: Zoo, hub: Hub) -> None:
    publish(zoo)
    other = shared_memory_store("another-run")
    train(other, range(6), 3, run="f" * 32)
    vectorize(other, description(num_models=6, num_epochs=3), "f" * 32)
    with pytest.raises(StorageUsageError, match="is of run"):
        publish(open_zoo("memory://another-run/zoos/tiny-zoo"))
    assert len(hub.commits["me/zoos"]) == 2
