"""A single state is verified by the digests of its blocks: few bytes are read, and every byte used was hashed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.paths import ROOT
from tests.support.synthetic import LAYOUT, RUN, description, tiny_zoo, train, weights
from zooforge.storage.canonical import sha256_hex
from zooforge.storage.errors import DigestMismatch, FormatError
from zooforge.storage.formats import blocks
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.keys import manifest_key
from zooforge.storage.ops.pull import pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.seal import Request, vectorize
from zooforge.storage.read import shard_reader
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

GOLDEN = ROOT / "tests/golden/storage"
ROW_BYTES = 4 * LAYOUT.size


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of several blocks, whose ends are not those of rows."""
    for module in (blocks, shard_reader):
        monkeypatch.setattr(module, "BLOCK_BYTES", 100)


@pytest.fixture(scope="module")
def published() -> MemoryStore:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 100)
        return tiny_zoo()


@pytest.fixture
def store(copied: ObjectStore) -> ObjectStore:
    return copied


def opened(store: ObjectStore) -> Any:
    return zooforge.open_zoo(f"{store.url}/zoos/tiny-zoo")


def vector(zoo: Any, model: int, epoch: int) -> Any:
    return np.concatenate([value.reshape(-1) for value in zoo.state_dict(model, epoch).values()])


def test_every_state_that_is_read_alone_equals_the_trained_one(store: ObjectStore) -> None:
    for model in range(24):
        zoo = opened(store)
        for epoch in (3, 0):
            values = vector(zoo, model, epoch)
            np.testing.assert_array_equal(values, weights(model, epoch, faulty_from=2 if model == 5 else None))


