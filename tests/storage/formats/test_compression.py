"""Every reader gets every bit back from compressed shards; shards without compression are unchanged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zooforge
import zooforge.storage.formats.manifest
from tests.support.synthetic import LAYOUT, RUN, description, mask, noise, train, weights
from zooforge.storage.errors import DigestMismatch, FormatError, NewerFormat
from zooforge.storage.formats.compression import BLOCK_WORDS, Compression, decode_shard, encode_shard, pack, unpack
from zooforge.storage.formats.manifest import Manifest, Parent
from zooforge.storage.formats.shards import shard_shape
from zooforge.storage.formats.tensors import tensor_name
from zooforge.storage.interchange.raw.export_tree import export_raw
from zooforge.storage.interchange.raw.import_tree import import_raw
from zooforge.storage.interchange.zip import zip_zoo
from zooforge.storage.ops.pull import pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.seal import Version, vectorize
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import get_object
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

PACKED = "delta-zstd"
ODD_BITS = np.array(
    [0x7FC00000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F800000, 0xFF800000, 0x80000000, 0, 1, 0x80000001, 0x007FFFFF],
    np.uint32,
).view(np.float32)  # NaN with payloads, quiet and signalling, infinities, -0.0, 0.0, denormals


def seal(store: ObjectStore, compression: Any = PACKED, **options: Any) -> Version:
    return vectorize(store, description(**options), RUN, compression=compression)


def opened(store: ObjectStore, name: str = "tiny-zoo") -> Any:
    return zooforge.open_zoo(f"{store.url}/zoos/{name}")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=200, max_size=200), st.sampled_from(["<f4", "<i8", "|u1", "<f8"]))
def test_every_bit_comes_back(values: bytes, base: bytes, dtype: str) -> None:
    size = len(values) // np.dtype(dtype).itemsize
    array = np.frombuffer(values, dtype, size)
    before = np.frombuffer(base, dtype, size)
    assert unpack(pack(array, None), array.dtype, array.shape, None, "x").tobytes() == array.tobytes()
    assert unpack(pack(array, before), array.dtype, array.shape, before, "x").tobytes() == array.tobytes()


@pytest.mark.parametrize("count", [0, 1, BLOCK_WORDS - 1, 2 * BLOCK_WORDS + 5])
def test_a_frame_holds_what_the_format_says(count: int) -> None:
    values, base = np.random.default_rng(count).standard_normal((2, count), np.float32)
    apart = (values.view(np.int32).astype(np.int64) - base.view(np.int32) + 2**31) % 2**32 - 2**31
    zigzag = np.where(apart < 0, -2 * apart - 1, 2 * apart).astype("<u4")
    expected = zigzag.view(np.uint8).reshape(count, 4).T.tobytes()
    packed = pack(values, base)
    assert bytes(pa.Codec("zstd").decompress(packed, 4 * count)) == expected
    assert unpack(packed, values.dtype, values.shape, base, "x").tobytes() == values.tobytes()


def test_odd_floats_come_back_and_equal_values_give_equal_bytes() -> None:
    tensors = {tensor_name(epoch): np.roll(ODD_BITS, epoch).reshape(1, -1) for epoch in (6, 7, 8, 11)}
    data = encode_shard(tensors, Compression())
    assert bytes(data) == bytes(encode_shard({k: np.array(v) for k, v in tensors.items()}, Compression()))
    for name, actual in decode_shard(data, "x").items():
        assert actual.tobytes() == tensors[name].tobytes()


def test_a_damaged_shard_is_refused_wherever_the_damage_is() -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((2, 60), np.float32)
    data = bytes(encode_shard({tensor_name(e): values + np.float32(e * 1e-4) for e in range(3)}, Compression()))
    for position in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            decoded = decode_shard(bytes(damaged), "x")
        except (FormatError, DigestMismatch):
            continue
        for epoch in range(3):  # the damaged byte has no effect on the values: the level, or padding
            np.testing.assert_array_equal(decoded[tensor_name(epoch)], values + np.float32(epoch * 1e-4))


def test_a_frame_cannot_ask_for_more_memory_than_its_size_allows() -> None:
    with pytest.raises(FormatError, match="cannot hold"):
        unpack(b"\0" * 100, np.dtype("<f4"), (2**39,), None, "x")


@pytest.mark.parametrize("architecture", ["tiny", "resnet18"])
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_compressed_zoo_reads_as_the_same_zoo(kind: str, architecture: str, request: pytest.FixtureRequest) -> None:
    store: ObjectStore = request.getfixturevalue(kind)
    train(store, range(5), 12, kept=[0, 1, 2, 5, 6, 9, 10, 12], faulty={3: 6})
    train(store, [7], 9, kept=[0, 1, 2, 5, 6, 9])
    version = seal(store, architecture=architecture)
    assert version.manifest.shard_shape == ((1, 8) if architecture == "resnet18" else shard_shape(None, LAYOUT.size))
    zoo = opened(store)
    assert verify_zoo(zoo).problems == ()
    assert any(t.base is not None for s in version.manifest.shards for t in s.tensors.values())
    for epochs in (None, [10], "1:7", [12, 0]):
        states = zoo.weights(epochs=epochs)
        for values, model, epoch in zip(states.values, states.models.tolist(), states.epochs.tolist(), strict=True):
            expected = weights(model, epoch, faulty_from=6 if model == 3 else None)
            assert values.tobytes() == expected.tobytes(), (model, epoch)
    fresh = opened(store)
    tensors = fresh.state_dict(4, 10)["module_list.0.bias"]
    np.testing.assert_array_equal(tensors, LAYOUT.unflatten(weights(4, 10))["conv1.bias"])
    np.testing.assert_array_equal(fresh.weights(epochs=9, models=7).values[0], weights(7, 9))


def test_all_fields_of_twins_are_compressed(memory: ObjectStore) -> None:
    train(memory, range(3), 3, twin=True)
    seal(memory, name="tiny-zoo-vd", parent=Parent("tiny-zoo", "ab" * 16, 3))
    zoo = opened(memory, "tiny-zoo-vd")
    assert verify_zoo(zoo).ok
    np.testing.assert_array_equal(zoo.field("log_sigma2", epochs=3, models=2)[0][0], noise(2, 3))
    np.testing.assert_array_equal(zoo.field("mask", epochs=2, models=1)[0][0], mask(1, 2))


def test_a_zoo_keeps_its_compression_until_another_is_asked_for(memory: ObjectStore) -> None:
    train(memory, range(4), 3)
    plain = seal(memory, None)
    assert plain.manifest.compression is None
    packed = seal(memory)
    assert packed.new and packed.manifest.compression == Compression()
    train(memory, range(4), 10)
    longer = seal(memory, None)
    assert longer.manifest.compression == Compression()
    quiet = MemoryStore()
    train(quiet, range(4), 10)
    assert longer.manifest.to_json() == seal(quiet).manifest.to_json()
    back = seal(memory, "none")
    assert back.manifest.to_json() == seal(quiet, "none").manifest.to_json()
    assert verify_zoo(opened(memory)).ok


def test_a_spec_can_request_compression(memory: ObjectStore) -> None:
    train(memory, range(2), 1)
    asked = replace(description(), compression=PACKED)
    assert vectorize(memory, asked, RUN).manifest.compression == Compression()
    assert vectorize(memory, asked, RUN, compression="none").manifest.compression is None


def test_an_older_program_refuses_a_compressed_zoo_with_a_sentence(
    memory: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(memory, range(2), 1)
    data = seal(memory).manifest.to_json()
    monkeypatch.setattr(zooforge.storage.formats.manifest, "VERSION", 1)
    with pytest.raises(NewerFormat, match=r"zooforge\.zoo/3 is newer than zooforge\.zoo/1.*install a later"):
        Manifest.from_json(data, "manifest")


def test_copies_of_a_compressed_zoo_read_alike(memory: ObjectStore, tmp_path: Path) -> None:
    train(memory, range(5), 10)
    seal(memory, architecture="resnet18")
    zoo = opened(memory)
    whole = open_store(str(tmp_path / "whole"))
    assert pull(zoo, whole).manifest.to_json() == zoo.manifest.to_json()
    part = open_store(str(tmp_path / "part"))
    manifest = pull(zoo, part, epochs=[3, 6, 7, 9], models=[1, 4]).manifest
    assert manifest.compression == Compression()
    for copy in (opened(whole), opened(part)):
        assert verify_zoo(copy).ok
        np.testing.assert_array_equal(copy.weights(models=4, epochs=7).values[0], weights(4, 7))
    zip_zoo(zoo, tmp_path / "zoo.zip")
    packed = zooforge.open_zoo(f"{tmp_path}/zoo.zip/zoos/tiny-zoo")
    np.testing.assert_array_equal(packed.weights(epochs=9).values, zoo.weights(epochs=9).values)


def test_a_compressed_zoo_survives_export_and_import_as_a_tree(memory: ObjectStore, tmp_path: Path) -> None:
    train(memory, range(3), 9)
    manifest = seal(memory).manifest
    export_raw(opened(memory), tmp_path / "tree")
    other = MemoryStore()
    assert import_raw(tmp_path / "tree", other).version.manifest.to_json() == manifest.to_json()
    plain = import_raw(tmp_path / "tree", MemoryStore(), compression="none").version.manifest
    assert plain.compression is None


class TestVerify:
    @pytest.fixture
    def manifest(self, memory: ObjectStore) -> Manifest:
        train(memory, range(3), 9)
        return seal(memory, architecture="resnet18").manifest

    def changed(self, memory: ObjectStore, manifest: Manifest, **tensor: Any) -> Manifest:
        shard = manifest.shards[0]
        tensors = {**shard.tensors, "epoch_002": replace(shard.tensors["epoch_002"], **tensor)}
        return replace(manifest, shards=(replace(shard, tensors=tensors), *manifest.shards[1:]))

    def test_a_flipped_byte_is_named_by_verify_and_by_the_reader(self, memory: ObjectStore, manifest: Manifest) -> None:
        shard = manifest.shards[1]
        data = bytearray(memory.get(shard.ref.key)[0])
        data[shard.tensors["epoch_009"].start + 5] ^= 4
        memory.put(shard.ref.key, data)
        zoo = opened(memory)
        assert [p.name for p in verify_zoo(zoo).problems] == [shard.ref.key]
        with pytest.raises(DigestMismatch, match=f"epoch_009 of object {shard.ref.key}"):
            zoo.weights(epochs=9)
        assert len(zoo.weights(epochs=7)) == 3

    def test_a_manifest_with_another_base_or_digest_is_refused_or_reported(
        self, memory: ObjectStore, manifest: Manifest
    ) -> None:
        with pytest.raises(FormatError, match="cannot follow epoch 0"):
            self.changed(memory, manifest, base=0).check("m")
        with pytest.raises(FormatError, match="no digest of its values"):
            self.changed(memory, manifest, values_sha256="").check("m")
        with pytest.raises(FormatError, match="compressed, the zoo is not"):
            replace(manifest, compression=None).check("m")
        zoo = opened(memory)
        zoo.manifest = self.changed(memory, manifest, values_sha256="0" * 64)
        assert ["another one" in p.what for p in verify_zoo(zoo).problems] == [True]
        zoo = opened(memory)
        zoo._states._reader._manifest = zoo.manifest = self.changed(memory, manifest, base=None)
        assert verify_zoo(zoo).problems

    def test_a_frame_of_other_values_is_recognised_by_their_digest(
        self, memory: ObjectStore, manifest: Manifest
    ) -> None:
        tensors = decode_shard(get_object(memory, manifest.shards[0].ref, "x"), "x")
        shard = encode_shard({name: tensors[name] for name in sorted(tensors)}, Compression(level=1))
        reference = encode_shard({name: tensors[name] for name in sorted(tensors)}, Compression())
        assert decode_shard(shard, "x").keys() == decode_shard(reference, "x").keys()
        damaged = bytes(reference).replace(rb"\"F32\",[1,", rb"\"F32\",[2,")
        with pytest.raises(FormatError):
            decode_shard(damaged, "x")


def test_gc_keeps_what_a_compressed_version_names(memory: ObjectStore) -> None:
    from zooforge.storage.ops.gc import roots

    train(memory, range(3), 2)
    manifest = seal(memory).manifest
    assert {ref.key for ref in manifest.refs} <= roots(memory)
    assert read_ledger(memory, RUN).models == [0, 1, 2]
