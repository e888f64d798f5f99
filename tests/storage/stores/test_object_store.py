"""The store protocol: the same checks for every backend. Some also look at the stored files without the store."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zooforge.storage.errors import KeyFormatError, ObjectNotFound, PreconditionFailed, StoreRefused, StoreURLError
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.probe import probe
from zooforge.storage.stores.protocol import ObjectStore, create
from zooforge.storage.stores.s3.store import S3Store


class TestEveryStore:
    def test_gives_back_what_was_put(self, store: ObjectStore) -> None:
        data = os.urandom(100_000)
        etag = store.put("a/b/c.bin", data)
        assert store.get("a/b/c.bin") == (data, etag)

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.get("empty")[0] == b""
        stat = store.stat("empty")
        assert stat is not None and stat.size == 0

    def test_takes_any_buffer(self, store: ObjectStore) -> None:
        store.put("a", bytearray(b"abc"))
        store.put("b", memoryview(b"xabcx")[1:4])
        assert store.get("a")[0] == store.get("b")[0] == b"abc"

    def test_a_missing_object_is_named(self, store: ObjectStore) -> None:
        with pytest.raises(ObjectNotFound, match="no/such"):
            store.get("no/such")
        assert store.stat("no/such") is None
        store.delete("no/such")

    @pytest.mark.parametrize(
        ("byte_range", "expected"),
        [((0, 4), b"0123"), ((3, 7), b"3456"), ((8, 99), b"89"), ((10, 12), b""), ((5, 5), b"")],
    )
    def test_a_range_is_half_open_and_ends_at_the_end(
        self, store: ObjectStore, byte_range: tuple[int, int], expected: bytes
    ) -> None:
        store.put("digits", b"0123456789")
        assert store.get("digits", byte_range)[0] == expected

    def test_put_replaces_and_the_etag_changes(self, store: ObjectStore) -> None:
        first = store.put("key", b"one")
        second = store.put("key", b"two")
        assert first != second
        assert store.get("key") == (b"two", second)

    def test_if_absent_writes_once(self, store: ObjectStore) -> None:
        store.put("key", b"first", if_absent=True)
        with pytest.raises(PreconditionFailed):
            store.put("key", b"second", if_absent=True)
        assert store.get("key")[0] == b"first"

    def test_one_of_sixteen_racing_creators_wins(self, store: ObjectStore) -> None:
        def attempt(number: int) -> bool:
            try:
                store.put("race", f"{number}".encode(), if_absent=True)
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(attempt, range(16)))
        assert sum(won) == 1
        assert store.get("race")[0] == f"{won.index(True)}".encode()

    def test_if_match_refuses_a_stale_etag(self, store: ObjectStore) -> None:
        old = store.put("key", b"1")
        store.put("key", b"2", if_match=old)
        with pytest.raises(PreconditionFailed):
            store.put("key", b"3", if_match=old)
        assert store.get("key")[0] == b"2"

    def test_if_match_refuses_a_missing_object(self, store: ObjectStore) -> None:
        with pytest.raises((PreconditionFailed, ObjectNotFound)):
            store.put("none", b"1", if_match='"0123"')
        assert store.stat("none") is None

    def test_no_increment_is_lost(self, store: ObjectStore) -> None:
        store.put("counter", b"0")

        def increment(_: int) -> None:
            while True:
                value, etag = store.get("counter")
                try:
                    store.put("counter", str(int(value) + 1).encode(), if_match=etag)
                except PreconditionFailed:
                    continue
                return

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(increment, range(20)))
        assert store.get("counter")[0] == b"20"

    def test_lists_by_prefix_with_sizes(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/2", "a-b/1", "ab/c/d", "b"):
            store.put(key, key.encode())
        assert {s.key: s.size for s in store.list("a/")} == {"a/1": 3, "a/2": 3}
        assert sorted(s.key for s in store.list("a")) == ["a-b/1", "a/1", "a/2", "ab/c/d"]
        assert sorted(s.key for s in store.list("")) == ["a-b/1", "a/1", "a/2", "ab/c/d", "b"]
        assert list(store.list("zzz/")) == []

    def test_lists_more_than_a_page(self, store: ObjectStore) -> None:
        if not isinstance(store, S3Store):
            pytest.skip("only S3 has pages")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: store.put(f"many/{n:05d}", b"x"), range(1100)))
        assert len({s.key for s in store.list("many/")}) == 1100

    def test_stat_says_size_etag_and_time(self, store: ObjectStore) -> None:
        before = time.time()
        etag = store.put("key", b"12345")
        after = time.time()
        stat = store.stat("key")
        assert stat is not None
        assert (stat.key, stat.size, stat.etag) == ("key", 5, etag)
        assert before - 2 <= stat.modified_seconds <= after + 2  # some servers round to seconds

    def test_delete_removes(self, store: ObjectStore) -> None:
        store.put("key", b"1")
        store.delete("key")
        assert store.stat("key") is None
        store.put("key", b"2", if_absent=True)

    def test_create_treats_its_own_retry_as_success(self, store: ObjectStore) -> None:
        assert create(store, "key", b"same")
        assert create(store, "key", b"same")
        assert not create(store, "key", b"other")
        assert store.get("key")[0] == b"same"

    @pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", ".hidden", "a/.b", "a/", "a\\b"])
    def test_refuses_keys_that_leave_the_prefix_or_hide(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(KeyFormatError):
            store.put(key, b"x")
        with pytest.raises(KeyFormatError):
            store.get(key)

    def test_counts_its_traffic(self, store: ObjectStore) -> None:
        store.put("key", b"12345")
        store.get("key")
        assert store.traffic.written_bytes >= 5
        assert store.traffic.read_bytes >= 5

    def test_two_openings_of_a_url_see_the_same(self, store: ObjectStore) -> None:
        store.put("key", b"1")
        assert open_store(store.url).get("key")[0] == b"1"


class TestLocal:
    def test_an_object_is_a_plain_file(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "new")
        store.put("a/b.json", b"{}")
        assert (tmp_path / "new/a/b.json").read_bytes() == b"{}"
        (tmp_path / "new/a/b.json").write_bytes(b"[]")
        assert store.get("a/b.json")[0] == b"[]"

    def test_a_folder_is_deleted_with_its_last_key(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path / "store"))
        probe(store)
        store.put("a/b/c", b"1")
        store.put("a/d", b"1")
        store.delete("a/b/c")
        store.delete("a/b/c")
        assert {p.name for p in (tmp_path / "store").iterdir() if p.name[0] != "."} == {"a"}
        assert [p.name for p in (tmp_path / "store/a").iterdir()] == ["d"]

    def test_a_folder_that_is_deleted_during_a_write_is_made_again(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path / "store"))

        def churn(number: int) -> None:
            for turn in range(60):
                store.put(f"a/b/{number}-{turn}", b"1", if_absent=turn % 2 == 0)
                store.delete(f"a/b/{number}-{turn}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(churn, range(4)))
        assert list(store.list("")) == []

    def test_leaves_no_temporary_file(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        store.put("a", b"1", if_absent=True)
        with pytest.raises(PreconditionFailed):
            store.put("a", b"2", if_absent=True)
        assert list((tmp_path / ".tmp").iterdir()) == []

    def test_equal_content_has_another_etag_each_time(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        assert len({store.put("a", b"same") for _ in range(50)}) == 50

    def test_respects_the_umask(self, tmp_path: Path) -> None:
        old = os.umask(0o027)
        try:
            LocalStore(tmp_path).put("a", b"1")
        finally:
            os.umask(old)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


class TestUrls:
    @pytest.mark.parametrize("url", ["gs://bucket/x", "ftp://host/x", "", "s3://", "file://host/path"])
    def test_refuses_what_no_backend_understands(self, url: str) -> None:
        with pytest.raises(StoreURLError) as raised:
            open_store(url)
        assert "\n" not in str(raised.value) and raised.value.exit_status == 2

    def test_refuses_credentials_and_does_not_repeat_them(self) -> None:
        with pytest.raises(StoreURLError) as raised:
            open_store("s3://key:topsecret@bucket/prefix")
        assert "topsecret" not in str(raised.value)

    def test_a_path_with_a_space_is_one_store(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "a b")
        store.put("x", b"1")
        assert open_store(store.url).get("x")[0] == b"1"

    def test_a_web_address_is_read_only(self) -> None:
        store = open_store("https://example.invalid/zoos")
        for write in (lambda: store.put("a", b""), lambda: store.delete("a"), lambda: list(store.list(""))):
            with pytest.raises(StoreRefused, match="for reading"):
                write()
