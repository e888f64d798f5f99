"""Vectorizing reads back what it wrote before the version becomes the current one."""

from pathlib import Path

import pytest

from tests.support.made_runs import NAME, MadeRun, parent, whole_run
from zooforge.storage.ops.verify import added_shards
from zooforge.storage.publish.head import read_head
from zooforge.storage.runs.run_files import read_usage
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.catalogue.in_store import register
from zooforge.zoo_jobs.commands.run import report_verification
from zooforge.zoo_jobs.commands.verify import NotWhatItSays
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.publishing.publish import publish, read_back
from zooforge.zoo_jobs.spec.overrides import with_overrides


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def grown(store: ObjectStore) -> MadeRun:
    run = MadeRun(store, parent(), (0, 4), 3)
    for epoch in range(3):
        run.commit((0, 1, 2, 3), epoch)
    run.end("finished")
    return run


def test_a_first_version_is_read_back_whole_and_counted(store: ObjectStore) -> None:
    grown(store)
    publish(store, parent())
    verification = read_back(store, store.url, parent())
    assert (verification.ok, verification.num_states) == (True, 12)
    assert read_usage(store, parent().run_id)["verified_epochs"] == 12
    read_back(store, store.url, parent())
    assert read_usage(store, parent().run_id)["verified_epochs"] == 24


def test_a_later_version_is_read_back_where_it_is_new(store: ObjectStore) -> None:
    grown(store)
    publish(store, parent())
    before = {shard.ref.key for shard in open_zoo(f"{store.url}/zoos/{NAME}").manifest.shards}
    more = MadeRun(store, parent(), (0, 6), 3)
    for epoch in range(3):
        more.commit((4, 5), epoch)
    publish(store, parent())
    published = open_zoo(f"{store.url}/zoos/{NAME}")
    new = added_shards(published, 10**12)
    assert new
    assert before.isdisjoint(shard.ref.key for shard in new)
    assert len(added_shards(published, 1)) == 1, "a sample is never empty"


def test_a_flipped_byte_in_what_was_written_is_named(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    whole_run(store, parent())
    publish(store, parent())
    key = open_zoo(f"{store.url}/zoos/{NAME}").manifest.shards[0].ref.key
    data = bytearray(store.get(key)[0])
    data[-1] ^= 1
    store.put(key, data)
    with pytest.raises(NotWhatItSays, match="1 problem"):
        report_verification(read_back(store, store.url, parent()))
    assert key in capsys.readouterr().out


def test_an_earlier_lineage_does_not_become_the_current_version_again(store: ObjectStore) -> None:
    grown(store)
    register(store, parent())
    publish(store, parent())
    newer = with_overrides(parent(), ["batch_size=20"], name="other").model_copy(update={"name": NAME})
    register(store, newer, new_lineage=True)
    MadeRun(store, newer, (0, 4), 3).commit((0, 1, 2, 3), 0)
    publish(store, newer)
    head = read_head(store, NAME)
    with pytest.raises(InputError, match=rf"is of run {newer.run_id[:8]}, this spec of {parent().run_id[:8]}.*lineage"):
        publish(store, parent())
    assert read_head(store, NAME) == head
