"""Removing a zoo, and listing what the bytes of a store are used for."""

from dataclasses import replace

import pytest

from tests.support.aging_store import DAY, Clock
from tests.support.faulty_store import FaultyStore
from tests.support.synthetic import ATTEMPT, RUN, description, train
from zooforge.storage.errors import StorageError, StorageUsageError
from zooforge.storage.keys import OBJECTS_PREFIX
from zooforge.storage.ops.gc import collect
from zooforge.storage.ops.remove import check_not_removed, plan_removal, remove
from zooforge.storage.ops.usage import Usage, usage
from zooforge.storage.publish.head import create_spec, list_zoos
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.run_files import create_run, read_control, stop_run
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import put_object
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import Data, ObjectStore
from zooforge.zoo_jobs.cli import main

OTHER_RUN = "b" * 32
ZOO = description().name


def grow(store: ObjectStore, zoo: str = ZOO, run: str = RUN) -> None:
    create_run(store, run, {"grid": run})
    create_spec(store, zoo, {"kind": "zoo", "run": run, "spec": {"name": zoo}})
    train(store, range(6), 2, run=run)
    vectorize(store, replace(description(), name=zoo), run)


def keys(store: ObjectStore) -> set[str]:
    return {stat.key for stat in store.list("")}


def test_a_zoo_is_removed_with_its_run_and_gc_takes_its_objects_and_no_others() -> None:
    store = Clock(MemoryStore())
    grow(store)
    alone = {stat.key for stat in store.list(OBJECTS_PREFIX)}
    grow(store, "other", OTHER_RUN)
    kept = {key for key in keys(store) if "/other/" in key or OTHER_RUN in key}
    before = keys(store)
    planned = plan_removal(store, ZOO)
    assert keys(store) == before
    removed = remove(store, ZOO)
    assert (removed.zoo, removed.run, set(removed.keys) - set(planned.keys)) == (
        ZOO,
        RUN,
        {f"runs/{RUN}/control.json"},
    )
    assert list_zoos(store) == ["other"]
    assert {key for key in keys(store) if not key.startswith(OBJECTS_PREFIX)} == kept
    store.ahead = DAY + 1
    assert collect(store, dry_run=False).phase == "marked"
    store.ahead = 2 * DAY + 10
    assert collect(store, dry_run=False).phase == "swept"
    left = {stat.key for stat in store.list(OBJECTS_PREFIX)}
    quiet = MemoryStore()
    grow(quiet, "other", OTHER_RUN)
    needed = {stat.key for stat in quiet.list(OBJECTS_PREFIX)}
    assert left <= needed
    assert alone - needed
    assert not left & (alone - needed)


def test_a_zoo_whose_run_has_a_driver_is_not_removed(memory: ObjectStore) -> None:
    grow(memory)
    claims = Claims(memory, RUN, ATTEMPT)
    claims.hold(f"driver-{ATTEMPT}")
    before = keys(memory)
    with pytest.raises(StorageUsageError, match=f"the driver of attempt {ATTEMPT} works on its run; stop it first"):
        remove(memory, ZOO)
    assert keys(memory) == before
    claims.release(f"driver-{ATTEMPT}")
    remove(memory, ZOO)
    assert list_zoos(memory) == []


class DriverBegins(FaultyStore):
    """A driver that read the control before the stop takes its claim just after it."""

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = self.inner.put(key, data, if_absent=if_absent, if_match=if_match)
        if key.endswith("/control.json"):
            Claims(self.inner, RUN, ATTEMPT).hold(f"driver-{ATTEMPT}")
        return etag


class DriverWrites(FaultyStore):
    """A driver whose claim was not seen writes ``times`` objects while the run is deleted."""

    def __init__(self, inner: ObjectStore, times: int) -> None:
        super().__init__(inner)
        self.left = times

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self.inner.delete(key, if_match=if_match)
        if key.startswith(f"runs/{RUN}/") and self.left:
            self.left -= 1
            self.inner.put(f"runs/{RUN}/logs/{ATTEMPT}/driver/{self.left:06d}.jsonl", b"{}")


def test_a_driver_that_begins_at_the_same_time_is_reported(memory: ObjectStore) -> None:
    grow(memory)
    records = {key for key in keys(memory) if "/parts/" in key or key.startswith("zoos/")}
    with pytest.raises(StorageUsageError, match="works on its run"):
        remove(DriverBegins(memory), ZOO)
    assert records <= keys(memory)
    Claims(memory, RUN, ATTEMPT).release(f"driver-{ATTEMPT}")
    memory.delete(f"runs/{RUN}/claims/driver-{ATTEMPT}")
    control = read_control(memory, RUN)
    assert control is not None and (control.wanted, control.removing) == ("stopped", False)
    with pytest.raises(StorageError, match=rf"was written while {ZOO} was removed; end what writes there"):
        remove(DriverWrites(memory, 10**6), ZOO)
    assert list_zoos(memory) == [ZOO]
    stop_run(memory, RUN, "by hand")
    control = read_control(memory, RUN)
    assert control is not None and control.removing
    remove(DriverWrites(memory, 1), ZOO)
    assert [key for key in keys(memory) if not key.startswith(OBJECTS_PREFIX)] == []