def test_one_state_reads_and_hashes_its_blocks_only(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = opened(store)
    vector(zoo, 0, 0)  # the tables of models and blocks
    ranges = []
    original = zoo.store.get

    def get(key: str, byte_range: Any = None) -> Any:
        ranges.append(byte_range)
        return original(key, byte_range)

    monkeypatch.setattr(zoo.store, "get", get)
    np.testing.assert_array_equal(vector(zoo, 7, 2), weights(7, 2))
    sizes = [stop - start for start, stop in ranges]
    assert sizes == (
        [] if isinstance(store, LocalStore) else [-(-8 * ROW_BYTES // 100) * 100 - 7 * ROW_BYTES // 100 * 100]
    )


def test_one_request_to_a_remote_store_fetches_neighbouring_blocks(store: ObjectStore) -> None:
    zoo = opened(store)
    vector(zoo, 0, 1)
    vector(zoo, 1, 1)
    before = zoo.store.traffic.num_requests
    for model in range(2, 24):
        vector(zoo, model, 1)
    assert zoo.store.traffic.num_requests == before


def test_every_reader_of_a_block_refuses_a_flipped_byte(store: ObjectStore) -> None:
    manifest = opened(store).manifest
    shard = manifest.shards[0]
    data = bytearray(store.get(shard.ref.key)[0])
    data[shard.tensors["epoch_002"].start + 7 * ROW_BYTES + 5] ^= 1
    store.put(shard.ref.key, data)
    zoo = opened(store)
    with pytest.raises(DigestMismatch, match=f"block 10 of tensor epoch_002 of object {shard.ref.key}"):
        zoo.state_dict(7, 2)
    np.testing.assert_array_equal(vector(opened(store), 20, 2), weights(20, 2))
    with pytest.raises(DigestMismatch, match=f"tensor epoch_002 of object {shard.ref.key}"):
        opened(store).weights(epochs=2)


def test_verify_and_readers_notice_digests_of_other_blocks(store: ObjectStore) -> None:
    manifest = opened(store).manifest
    shard = manifest.shards[0]
    table = dict(blocks.read_blocks(store, manifest))
    table[shard.ref.sha256] = np.roll(table[shard.ref.sha256], 1)
    wrong = replace(manifest, blocks=blocks.write_blocks(store, table, manifest.shards))
    (problem,) = verify_zoo(replaced(store, wrong)).problems[:1]
    assert problem.name == wrong.blocks.key and "epoch_000" in problem.what
    fewer = {shard.ref.sha256: table[shard.ref.sha256][1:]}
    short = replace(manifest, blocks=blocks.write_blocks(store, fewer, manifest.shards))
    with pytest.raises(FormatError, match="does not hold the digests"):
        replaced(store, short).state_dict(0, 0)


def replaced(store: ObjectStore, manifest: Manifest) -> Any:
    store.put(manifest_key("tiny-zoo", 1), manifest.to_json())
    return zooforge.open_zoo(f"{store.url}/zoos/tiny-zoo", version=1)


def test_a_version_that_grows_has_the_digests_of_old_and_new_shards() -> None:
    grown, once = MemoryStore("memory://grown"), MemoryStore("memory://once")
    described = replace(description(architecture="cnn-l"), num_models=64)
    for num_models in (32, 64):
        train(grown, range(num_models), 1)
        manifest = vectorize(grown, described, RUN).manifest
    train(once, range(64), 1)
    expected = vectorize(once, described, RUN, Request()).manifest
    assert len(manifest.shards) == 2 and manifest.to_json() == expected.to_json()


def test_a_part_that_is_pulled_has_digests_of_its_own(store: ObjectStore, tmp_path: Path) -> None:
    target = open_store(str(tmp_path / "pulled"))
    pull(opened(store), target, epochs="1:3", models=[3, 7, 20])
    zoo = opened(target)
    assert zoo.manifest.blocks is not None and verify_zoo(zoo).ok
    np.testing.assert_array_equal(vector(zoo, 7, 2), weights(7, 2))


def test_a_zoo_of_version_1_is_pulled_as_it_is_and_sealed_anew_with_blocks(tmp_path: Path) -> None:
    old = zooforge.open_zoo(f"{GOLDEN / 'v1'}/zoos/golden-vd")
    whole = open_store(str(tmp_path / "whole"))
    pull(old, whole)
    key = manifest_key("golden-vd", 1)
    assert whole.get(key)[0] == (GOLDEN / "v1" / key).read_bytes()
    part = open_store(str(tmp_path / "part"))
    pull(old, part, models=[1, 2])
    pulled = zooforge.open_zoo(f"{part.url}/zoos/golden-vd")
    assert pulled.manifest.blocks is None and verify_zoo(pulled).ok
    np.testing.assert_array_equal(
        pulled.state_dict(2, 3, masked=False)["module_list.0.weight"].reshape(-1), weights(2, 3)[:8]
    )


def test_a_version_on_top_of_version_1_is_the_one_that_this_version_would_have_made(published: MemoryStore) -> None:
    store, fresh = MemoryStore(), MemoryStore()
    for one in (store, fresh):
        train(one, range(6), 2, norms=False)
    manifest = vectorize(store, description(), RUN).manifest
    shard = manifest.shards[0]
    data = memoryview(store.get(shard.ref.key)[0])
    flat = {n: replace(t, sha256=sha256_hex(data[t.start : t.stop])) for n, t in shard.tensors.items()}
    version_1 = replace(manifest, version=1, blocks=None, shards=(replace(shard, tensors=flat),))
    assert b'"version":1' in version_1.to_json()
    other = MemoryStore()
    for stat in list(store.list("")):
        if not stat.key.startswith("zoos/"):
            other.put(stat.key, store.get(stat.key)[0])
    other.put(manifest_key("tiny-zoo", 1), version_1.to_json())
    from zooforge.storage.publish.head import move_head

    assert move_head(other, "tiny-zoo", 1, version_1.to_json(), None)
    for one in (other, fresh):
        train(one, range(6), 3, norms=False)
    assert (
        vectorize(other, description(), RUN).manifest.to_json()
        == vectorize(fresh, description(), RUN).manifest.to_json()
    )
