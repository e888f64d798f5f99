"""`verify` and the reader report one wrong byte anywhere, with the object's name."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import zooforge
from tests.support.synthetic import tiny_zoo
from zooforge.storage.canonical import canonical_json
from zooforge.storage.errors import DigestMismatch, FormatError, ObjectMissing, StorageError
from zooforge.storage.formats.blocks import write_blocks
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.formats.tensors import decode, encode
from zooforge.storage.keys import manifest_key
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.head import move_head, read_head
from zooforge.storage.publish.shards import write_shard
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import ObjectRef, put_object
from zooforge.storage.stores.protocol import ObjectStore


@pytest.fixture(scope="module")
def published() -> MemoryStore:
    return tiny_zoo()


@pytest.fixture
def store(copied: ObjectStore) -> ObjectStore:
    return copied


def url(store: ObjectStore) -> str:
    return f"{store.url}/zoos/tiny-zoo"


def manifest_of(store: ObjectStore) -> Manifest:
    return Manifest.from_json(store.get(manifest_key("tiny-zoo", 1))[0], "test")


def replace_manifest(store: ObjectStore, data: bytes) -> None:
    store.put(manifest_key("tiny-zoo", 1), data)
    assert move_head(store, "tiny-zoo", 1, data, read_head(store, "tiny-zoo"))


def read_everything(store: ObjectStore) -> None:
    zooforge.open_zoo(url(store)).state_dict(3, 1)
    zoo = zooforge.open_zoo(url(store))
    zoo.weights()
    zoo.labels(split="train")


def replace_first_shard(store: ObjectStore, manifest: Manifest, tensors: dict[str, Any]) -> ObjectRef:
    """Publish other tensors in place of those of the only shard. Returns their object."""
    written = write_shard(store, tensors)
    assert written.digests is not None and len(manifest.shards) == 1
    shard = replace(manifest.shards[0], ref=written.ref, tensors=written.tensors)
    blocks = write_blocks(store, {written.ref.sha256: written.digests}, [shard])
    replace_manifest(store, replace(manifest, shards=(shard,), blocks=blocks).to_json())
    return written.ref


def test_a_good_zoo_verifies(store: ObjectStore) -> None:
    report = verify_zoo(zooforge.open_zoo(url(store)))
    assert report.ok and report.num_objects == 4 and report.num_states == 24 * 4


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_byte_is_reported_with_the_objects_name(store: ObjectStore, number: int, place: float) -> None:
    ref = manifest_of(store).refs[number]
    data = bytearray(store.get(ref.key)[0])
    data[round(place * (len(data) - 1))] ^= 1
    store.put(ref.key, data)
    problems = verify_zoo(zooforge.open_zoo(url(store))).problems
    assert [p.name for p in problems] == [ref.key]
    in_header = ref.kind == "safetensors" and place == 0.0  # ranged readers do not need a header
    if not in_header:
        with pytest.raises(DigestMismatch, match=ref.sha256):
            read_everything(store)


@pytest.mark.parametrize("number", range(4))
def test_a_missing_object_is_reported(store: ObjectStore, number: int) -> None:
    ref = manifest_of(store).refs[number]
    store.delete(ref.key)
    assert [p.name for p in verify_zoo(zooforge.open_zoo(url(store))).problems] == [ref.key]
    with pytest.raises(ObjectMissing, match=ref.sha256):
        read_everything(store)


@pytest.mark.parametrize("number", range(4))
def test_a_truncated_object_is_reported(store: ObjectStore, number: int) -> None:
    ref = manifest_of(store).refs[number]
    store.put(ref.key, store.get(ref.key)[0][:-9])
    assert [p.name for p in verify_zoo(zooforge.open_zoo(url(store))).problems] == [ref.key]
    with pytest.raises(StorageError, match=ref.sha256):
        read_everything(store)


def test_a_truncated_manifest_is_refused(store: ObjectStore) -> None:
    data = store.get(manifest_key("tiny-zoo", 1))[0]
    store.put(manifest_key("tiny-zoo", 1), data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"0001/manifest\.json"):
        zooforge.open_zoo(url(store))


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return canonical_json(value)

    return edit


def name_twice(value: dict[str, Any]) -> None:
    value["shards"].append(value["shards"][0])


def lose_a_state(value: dict[str, Any]) -> None:
    value["num_states"] -= 1


def move_a_tensor(value: dict[str, Any]) -> None:
    value["shards"][0]["tensors"]["epoch_001"][1] = 10**9


def climb(value: dict[str, Any]) -> None:
    value["shards"][0]["sha256"] = "../../../etc/passwd"


def stretch(value: dict[str, Any]) -> None:
    value["layout"][0]["shape"] = [9, 9]


def run_backwards(value: dict[str, Any]) -> None:
    value["models"] = [[5, 2]]


def forget(value: dict[str, Any]) -> None:
    del value["tables"]["labels"]


@pytest.mark.parametrize(
    "edit",
    [
        *map(edited, [name_twice, lose_a_state, move_a_tensor, climb, stretch, run_backwards, forget]),
        lambda data: data[:-1] + b',"zoo":"tiny-zoo"}',
        lambda data: data.replace(b'"num_epochs":3', b'"num_epochs":NaN'),
        lambda data: b"[" * 100_000,
        lambda data: b"null",
        lambda data: b"\xff\xfe",
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(store: ObjectStore, edit: Callable[[bytes], bytes]) -> None:
    replace_manifest(store, edit(store.get(manifest_key("tiny-zoo", 1))[0]))
    with pytest.raises(FormatError, match=r"manifest\.json") as raised:
        zooforge.open_zoo(url(store))
    assert "\n" not in str(raised.value)


def test_an_object_with_the_right_hash_and_the_wrong_shape_is_reported(store: ObjectStore) -> None:
    manifest = manifest_of(store)
    tensors, _ = decode(store.get(manifest.shards[0].ref.key)[0])
    tensors["epoch_001"] = tensors["epoch_001"].reshape(-1, tensors["epoch_001"].shape[1] * 2)
    ref = put_object(store, encode(tensors), "safetensors")

    def point_there(value: dict[str, Any]) -> None:
        value["shards"][0].update(ref.to_json())

    replace_manifest(store, edited(point_there)(manifest.to_json()))
    problems = verify_zoo(zooforge.open_zoo(url(store))).problems
    assert any(p.name == ref.key and "epoch_001" in p.what for p in problems)


def test_verify_and_reader_report_a_tensor_with_the_right_hash_and_a_row_too_few(store: ObjectStore) -> None:
    manifest = manifest_of(store)
    tensors, _ = decode(store.get(manifest.shards[0].ref.key)[0])
    tensors["epoch_001"] = tensors["epoch_001"][:-1]
    ref = replace_first_shard(store, manifest, tensors)
    problems = verify_zoo(zooforge.open_zoo(url(store))).problems
    assert any(p.name == ref.key and "epoch_001" in p.what for p in problems)
    for read in (read_everything, lambda s: zooforge.open_zoo(url(s)).state_dict(3, 1)):
        with pytest.raises(FormatError, match=f"{ref.key}.*epoch_001 has 23 rows, the manifest names 24"):
            read(store)


def test_states_that_their_labels_call_sound_must_be_finite(store: ObjectStore) -> None:
    manifest = manifest_of(store)
    tensors, _ = decode(store.get(manifest.shards[0].ref.key)[0])
    changed = tensors["epoch_001"].copy()
    changed[7, 3] = float("inf")
    tensors["epoch_001"] = changed
    ref = replace_first_shard(store, manifest, tensors)
    problems = verify_zoo(zooforge.open_zoo(url(store))).problems
    assert [str(p) for p in problems] == [f"{ref.key}: model 7 at epoch 1 is not finite, its labels say not faulty"]


def test_a_model_in_another_split_than_the_rule_says_is_reported(store: ObjectStore) -> None:
    def other_rule(value: dict[str, Any]) -> None:
        value["split"]["rule"]["seed"] = 7

    replace_manifest(store, edited(other_rule)(manifest_of(store).to_json()))
    problems = verify_zoo(zooforge.open_zoo(url(store))).problems
    assert any("the rule says" in p.what for p in problems)
