"""Probing a store, collecting garbage, pulling zoos."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.aging_store import DAY, Clock
from tests.support.faulty_store import FaultyStore
from tests.support.synthetic import ATTEMPT, RIVAL, RUN, description, part_data, train, weights
from zooforge.storage.errors import EpochNotPresent, PreconditionFailed, StorageUsageError, StoreRefused
from zooforge.storage.keys import head_key, manifest_key
from zooforge.storage.ops.gc import collect, roots
from zooforge.storage.ops.pull import _Puller, pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import commit_part
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import get_object, put_object, ref_of
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.probe import Capabilities, probe, require
from zooforge.storage.stores.protocol import ByteRange, Data, ObjectStore, Stat
from zooforge.zoo_jobs.cli import main


class IgnoresConditions(FaultyStore):
    """Every conditional put succeeds, as with rclone, JuiceFS and s3rver."""

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return self.inner.put(key, data)


class LetsSomeWin(FaultyStore):
    """Checks, then writes, as Swift does; a rival can write in between."""

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        there = self.inner.stat(key) is not None
        time.sleep(0.2)
        if if_absent and there:
            raise PreconditionFailed(key)
        return self.inner.put(key, data, if_match=if_match)


class IgnoresRanges(FaultyStore):
    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        return self.inner.get(key)


class TestProbe:
    def test_a_good_store_passes(self, store: ObjectStore) -> None:
        capabilities = probe(store)
        assert capabilities.atomic_create and capabilities.if_match and capabilities.ranged_reads
        assert capabilities.wrong_checksum_refused is (True if store.url.startswith("s3:") else None)
        assert list(store.list("probe/")) == []
        require(capabilities, store.url, publishing=True)

    @pytest.mark.parametrize(
        ("broken", "expected"),
        [
            (IgnoresConditions, Capabilities(False, False, True, None)),
            (LetsSomeWin, Capabilities(False, True, True, None)),
            (IgnoresRanges, Capabilities(True, True, False, None)),
        ],
    )
    def test_broken_servers_are_recognised(
        self, memory: ObjectStore, broken: type[FaultyStore], expected: Capabilities
    ) -> None:
        assert probe(broken(memory)) == expected

    def test_a_store_without_atomic_creation_is_refused_or_has_one_writer(self) -> None:
        actual = Capabilities(False, True, True, True)
        with pytest.raises(StoreRefused, match="--single-writer") as raised:
            require(actual, "s3://b")
        assert raised.value.exit_status == 2
        require(actual, "s3://b", single_writer=True)
        with pytest.raises(StoreRefused, match="publish to another store"):
            require(actual, "s3://b", single_writer=True, publishing=True)


@pytest.fixture
def aging() -> Clock:
    return Clock(MemoryStore())


class TestCollection:
    def test_a_collection_deletes_the_published_data_of_parts_and_nothing_else(self, aging: Clock) -> None:
        train(aging, range(6), 3)
        vectorize(aging, description(), RUN)
        orphan = put_object(aging, b"orphan", "parquet")
        aging.ahead = DAY + 1
        assert collect(aging, dry_run=True).phase == "would be marked"
        marked = collect(aging, dry_run=False)
        assert (
            marked.num_objects == 3 + 4 + 1
        )  # weights and labels of all parts except those of the newest states; the orphan
        aging.ahead += 2
        again = collect(aging, dry_run=False)
        assert (again.phase, again.num_objects) == ("marked", 0)  # a mark has to be old enough
        aging.ahead = 2 * DAY + 10
        assert collect(aging, dry_run=True).num_objects == marked.num_objects
        assert collect(aging, dry_run=False).phase == "swept"
        assert aging.stat(orphan.key) is None
        aging.ahead = 3 * DAY
        url_zoo = zooforge_zoo(aging)
        assert verify_zoo(url_zoo).ok
        train(aging, range(6), 5)
        version = vectorize(aging, description(), RUN)
        quiet = MemoryStore()
        train(quiet, range(6), 5)
        assert version.manifest.to_json() == vectorize(quiet, description(), RUN).manifest.to_json()

    def test_parts_stay_if_only_a_manifest_that_is_not_current_holds_them(self, aging: Clock) -> None:
        """Its publisher died before it moved HEAD, and the next version is made from the parts again."""
        train(aging, range(6), 3)
        sealed = vectorize(aging, description(), RUN)
        aging.delete(head_key("tiny-zoo"))
        aging.ahead = DAY + 1
        assert collect(aging, dry_run=False).num_objects == 0
        assert vectorize(aging, description(), RUN).manifest_sha256 == sealed.manifest_sha256

    def test_parts_that_no_manifest_holds_stay(self, aging: Clock) -> None:
        train(aging, range(6), 3)
        aging.ahead = DAY + 1
        assert collect(aging, dry_run=False).num_objects == 0

    def test_the_newest_state_of_every_model_stays(self, aging: Clock) -> None:
        train(aging, [0, 1, 2], 2)
        train(aging, [0, 1], 4)
        vectorize(aging, description(), RUN)
        aging.ahead = DAY + 1
        collect(aging, dry_run=False)
        aging.ahead = 2 * DAY + 2
        collect(aging, dry_run=False)
        ledger = read_ledger(aging, RUN)
        np.testing.assert_array_equal(ledger.load_state([2]).arrays["weights"][0], weights(2, 2))
        np.testing.assert_array_equal(ledger.load_state([1, 0]).arrays["weights"][0], weights(1, 4))

    def test_an_object_that_is_written_again_after_the_mark_is_kept(self, aging: Clock) -> None:
        orphan = put_object(aging, b"orphan", "parquet")
        aging.ahead = DAY + 1
        assert collect(aging, dry_run=False).num_objects == 1
        aging.ahead = DAY + 100
        put_object(aging, b"orphan", "parquet")
        aging.ahead = 2 * DAY + 2
        assert collect(aging, dry_run=False).num_objects == 0
        assert aging.stat(orphan.key) is not None

    def test_an_object_that_a_record_names_meanwhile_is_not_swept(self, aging: Clock) -> None:
        """Its writer died before it could take the objects off the mark."""
        records = [committed.record for committed in train(aging, range(3), 1)]
        text, _ = aging.get(str(records[-1].key))
        aging.delete(str(records[-1].key))
        aging.ahead = DAY + 1
        marked = collect(aging, dry_run=False)
        assert marked.num_objects >= 1
        aging.inner.put(str(records[-1].key), text)
        aging.ahead = 2 * DAY + 2
        assert collect(aging, dry_run=False).phase == "swept"
        record = records[-1]
        assert all(aging.stat(ref.key) for ref in (record.weights, record.labels, record.state) if ref is not None)

    def test_young_objects_are_not_marked(self, aging: Clock) -> None:
        put_object(aging, b"of a commit under way", "parquet")
        assert collect(aging, dry_run=False).num_objects == 0

    def test_writers_lose_nothing_during_collections(self) -> None:
        """Two units of one writer each, one of two rivals, one that dies before each commit, and two collections."""
        store = MemoryStore()
        num_parts, orphans = 6, [f"part {number} of who died".encode() for number in range(4)]
        stop = threading.Event()

        def write(first: int, attempt: str) -> None:
            for part in range(num_parts):
                commit_part(store, RUN, part_data(range(first, first + 4), part, unit=first), attempt)
                time.sleep(0.02)

        def die() -> None:
            for orphan in orphans:
                put_object(store, orphan, "parquet")
                time.sleep(0.02)

        def sweep() -> None:
            while not stop.is_set():
                collect(store, dry_run=False, min_age_seconds=0.15)
                time.sleep(0.01)

        def stat_of(data: bytes) -> Stat | None:
            return store.stat(ref_of(data, "parquet").key)

        with ThreadPoolExecutor(7) as pool:
            sweeps = [pool.submit(sweep) for _ in range(2)]
            try:
                work = [pool.submit(write, first, attempt) for first, attempt in
                        ((0, ATTEMPT), (4, ATTEMPT), (8, ATTEMPT), (8, RIVAL))]  # fmt: skip
                work.append(pool.submit(die))
                for one in work:
                    one.result(timeout=60)
                deadline = time.monotonic() + 30
                while any(stat_of(orphan) is not None for orphan in orphans) and time.monotonic() < deadline:
                    time.sleep(0.02)
            finally:
                stop.set()
            for one in sweeps:
                one.result(timeout=60)
        assert not any(stat_of(orphan) for orphan in orphans)
        ledger = read_ledger(store, RUN)
        for model in range(12):
            for part in range(num_parts):
                key = ledger.holder(model, part)
                assert key is not None
                record = ledger.record(key)
                for ref in (record.weights, record.labels):
                    assert ref is not None
                    get_object(store, ref, "test")
            assert ledger.load_state([model]).part == num_parts - 1
        assert all(store.stat(key) for key in roots(store))


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "--store", "STORE"],
        ["ls", "tiny-zoo", "--store", "STORE"],
        ["verify", "--store", "STORE"],
        ["verify", "tiny-zoo", "--store", "STORE"],
        ["gc", "--yes", "--store", "STORE"],
        ["pull", "STORE/zoos/tiny-zoo", "TARGET"],
    ],
)
def test_a_store_that_does_not_exist_is_said_to_be_missing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, target = tmp_path / "misspelt", tmp_path / "target"
    words = [word.replace("STORE", str(store)).replace("TARGET", str(target)) for word in arguments]
    assert main(["store", *words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f"{store.as_uri()}: there is no store here" in output.err
    assert len(output.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def zooforge_zoo(store: Any) -> Any:
    from zooforge.storage.formats.manifest import Manifest
    from zooforge.storage.publish.head import read_manifest_bytes
    from zooforge.storage.zoo import Zoo

    number, data = read_manifest_bytes(store, "tiny-zoo")
    return Zoo(store, Manifest.from_json(data, "test"), number, None, None)


class TestPull:
    @pytest.fixture
    def zoo(self, memory: ObjectStore) -> Any:
        train(memory, range(24), 4, faulty={5: 2})
        vectorize(memory, description(), RUN)
        return zooforge.open_zoo(f"{memory.url}/zoos/tiny-zoo")

    def test_a_whole_zoo_keeps_its_manifest(self, zoo: Any, tmp_path: Path) -> None:
        target = open_store(str(tmp_path / "copy"))
        first = pull(zoo, target)
        assert first.manifest.to_json() == zoo.manifest.to_json() and first.num_read == 4
        again = pull(zoo, target)
        assert (again.num_read, again.number) == (0, 1)
        copy = zooforge.open_zoo(f"{tmp_path}/copy/zoos/tiny-zoo")
        assert verify_zoo(copy).ok
        np.testing.assert_array_equal(copy.weights().values, zoo.weights().values)

    def test_a_part_of_a_zoo_is_a_zoo(self, zoo: Any, tmp_path: Path) -> None:
        target = open_store(str(tmp_path / "copy"))
        wanted = {"epochs": "1:4", "split": "train", "where": "activation == 'tanh'"}
        pull(zoo, target, **wanted)
        copy = zooforge.open_zoo(f"{tmp_path}/copy/zoos/tiny-zoo")
        assert verify_zoo(copy).ok
        expected, actual = zoo.weights(**wanted), copy.weights()
        np.testing.assert_array_equal(actual.values, expected.values)
        assert actual.models.tolist() == expected.models.tolist()
        assert copy.labels().num_rows == 5 * len(copy.models)

    def test_an_interrupted_pull_goes_on(self, zoo: Any, tmp_path: Path) -> None:
        target = open_store(str(tmp_path / "copy"))
        pull(zoo, target)
        labels = zoo.manifest.labels.ref.key
        target.delete(labels)
        shard = tmp_path / "copy" / zoo.manifest.shards[0].ref.key
        os.truncate(shard, 100)
        assert pull(zoo, target).num_read == 2
        assert verify_zoo(zooforge.open_zoo(f"{tmp_path}/copy/zoos/tiny-zoo")).ok

    def test_a_part_over_a_whole_copy_is_refused_and_shrinks_nothing(self, zoo: Any, tmp_path: Path) -> None:
        target = open_store(str(tmp_path / "copy"))
        pull(zoo, target)
        before = {stat.key: stat.etag for stat in target.list("")}
        for part in ({"epochs": "1:4"}, {"models": "0:23"}, {"split": "train"}):
            with pytest.raises(StorageUsageError, match=r"holds more, or other states .* pull into another folder"):
                pull(zoo, target, **part)
        assert {stat.key: stat.etag for stat in target.list("")} == before

    def test_parts_may_grow_and_may_not_replace_each_other(self, zoo: Any, tmp_path: Path) -> None:
        target = open_store(str(tmp_path / "copy"))
        assert pull(zoo, target, epochs="1:3").number == 1
        assert pull(zoo, target, epochs="1:3").number == 1
        with pytest.raises(StorageUsageError, match="other states"):
            pull(zoo, target, epochs="2:4")
        assert pull(zoo, target, epochs="1:4").number == 2
        assert pull(zoo, target).number == 3

    def test_a_copy_does_not_take_the_name_of_another_run(self, zoo: Any, tmp_path: Path) -> None:
        target = open_store(str(tmp_path / "copy"))
        train(target, range(2), 1, run="ff" * 16)
        vectorize(target, description(), "ff" * 16)
        before = {stat.key: stat.etag for stat in target.list("")}
        with pytest.raises(StorageUsageError, match="is of run ffffffff, this one of 01234567"):
            pull(zoo, target)
        assert {stat.key: stat.etag for stat in target.list("")} == before

    def test_objects_of_an_interrupted_pull_are_written_again(self, zoo: Any, tmp_path: Path) -> None:
        """They may be in a mark, so that a collection is about to delete them."""
        target = MemoryStore()
        shard = zoo.manifest.shards[0].ref
        put_object(target, get_object(zoo.store, shard, "test"), shard.kind)
        written: list[str] = []
        watched = FaultyStore(target, lambda verb, key: written.append(key) if verb == "put" else None)
        assert pull(zoo, watched).num_read == 3
        assert shard.key in written
        written.clear()
        pull(zoo, watched)
        assert shard.key not in written  # HEAD names it now

    def test_a_manifest_that_was_left_by_another_run_does_not_become_the_current_one(
        self, zoo: Any, tmp_path: Path
    ) -> None:
        target = MemoryStore()
        other = replace(zoo.manifest, run="ff" * 16)
        target.put(manifest_key("tiny-zoo", 1), other.to_json())
        assert pull(zoo, target).number == 2
        assert zooforge_zoo(target).manifest.run == RUN

    def test_a_mirror_is_not_written_where_conditional_writes_are_not_atomic(self, zoo: Any) -> None:
        target = MemoryStore()
        with pytest.raises(StoreRefused, match="publish to another store"):
            pull(zoo, IgnoresConditions(target))
        assert list(target.list("")) == []

    def test_a_large_zoo_is_selected_without_a_set_per_model_and_epoch(self, zoo: Any) -> None:
        class Counting(list[int]):
            iterated = 0

            def __iter__(self) -> Any:
                Counting.iterated += 1
                return super().__iter__()

        wanted = {epoch: Counting(models) for epoch, models in zoo.wanted("1:4", None, None, None).items()}
        _Puller(zoo, MemoryStore(), ()).write(wanted, zoo.models)
        assert Counting.iterated == len(wanted)

    def test_a_pull_of_an_empty_selection_is_an_error(self, zoo: Any, tmp_path: Path) -> None:
        with pytest.raises(EpochNotPresent, match="no state matches"):
            pull(zoo, open_store(str(tmp_path / "copy")), where="test_acc > 2")
        assert not (tmp_path / "copy").exists()