def test_a_publisher_is_told_that_the_zoo_was_removed_meanwhile(memory: ObjectStore) -> None:
    grow(memory)
    check_not_removed(memory, ZOO, RUN)
    remove(memory, ZOO)
    with pytest.raises(StorageError, match=f"{ZOO} was removed while this version was published; `zoo store rm"):
        check_not_removed(memory, ZOO, RUN)


class Dies(FaultyStore):
    """The remover dies after some deletions."""

    left = 5

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self.left -= not key.startswith("probe/")
        if self.left < 0:
            raise KeyboardInterrupt
        self.inner.delete(key, if_match=if_match)


def test_a_removal_that_was_interrupted_is_finished_by_the_next_one_and_leaves_no_hole() -> None:
    for after in range(1, 40):
        store = MemoryStore()
        grow(store)
        dying = Dies(store)
        dying.left = after
        try:
            remove(dying, ZOO)
        except KeyboardInterrupt:
            parts = sorted(key.rsplit("/", 1)[1] for key in keys(store) if "/parts/" in key)
            assert parts == [f"{part:05d}.json" for part in range(len(parts))]
            if list_zoos(store):
                remove(store, ZOO)
            else:  # the control alone is left, which keeps the run from being started for ten minutes
                store.delete(f"runs/{RUN}/control.json")
        assert [key for key in keys(store) if not key.startswith(OBJECTS_PREFIX)] == []


def test_a_zoo_that_others_descend_from_is_not_removed(memory: ObjectStore) -> None:
    grow(memory)
    create_run(memory, OTHER_RUN, {"parent_run": RUN})
    create_spec(memory, "twins", {"kind": "twins", "run": OTHER_RUN, "spec": {"parent": {"name": ZOO}}})
    with pytest.raises(StorageUsageError, match=f"twins descends from {ZOO} and needs its weights; remove twins first"):
        plan_removal(memory, ZOO)
    remove(memory, "twins")
    remove(memory, ZOO)


def test_a_run_that_grew_another_zoo_too_stays(memory: ObjectStore) -> None:
    grow(memory)
    create_spec(memory, "again", {"kind": "zoo", "run": RUN, "spec": {"name": "again"}})
    removed = remove(memory, ZOO)
    assert removed.shared_with == ("again",)
    assert f"run {RUN[:8]} stays for again" in removed.line()
    assert any("/parts/" in key for key in keys(memory))


def test_a_zoo_that_is_not_there_is_bad_input(memory: ObjectStore) -> None:
    with pytest.raises(StorageUsageError, match="has no zoo 'nobody'; `zoo store ls`") as raised:
        plan_removal(memory, "nobody")
    assert raised.value.exit_status == 2


def test_every_byte_of_a_store_is_counted_once(memory: ObjectStore) -> None:
    grow(memory)
    grow(memory, "other", OTHER_RUN)
    orphan = put_object(memory, b"orphan", "parquet")
    memory.put("datasets/mnist/0123/train.parquet", b"images")
    used = usage(memory)
    assert sum(one.num_bytes for one in used) == sum(stat.size for stat in memory.list(""))
    assert sum(one.num_objects for one in used) == len(keys(memory))
    by_kind: dict[str, list[Usage]] = {}
    for one in used:
        by_kind.setdefault(one.kind, []).append(one)
    assert [one.name for one in by_kind["zoo"]] == sorted([ZOO, "other"])
    assert sorted(one.name for one in by_kind["run"]) == sorted([RUN, OTHER_RUN])
    assert [(one.name, one.num_bytes) for one in by_kind["data set"]] == [("mnist", 6)]
    (orphans,) = by_kind["orphans"]
    collectable = collect(memory, dry_run=True, min_age_seconds=-10)
    assert (orphans.num_objects, orphans.num_bytes) == (collectable.num_objects, collectable.num_bytes)
    assert orphan.bytes <= orphans.num_bytes


def test_the_verbs_plan_first_and_say_what_they_did(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    url = str(tmp_path)
    grow(open_store(url))
    assert main(["store", "rm", ZOO, "--store", url]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"would remove {ZOO} and run {RUN[:8]}: ")
    assert "nothing was changed; --yes does it" in said.err
    assert main(["store", "du", "--store", url]) == 0
    assert "in all" in capsys.readouterr().out
    assert main(["store", "rm", ZOO, "--yes", "--json", "--store", url]) == 0
    assert '"removed": true' in capsys.readouterr().out
    assert main(["store", "rm", ZOO, "--yes", "--store", url]) == 2
