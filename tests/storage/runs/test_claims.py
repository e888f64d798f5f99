"""Claims: leases that have at most one owner at a time."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.faulty_store import FaultyStore
from zooforge.storage.errors import PreconditionFailed
from zooforge.storage.keys import claim_key
from zooforge.storage.runs.claims import CLAIM_VOID_SECONDS, Claims, read_claims
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import Data, ObjectStore

RUN = "ab" * 16


def attempt(number: int) -> str:
    return f"20261124T1000{number:02d}Z-{number:04x}"


def claims(store: ObjectStore, number: int) -> Claims:
    return Claims(store, RUN, attempt(number))


def grow_old(store: LocalStore, name: str) -> None:
    """Let enough time pass that the claim is void, without its owner noticing."""
    path = store.path(claim_key(RUN, name))
    old = time.time() - CLAIM_VOID_SECONDS - 5
    os.utime(path, (old, old))


def test_one_of_many_simultaneous_takers_gets_a_claim(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda number: claims(store, number).take("0000000-all"), range(8)))
    assert sum(taken) == 1


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_nobody_else_gets_a_claim_that_is_renewed(kind: str, tmp_path: Path) -> None:
    store: ObjectStore = MemoryStore() if kind == "memory" else LocalStore(tmp_path)
    mine, other = claims(store, 1), claims(store, 2)
    assert mine.take("piece")
    assert mine.renew("piece")
    assert mine.take("piece")
    assert not other.take("piece")
    mine.release("piece")
    assert other.take("piece")


def test_a_claim_that_others_hold_costs_the_same_reads_however_many_there_are() -> None:
    store = MemoryStore()
    other, mine = claims(store, 1), claims(store, 2)
    for number in range(20):
        assert other.take(f"piece-{number}")
    requests: list[str] = []
    watched = FaultyStore(store, lambda verb, key: requests.append(f"{verb} {key.rpartition('/')[2][:6]}"))
    watching = claims(watched, 3)
    assert not watching.take("piece-1")
    assert requests == ["get piece-", "put clock-", "delete clock-"]
    requests.clear()
    assert not watching.take("piece-2")
    assert requests == ["get piece-"]
    assert mine.take("piece-20")


def test_a_claim_that_another_owner_took_is_not_released(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    slow, other, third = claims(store, 1), claims(store, 2), claims(store, 3)
    assert slow.take("piece")
    grow_old(store, "piece")
    assert other.take("piece")
    slow.release("piece")
    assert not third.take("piece")
    other.release("piece")
    assert read_claims(store, RUN) == {}
    assert third.take("piece")


def test_a_void_claim_is_taken_over_by_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert claims(store, 1).take("piece")
    grow_old(store, "piece")
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda number: claims(store, number).take("piece"), range(2, 10)))
    assert sum(taken) == 1


def test_an_owner_that_renews_too_late_is_told_whether_the_claim_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zooforge.storage.runs.claims.CLAIM_VOID_SECONDS", -1.0)
    store = MemoryStore()
    mine, other = claims(store, 1), claims(store, 2)
    assert mine.take("piece")
    assert mine.renew("piece")
    assert other.take("piece")
    assert not mine.renew("piece")
    assert other.renew("piece")


class LosesReplies(MemoryStore):
    """Performs each write, then answers like a store whose client has already repeated it."""

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        super().put(key, data, if_absent=if_absent, if_match=if_match)
        if if_absent or if_match is not None:
            raise PreconditionFailed(key)
        return ""


def test_a_lost_reply_loses_no_claim() -> None:
    mine = claims(LosesReplies(), 1)
    assert mine.take("piece")
    assert mine.renew("piece")
