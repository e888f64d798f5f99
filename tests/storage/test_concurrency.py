"""Every backend behaves like a dict for any order of calls, and two processes share a directory safely."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.paths import ROOT
from zooforge.storage.errors import ObjectNotFound, PreconditionFailed
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

KEYS = st.sampled_from(["a/x", "a/y", "b", "a-b/z"])
DATA = st.binary(max_size=8)


class StoreAgainstDict(RuleBasedStateMachine):
    """Does the same operations on a store and on a dict. Etags are compared only with each other."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make()
        self.model: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.stale: dict[str, str] = {}

    def make(self) -> ObjectStore:
        raise NotImplementedError

    def wrote(self, key: str, data: bytes, etag: str) -> None:
        if key in self.etags and self.etags[key] != etag:
            self.stale[key] = self.etags[key]
        self.model[key], self.etags[key] = data, etag

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        self.wrote(key, data, self.store.put(key, data))

    @rule(key=KEYS, data=DATA)
    def create(self, key: str, data: bytes) -> None:
        if key in self.model:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, data, if_absent=True)
        else:
            self.wrote(key, data, self.store.put(key, data, if_absent=True))

    @rule(key=KEYS, data=DATA)
    def swap(self, key: str, data: bytes) -> None:
        if key in self.model:
            self.wrote(key, data, self.store.put(key, data, if_match=self.etags[key]))

    @rule(key=KEYS, data=DATA)
    def swap_stale(self, key: str, data: bytes) -> None:
        if key in self.model and key in self.stale and self.stale[key] != self.etags[key]:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, data, if_match=self.stale[key])

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.model.pop(key, None)
        self.etags.pop(key, None)
        self.stale.pop(key, None)

    @rule(key=KEYS, start=st.integers(0, 9), size=st.integers(0, 9))
    def read_range(self, key: str, start: int, size: int) -> None:
        if key in self.model:
            assert self.store.get(key, (start, start + size))[0] == self.model[key][start : start + size]
        else:
            with pytest.raises(ObjectNotFound):
                self.store.get(key)

    @invariant()
    def holds_the_same(self) -> None:
        assert {s.key: s.size for s in self.store.list("")} == {k: len(v) for k, v in self.model.items()}
        for key, data in self.model.items():
            assert self.store.get(key) == (data, self.etags[key])


class MemoryBeside(StoreAgainstDict):
    def make(self) -> ObjectStore:
        return MemoryStore()


class LocalBeside(StoreAgainstDict):
    def make(self) -> ObjectStore:
        self.folder = tempfile.TemporaryDirectory()
        return LocalStore(Path(self.folder.name))

    def teardown(self) -> None:
        self.folder.cleanup()


TestMemoryBesideADict = MemoryBeside.TestCase
TestMemoryBesideADict.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestLocalBesideADict = LocalBeside.TestCase
TestLocalBesideADict.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)

_numbers = iter(range(10**6))


def test_s3_behaves_as_a_dict(s3_store_url: str) -> None:
    class S3Beside(StoreAgainstDict):
        def make(self) -> ObjectStore:
            return open_store(f"{s3_store_url}/{next(_numbers)}")

    case = S3Beside.TestCase
    case.settings = settings(max_examples=4, stateful_step_count=12, deadline=None)
    case("runTest").debug()


WRITER = """
import sys
from zooforge.storage.errors import PreconditionFailed
from zooforge.storage.stores.open import open_store
store = open_store(sys.argv[1])
won = 0
for number in range(40):
    try:
        store.put(f"race/{number}", sys.argv[2].encode(), if_absent=True)
        won += 1
    except PreconditionFailed:
        pass
    while True:
        value, etag = store.get("counter")
        try:
            store.put("counter", str(int(value) + 1).encode(), if_match=etag)
            break
        except PreconditionFailed:
            continue
print(won)
"""


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("counter", b"0")
    root = ROOT
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], cwd=root, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    counts = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert sum(counts) == 40
    owners = [store.get(f"race/{number}")[0].decode() for number in range(40)]
    assert [owners.count("a"), owners.count("b")] == counts
    assert store.get("counter")[0] == b"80"
