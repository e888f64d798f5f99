"""obstore reads the same bytes from S3 as boto3, and boto3 takes over whatever obstore cannot do."""

import multiprocessing
from typing import Any

import pytest

from zooforge.storage.errors import ObjectNotFound
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.s3 import reads
from zooforge.storage.stores.s3.reads import MAX_FAILURES, Unavailable
from zooforge.storage.stores.s3.store import S3Store

DATA = bytes(range(256)) * 40


@pytest.fixture
def store(s3_store_url: str) -> S3Store:
    opened = open_store(s3_store_url)
    assert isinstance(opened, S3Store)
    opened.put("a", DATA)
    return opened


def slow(store: S3Store) -> None:
    store._fast = None


@pytest.mark.parametrize("byte_range", [None, (0, 1), (100, 9000), (10_000, 99_999)])
def test_both_ways_give_the_same_bytes_and_tag(store: S3Store, byte_range: Any) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    assert store._fast is not None
    fast = store._fast.get(f"{store.prefix}a", byte_range)
    assert store.get("a", byte_range) == fast
    slow(store)
    assert store.get("a", byte_range) == fast


def test_failed_reads_use_boto3_and_obstore_is_given_up_if_it_always_fails(store: S3Store) -> None:
    fast: Any = store._fast
    fast._store = object()  # obstore cannot read from this address
    tried = []
    original = fast.get

    def get(*arguments: Any) -> Any:
        tried.append(fast._failures)
        return original(*arguments)

    fast.get = get
    fast._open = lambda: (_ for _ in ()).throw(ValueError("no"))
    fast._store = None
    for _ in range(MAX_FAILURES + 2):
        assert store.get("a")[0] == DATA
    assert tried == [0, 1, 2, 3, 3]


def test_a_missing_object_does_not_count_as_a_failure_of_obstore(store: S3Store) -> None:
    for _ in range(MAX_FAILURES + 1):
        with pytest.raises(ObjectNotFound):
            store.get("b")
    assert store._fast is not None and store._fast._failures == 0


def test_a_forked_process_reads_with_boto3(store: S3Store) -> None:
    store.get("a")
    assert reads._runtime_pid is not None

    def child(fresh: S3Store, sender: Any) -> None:
        equal = fresh.get("a")[0] == DATA
        try:
            assert fresh._fast is not None
            fresh._fast.get(f"{fresh.prefix}a", None)
        except Unavailable:
            sender.send(equal)

    receiver, sender = multiprocessing.Pipe()
    from copy import copy

    process = multiprocessing.get_context("fork").Process(target=child, args=(copy(store), sender))
    process.start()
    assert receiver.poll(60) and receiver.recv() is True
    process.join(60)


def test_an_interrupted_listing_continues_with_boto3(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    keys = [f"many/{number}" for number in range(4)]
    for key in keys:
        store.put(key, key.encode())
    assert store._fast is not None
    (page,) = store._fast.list(f"{store.prefix}many/")
    assert [entry[0] for entry in page] == [f"{store.prefix}{key}" for key in keys]

    class Breaks:
        def list(self, folder: str) -> Any:
            yield page[:2]
            raise Unavailable

    whole = list(store.list("many/"))
    monkeypatch.setattr(store, "_fast", Breaks())
    assert list(store.list("many/")) == whole and [stat.key for stat in whole] == keys
