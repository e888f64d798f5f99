"""A version is a function of spec and weights: its manifest has the same bytes however the run was interrupted."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.faulty_store import Died, FaultyStore
from tests.support.synthetic import RUN, description, part_data, train, weights
from zooforge.storage.canonical import sha256_hex
from zooforge.storage.errors import IncompleteRun, StoreRefused
from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.manifest import Manifest, Parent
from zooforge.storage.formats.shards import shard_shape, to_ranges
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.formats.tensors import decode
from zooforge.storage.keys import head_key, manifest_key
from zooforge.storage.publish.head import read_head
from zooforge.storage.publish.seal import Request, Version, vectorize
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import get_object
from zooforge.storage.stores.protocol import ObjectStore

FAULTY = {3: 2}


def seal(store: ObjectStore, **options: Any) -> Version:
    return vectorize(store, description(**options), RUN)


@pytest.fixture(scope="module")
def quiet() -> bytes:
    store = MemoryStore()
    train(store, range(32), 6, faulty=FAULTY)
    return seal(store).manifest.to_json()


def test_a_version_holds_every_state_under_its_digest(memory: ObjectStore) -> None:
    train(memory, range(32), 6, faulty=FAULTY)
    manifest = seal(memory).manifest
    assert manifest.num_states == 32 * 7
    assert manifest.describe() == "32 of 64 models, 6 of 8 epochs"
    for shard in manifest.shards:
        tensors, provenance = decode(get_object(memory, shard.ref, "test"))
        assert provenance is None
        for epoch, models in shard.models_by_epoch().items():
            expected = np.stack([weights(m, epoch, faulty_from=FAULTY.get(m)) for m in models])
            np.testing.assert_array_equal(tensors[f"epoch_{epoch:03d}"], expected)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_run_in_pieces_publishes_the_bytes_of_a_quiet_one(quiet: bytes, seed: int) -> None:
    generator = random.Random(seed)
    store = MemoryStore()
    for _ in range(generator.randrange(1, 5)):
        members = sorted(generator.sample(range(32), generator.randrange(1, 32)))
        train(store, members, generator.randrange(0, 7), faulty=FAULTY, attempt="20260102T000000Z-00aa")
        if generator.random() < 0.5:
            seal(store)
    train(store, range(32), 6, faulty=FAULTY)
    assert seal(store).manifest.to_json() == quiet


def test_small_memory_gives_the_same_bytes(quiet: bytes, memory: ObjectStore) -> None:
    train(memory, range(32), 6, faulty=FAULTY)
    version = vectorize(memory, description(), RUN, memory_bytes=1)
    assert version.manifest.to_json() == quiet


def test_parts_of_several_epochs_give_the_same_bytes(quiet: bytes, memory: ObjectStore) -> None:
    train(memory, range(32), 6, every=3, faulty=FAULTY)
    assert seal(memory).manifest.to_json() == quiet


def test_the_same_content_is_no_new_version(memory: ObjectStore) -> None:
    train(memory, range(4), 2)
    first, second = seal(memory), seal(memory)
    assert (first.number, first.new, second.number, second.new) == (1, True, 1, False)


def test_a_version_never_shrinks(memory: ObjectStore) -> None:
    train(memory, range(8), 4)
    whole = seal(memory)
    smaller = vectorize(memory, description(), RUN, Request(models=range(2), epochs=1))
    assert not smaller.new and smaller.manifest_sha256 == whole.manifest_sha256


def test_a_first_version_holds_only_the_requested_states(memory: ObjectStore) -> None:
    train(memory, range(8), 4)
    manifest = vectorize(memory, description(), RUN, Request(models=range(2, 5), epochs=1)).manifest
    assert (manifest.models, manifest.num_epochs, manifest.num_states) == (((2, 5),), 1, 6)


def test_models_may_be_at_different_epochs(memory: ObjectStore) -> None:
    train(memory, range(4), 4)
    train(memory, range(4, 8), 1)
    manifest = seal(memory).manifest
    assert manifest.num_states == 4 * 5 + 4 * 2
    assert manifest.shards[0].rows == ((((0, 2),), ((0, 8),)), (((2, 5),), ((0, 4),)))


def test_published_states_stay_when_parts_are_collected(memory: ObjectStore) -> None:
    train(memory, range(8), 2)
    first = seal(memory).manifest
    keep = {ref.key for ref in first.refs}
    for stat in list(memory.list("objects/")):
        state = b'"kind"' in memory.get(stat.key)[0][:400]
        if stat.key not in keep and not state:
            memory.delete(stat.key)
    train(memory, range(8), 4)
    other = MemoryStore()
    train(other, range(8), 4)
    assert seal(memory).manifest.to_json() == seal(other).manifest.to_json()


def test_shards_are_cut_by_models_and_epochs_only(memory: ObjectStore) -> None:
    layout = Layout.of([("a.weight", (4, 4)), ("a.bias", (4,))])
    members = [*range(0, 300, 2), *range(1, 300, 2)]
    for chosen in (sorted(members[:170]), sorted(members[170:])):
        for part in range(2):
            from zooforge.storage.runs.commit import commit_part

            commit_part(memory, RUN, part_data(chosen, part, size=20), "20260101T000000Z-0001")
    manifest = seal(memory, num_models=300, layout=layout, architecture="cnn-s").manifest
    assert [(s.first_model, s.first_epoch) for s in manifest.shards] == [(0, 0), (128, 0), (256, 0)]
    assert [s.rows[0][1] for s in manifest.shards] == [((0, 128),), ((128, 256),), ((256, 300),)]


def test_epochs_of_a_field_lie_side_by_side(memory: ObjectStore) -> None:
    train(memory, range(4), 5, twin=True)
    manifest = seal(memory, parent=Parent("root-zoo", "ab" * 16, 5)).manifest
    tensors = manifest.shards[0].tensors
    for field in ("", ".log_sigma2", ".mask"):
        places = [tensors[f"epoch_{e:03d}{field}"] for e in range(6)]
        assert all(a.stop == b.start for a, b in pairwise(places))


def test_an_architecture_of_one_state_per_shard_copies_nothing(memory: ObjectStore) -> None:
    from zooforge.storage.runs.commit import commit_part

    for model in range(3):
        for part in range(2):
            commit_part(memory, RUN, part_data([model], part, unit=model), "20260101T000000Z-0001")
    before = {stat.key for stat in memory.list("objects/")}
    manifest = seal(memory, architecture="resnet18").manifest
    assert len(manifest.shards) == 6
    assert {shard.ref.key for shard in manifest.shards} <= before


def test_shard_shapes_follow_the_format() -> None:
    assert shard_shape((128, 64), 2464) == (128, 64)
    assert shard_shape((1, 1), 11_000_000, compressed=True) == (1, 8)
    assert shard_shape(None, 2464) == (64, 64)
    assert shard_shape(None, 10**9) == (1, 1)


def test_epochs_not_kept_have_labels_only(memory: ObjectStore) -> None:
    train(memory, range(4), 5, kept=[0, 1, 5])
    manifest = seal(memory).manifest
    assert manifest.num_states == 12 and manifest.labels.rows == 24
    assert to_ranges(sorted(manifest.shards[0].models_by_epoch())) == ((0, 2), (5, 6))


def test_refilled_epochs_join_the_next_version(memory: ObjectStore) -> None:
    from zooforge.storage.runs.commit import commit_part

    train(memory, range(4), 3, kept=[0, 3])
    seal(memory)
    data = replace(part_data(range(4), 2), state={})
    commit_part(memory, RUN, data, "20260101T000000Z-0009", refill=True)
    other = MemoryStore()
    train(other, range(4), 3, kept=[0, 2, 3])
    version = seal(memory)
    assert version.number == 2 and version.manifest.to_json() == seal(other).manifest.to_json()


def test_twins_carry_noise_masks_and_lineage(memory: ObjectStore) -> None:
    train(memory, range(8), 2, twin=True)
    version = seal(memory, name="tiny-zoo-vd", parent=Parent("tiny-zoo", "ab" * 16, 6))
    manifest = version.manifest
    assert sorted(manifest.fields) == ["", ".log_sigma2", ".mask"]
    assert manifest.twin and manifest.parent == Parent("tiny-zoo", "ab" * 16, 6)


def test_twins_are_in_their_parents_split(memory: ObjectStore) -> None:
    train(memory, range(32), 0)
    train(memory, range(0, 32, 3), 0, run="ff" * 16, twin=True)
    parent = seal(memory)
    twin = vectorize(memory, description("tiny-zoo-vd", parent=Parent("tiny-zoo", RUN, 0)), "ff" * 16)
    tables = []
    for version in (parent, twin):
        key = f"zoos/{version.zoo}/versions/0001/models.parquet"
        import pyarrow as pa

        table = pq.read_table(pa.BufferReader(memory.get(key)[0]))
        tables.append(dict(zip(table["model"].to_pylist(), table["split"].to_pylist(), strict=True)))
    assert len(tables[1]) == 11 and tables[1].items() <= tables[0].items()


def test_a_manifest_says_nothing_of_time_host_or_attempt(memory: ObjectStore) -> None:
    train(memory, range(4), 1, attempt="20260304T050607Z-abcd")
    text = seal(memory).manifest.to_json().decode()
    for word in ("20260304T050607Z-abcd", "attempt", "seconds", "numerics", "engine"):
        assert word not in text


def test_a_manifest_reads_back_as_it_was(memory: ObjectStore) -> None:
    train(memory, range(4), 1)
    manifest = seal(memory).manifest
    assert Manifest.from_json(manifest.to_json(), "test") == manifest


def test_dying_anywhere_in_publishing_leaves_a_whole_zoo_or_none(memory: MemoryStore) -> None:
    train(memory, range(6), 2)
    seal(memory)
    train(memory, range(12), 3)
    num_writes = 0

    def count(verb: str, key: str) -> None:
        nonlocal num_writes
        num_writes += verb == "put"

    expected = seal(FaultyStore(memory.copy(), count)).manifest.to_json()
    for dies_at in range(num_writes):
        store = memory.copy()
        writes = iter(range(1000))

        def fault(verb: str, key: str, writes: Any = writes, dies_at: int = dies_at) -> None:
            if verb == "put" and next(writes) == dies_at:
                raise Died

        with pytest.raises(Died):
            seal(FaultyStore(store, fault))
        head = read_head(store, "tiny-zoo")
        assert head is not None and head.number in (1, 2)
        found = store.get(manifest_key("tiny-zoo", head.number))[0]
        assert sha256_hex(found) == head.manifest_sha256
        version = seal(store)
        assert version.number == 2 and version.manifest.to_json() == expected


def test_a_version_that_others_sealed_meanwhile_is_kept_below_ours(memory: ObjectStore) -> None:
    train(memory, range(4), 1)
    seal(memory)
    train(memory, range(8), 2)
    theirs = vectorize(memory, description(), RUN, Request(models=range(6), epochs=1))
    assert theirs.number == 2
    head = memory.get(head_key("tiny-zoo"))[0]
    first = json.loads(head) | {"number": 1, "manifest_sha256": sha256_hex(memory.get(manifest_key("tiny-zoo", 1))[0])}
    memory.put(head_key("tiny-zoo"), json.dumps(first).encode())  # they died before moving HEAD
    ours = seal(memory)
    assert (ours.number, ours.new) == (3, True)
    assert memory.get(manifest_key("tiny-zoo", 2))[0] == theirs.manifest.to_json()


def test_another_lineage_starts_from_its_own_content(memory: ObjectStore) -> None:
    train(memory, range(8), 2)
    seal(memory)
    train(memory, range(3), 1, run="ee" * 16)
    version = vectorize(memory, description(), "ee" * 16)
    assert version.number == 2 and version.manifest.models == ((0, 3),)


def test_nothing_committed_is_nothing_to_publish(memory: ObjectStore) -> None:
    with pytest.raises(IncompleteRun, match="zoo train"):
        seal(memory)


def test_copies_can_be_checked_with_sha256sum(memory: ObjectStore) -> None:
    train(memory, range(4), 1)
    seal(memory)
    prefix = "zoos/tiny-zoo/versions/0001/"
    for line in memory.get(f"{prefix}SHA256SUMS")[0].decode().splitlines():
        digest, name = line.split("  ")
        key = name.removeprefix("../../../../") if name.startswith("..") else prefix + name
        assert sha256_hex(memory.get(key)[0]) == digest


def test_the_reference_split_is_available(memory: ObjectStore) -> None:
    train(memory, range(10), 0)
    manifest = seal(memory, num_models=10, split=SplitRule("reference")).manifest
    assert manifest.split_counts == {"train": 7, "val": 1, "test": 2}


class IgnoresConditions(FaultyStore):
    """A server that accepts conditional writes and ignores the conditions."""

    def put(self, key: str, data: Any, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return self.inner.put(key, data)


def test_publishing_is_refused_where_conditional_writes_are_not_atomic(memory: ObjectStore) -> None:
    train(memory, range(4), 2)
    before = {stat.key: stat.etag for stat in memory.list("")}
    with pytest.raises(StoreRefused, match="not atomic, so nothing is published here; publish to another store"):
        seal(IgnoresConditions(memory))
    assert {stat.key: stat.etag for stat in memory.list("")} == before


def test_a_version_whose_objects_a_sweep_deleted_is_completed_before_head_moves(memory: ObjectStore) -> None:
    train(memory, range(4), 2)
    sweeps = iter([True])

    def sweep(verb: str, key: str) -> None:
        if key == manifest_key("tiny-zoo", 1) and next(sweeps, False):
            for stat in list(memory.list("objects/")):
                memory.delete(stat.key) if stat.key in published else None

    published = {ref.key for ref in seal(copy_of(memory)).manifest.refs}
    version = seal(FaultyStore(memory, after=sweep))
    assert version.number == 1
    for ref in version.manifest.refs:
        get_object(memory, ref, "test")


def copy_of(store: ObjectStore) -> ObjectStore:
    other = MemoryStore()
    for stat in store.list(""):
        other.put(stat.key, store.get(stat.key)[0])
    return other


def test_a_manifest_that_lacks_objects_does_not_become_the_current_one(memory: ObjectStore) -> None:
    """Its publisher died, and a sweep that was under way deleted what it names."""
    train(memory, range(4), 1)
    dead = replace(seal(memory).manifest, title="another")
    memory.delete(head_key("tiny-zoo"))
    dead = replace(dead, labels=replace(dead.labels, ref=replace(dead.labels.ref, sha256="0" * 64)))
    memory.put(manifest_key("tiny-zoo", 1), dead.to_json())
    train(memory, range(4), 2)
    assert seal(memory).number == 2
