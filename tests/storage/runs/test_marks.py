"""Writers and collections that meet at a mark. tests/storage/simulation tries every order of their requests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.aging_store import DAY, Clock
from tests.support.faulty_store import FaultyStore
from tests.support.synthetic import ATTEMPT, RUN, part_data
from zooforge.storage.canonical import canonical_json
from zooforge.storage.errors import FormatError, PreconditionFailed
from zooforge.storage.keys import gc_key
from zooforge.storage.ops.gc import collect
from zooforge.storage.runs.commit import commit_part
from zooforge.storage.runs.marks import SWEEP_VOID_SECONDS, create_mark, read_marks, rewrite_mark, unmark
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import ObjectRef, put_object
from zooforge.storage.stores.protocol import ObjectStore


@pytest.fixture
def aging() -> Clock:
    return Clock(MemoryStore())


def never(seconds: float) -> None:
    raise AssertionError("nothing to wait for")


def marked(store: ObjectStore, *contents: bytes) -> list[ObjectRef]:
    refs = [put_object(store, content, "parquet") for content in contents]
    create_mark(store, [ref.key for ref in refs], 1e9)
    return refs


def test_a_writer_takes_its_objects_off_a_mark_and_leaves_the_others(aging: Clock) -> None:
    mine, other = marked(aging, b"mine", b"another's")
    assert unmark(aging, [mine], wait=never) == []
    (mark,) = read_marks(aging)
    assert (mark.state, mark.keys) == ("marked", {other.key})


def test_a_writer_waits_for_a_sweep_and_is_told_what_it_deleted(aging: Clock) -> None:
    first, second = marked(aging, b"first", b"second")
    (mark,) = read_marks(aging)
    assert rewrite_mark(aging, mark, "sweeping", mark.keys) is not None
    waited = []

    def end_of_sweep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            aging.delete(first.key)
            aging.delete(mark.key)

    assert unmark(aging, [first, second], wait=end_of_sweep) == [first]
    assert len(waited) == 3


def test_a_crashed_sweep_is_waited_for_until_its_requests_have_ended(aging: Clock) -> None:
    (mine,) = marked(aging, b"mine")
    (mark,) = read_marks(aging)
    assert rewrite_mark(aging, mark, "sweeping", mark.keys) is not None
    waited = []

    def pass_time(seconds: float) -> None:
        waited.append(seconds)
        aging.ahead += SWEEP_VOID_SECONDS / 2

    class Now:
        now = staticmethod(lambda: aging.ahead + 1 + max(aging.times.values()) - aging_start)

    aging_start = aging.ahead
    assert unmark(aging, [mine], clock=Now(), wait=pass_time) == []  # type: ignore[arg-type]
    assert len(waited) == 2
    assert read_marks(aging)[0].keys == frozenset()


def test_a_mark_that_a_writer_changed_is_not_swept(aging: Clock) -> None:
    (mine,) = marked(aging, b"mine")
    (old,) = read_marks(aging)
    unmark(aging, [mine], wait=never)
    assert rewrite_mark(aging, old, "sweeping", old.keys) is None


def test_a_commit_writes_objects_again_that_a_sweep_deleted_before_its_record(aging: Clock) -> None:
    data = part_data([0, 1], 0)
    dying = FaultyStore(aging, dies_at_record)
    with pytest.raises(KeyboardInterrupt):
        commit_part(dying, RUN, data, ATTEMPT)
    aging.ahead = DAY + 1
    assert collect(aging, dry_run=False).phase == "marked"
    aging.ahead = 2 * DAY + 2

    def sweep_now(verb: str, key: str) -> None:
        if verb == "put" and "/parts/" in key:
            aging.ahead += DAY  # the writer was paused for a day
            assert collect(aging, dry_run=False).phase == "marked"
            aging.ahead += DAY + 1
            assert collect(aging, dry_run=False).num_objects == 3

    record = commit_part(FaultyStore(aging, sweep_now), RUN, data, ATTEMPT).record
    for ref in (record.weights, record.labels, record.state):
        assert ref is not None and aging.stat(ref.key) is not None


def dies_at_record(verb: str, key: str) -> None:
    if "/parts/" in key:
        raise KeyboardInterrupt


def test_a_sweep_with_retried_requests_leaves_its_mark_until_it_is_void(aging: Clock) -> None:
    aging.ahead = -2 * DAY
    orphan = put_object(aging, b"orphan", "parquet")
    create_mark(aging, [orphan.key], aging.times[orphan.key] + 1)
    aging.ahead = 0

    def retry(verb: str, key: str) -> None:
        if verb == "delete" and key == orphan.key:
            aging.traffic.add(retries=1)

    assert collect(FaultyStore(aging, retry), dry_run=False).num_objects == 1
    (mark,) = read_marks(aging)
    assert mark.state == "sweeping"
    assert collect(aging, dry_run=False).num_objects == 0
    assert len(read_marks(aging)) == 1
    aging.ahead = SWEEP_VOID_SECONDS + 5
    collect(aging, dry_run=False)
    assert read_marks(aging) == []


def test_a_mark_of_an_earlier_version_is_swept(aging: Clock) -> None:
    orphan = put_object(aging, b"orphan", "parquet")
    aging.ahead = DAY
    aging.put(gc_key(1), canonical_json([orphan.key]))
    aging.ahead = 2 * DAY + 1
    assert collect(aging, dry_run=False).num_objects == 1


@pytest.mark.parametrize("value", [{"objects": [1]}, {"state": "x", "objects": [], "marked_seconds": 1}, 5])
def test_an_invalid_mark_is_refused(memory: ObjectStore, value: object) -> None:
    memory.put(gc_key(1), canonical_json(value))
    with pytest.raises(FormatError, match="gc/0000000001"):
        read_marks(memory)


@pytest.mark.parametrize("make", [LocalStore, lambda path: MemoryStore()])
def test_a_conditional_delete_leaves_an_object_that_was_written_again(
    make: Callable[[Path], ObjectStore], tmp_path: Path
) -> None:
    store = make(tmp_path)
    old = store.put("objects/a", b"1")
    new = store.put("objects/a", b"2")
    with pytest.raises(PreconditionFailed):
        store.delete("objects/a", if_match=old)
    assert store.get("objects/a")[0] == b"2"
    store.delete("objects/a", if_match=new)
    store.delete("objects/a", if_match=new)
    assert store.stat("objects/a") is None


class HoldsUploads(FaultyStore):
    """A store with stale multipart uploads."""

    aborted: tuple[float, float] | None = None

    def abort_stale_uploads(self, older_than_seconds: float, now_seconds: float) -> int:
        self.aborted = (older_than_seconds, now_seconds)
        return 2


def test_a_collection_aborts_multipart_uploads_that_were_left(aging: Clock) -> None:
    store = HoldsUploads(aging)
    collect(store)
    assert store.aborted is None
    aging.ahead = 7 * DAY
    now = aging.times[put_object(aging, b"now", "parquet").key]
    collect(store, dry_run=False)
    assert store.aborted is not None
    assert store.aborted[0] == DAY
    assert store.aborted[1] == pytest.approx(now, abs=60)
