"""A zip is read without unpacking, and zoos are imported into another store without changes."""

import copy
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import (
    DigestMismatch,
    FormatError,
    ObjectNotFound,
    StorageError,
    StorageUsageError,
    StoreRefused,
)
from zooforge.storage.interchange.copy_zoo import import_zoo
from zooforge.storage.interchange.zip import contents, zip_zoo
from zooforge.storage.keys import head_key, manifest_key
from zooforge.storage.ops.pull import pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.head import create_spec
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.stores.zip import ZipStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main


@pytest.fixture
def zoo(memory: ObjectStore) -> Zoo:
    train(memory, range(6), 3, faulty={4: 2})
    vectorize(memory, description(num_models=6, num_epochs=3), RUN)
    return open_zoo(f"{memory.url}/zoos/tiny-zoo")


@pytest.fixture
def packed(zoo: Zoo, tmp_path: Path) -> Path:
    zip_zoo(zoo, tmp_path / "zoo.zip")
    return tmp_path / "zoo.zip"


@pytest.fixture
def target(tmp_path: Path) -> ObjectStore:
    return open_store(f"memory://{tmp_path}/target")


def test_a_zip_is_read_by_ranges_without_unpacking(zoo: Zoo, packed: Path) -> None:
    for address in (f"{packed}/zoos/tiny-zoo", f"{packed.as_uri()}/zoos/tiny-zoo/versions/1"):
        there = open_zoo(address)
        assert there.manifest == zoo.manifest
        assert np.array_equal(there.weights().values, zoo.weights().values, equal_nan=True)
        assert there.labels().equals(zoo.labels())
        assert verify_zoo(there).ok
    one = open_zoo(f"{packed}/zoos/tiny-zoo")
    one.weights(models=3, epochs=2)
    shard = max(one.manifest.refs, key=lambda ref: ref.bytes)
    assert one.store.traffic.read_bytes < shard.bytes


def test_a_zip_is_a_read_only_store(zoo: Zoo, packed: Path) -> None:
    store = open_store(str(packed))
    expected = dict(contents(zoo))
    assert {stat.key: stat.size for stat in store.list("")} == {key: len(data) for key, data in expected.items()}
    for key, data in expected.items():
        assert store.get(key)[0] == data
        assert store.get(key, (3, 10))[0] == data[3:10]
        assert store.get(key, (len(data) - 2, len(data) + 5))[0] == data[-2:]
        assert store.get(key, (len(data) + 1, len(data) + 5))[0] == b""
        assert store.stat(key) == next(iter(store.list(key)))
    assert store.stat("nothing") is None
    with pytest.raises(ObjectNotFound):
        store.get("nothing")
    with pytest.raises(StoreRefused, match="for reading"):
        store.put("a", b"1")
    with pytest.raises(StoreRefused, match="for reading"):
        store.delete(head_key("tiny-zoo"))
    for twin in (copy.copy(store), pickle.loads(pickle.dumps(store))):
        assert twin.get(head_key("tiny-zoo")) == store.get(head_key("tiny-zoo"))


def test_a_zip_packed_again_with_compression_is_refused_in_a_line(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(FormatError, match="compressed"):
        open_zoo(f"{tmp_path}/b.zip/zoos/tiny-zoo")


@pytest.mark.parametrize("keep", [0, 100, 3000, -30])
def test_a_truncated_zip_is_refused_in_a_line(packed: Path, keep: int) -> None:
    packed.write_bytes(packed.read_bytes()[:keep])
    with pytest.raises(FormatError, match="truncated") as refusal:
        ZipStore(packed)
    assert "\n" not in str(refusal.value)


def test_a_flipped_byte_in_a_zip_is_reported(packed: Path) -> None:
    there = open_zoo(f"{packed}/zoos/tiny-zoo")
    start = packed.read_bytes().find(there.store.get(there.manifest.shards[0].ref.key)[0])
    data = bytearray(packed.read_bytes())
    data[start + there.manifest.shards[0].ref.bytes - 3] ^= 4
    packed.write_bytes(bytes(data))
    damaged = open_zoo(f"{packed}/zoos/tiny-zoo")
    assert [there.manifest.shards[0].ref.key] == [problem.name for problem in verify_zoo(damaged).problems]
    with pytest.raises(DigestMismatch):
        damaged.weights()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_zip_gives_right_values_or_a_storage_error(zoo: Zoo, packed: Path, data: st.DataObject) -> None:
    whole = _whole.setdefault(packed, packed.read_bytes())
    damaged = bytearray(whole)
    directory = whole.find(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(directory, len(whole) - 1))] = data.draw(st.integers(0, 255))
    packed.write_bytes(bytes(damaged))
    try:
        values = open_zoo(f"{packed}/zoos/tiny-zoo").weights().values
    except StorageError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert np.array_equal(values, zoo.weights().values, equal_nan=True)


_whole: dict[Path, bytes] = {}


def test_a_record_without_a_name_is_no_object(zoo: Zoo, packed: Path) -> None:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("x", b"")
    data = bytearray(packed.read_bytes())
    record = data.rfind(b"PK\x01\x02")
    data[record + 28], data[record + 30] = 0, 1  # what was its name is now one byte of an extra field
    packed.write_bytes(data)
    assert np.array_equal(open_zoo(f"{packed}/zoos/tiny-zoo").weights().values, zoo.weights().values, equal_nan=True)


def test_an_imported_zoo_has_the_same_manifest_and_is_there_once(zoo: Zoo, packed: Path, target: ObjectStore) -> None:
    copied = import_zoo(open_zoo(f"{packed}/zoos/tiny-zoo"), target)
    assert (copied.number, copied.new) == (1, True)
    there = open_zoo(f"{target.url}/zoos/tiny-zoo")
    assert target.get(manifest_key("tiny-zoo", 1)) == zoo.store.get(manifest_key("tiny-zoo", zoo.version))
    assert verify_zoo(there).ok
    copies = [stat.key for stat in zoo.store.list("zoos/tiny-zoo/versions/0001/")]
    assert all(target.get(key)[0] == zoo.store.get(key)[0] for key in copies)
    assert import_zoo(zoo, target).new is False
    assert not [stat.key for stat in target.list("runs/")]


def test_a_larger_version_is_sealed_on_top_and_a_smaller_one_refused(zoo: Zoo, target: ObjectStore) -> None:
    part = open_store(f"{target.url}/part")
    pull(zoo, part, models="0:3", epochs="0:2")
    small = open_zoo(f"{part.url}/zoos/tiny-zoo")
    import_zoo(small, target)
    assert import_zoo(zoo, target).number == 2
    before = sorted(stat.key for stat in target.list(""))
    with pytest.raises(StorageUsageError, match="holds more"):
        import_zoo(small, target)
    assert sorted(stat.key for stat in target.list("")) == before
    assert open_zoo(f"{target.url}/zoos/tiny-zoo").manifest == zoo.manifest


def test_a_zoo_of_another_run_under_the_same_name_is_refused(zoo: Zoo, target: ObjectStore) -> None:
    create_spec(target, "tiny-zoo", {"run": "f" * 32})
    with pytest.raises(StorageUsageError, match="is being trained there"):
        import_zoo(zoo, target)
    other = open_store(f"{target.url}/other")
    train(other, range(2), 1, run="f" * 32)
    vectorize(other, description(num_models=6), "f" * 32)
    with pytest.raises(StorageUsageError, match="of run ffffffff"):
        import_zoo(zoo, other)
    assert [stat.key for stat in target.list("objects/")] == []


def test_a_damaged_object_is_not_imported(zoo: Zoo, target: ObjectStore) -> None:
    ref = zoo.manifest.labels.ref
    zoo.store.put(ref.key, b"x" * ref.bytes)
    with pytest.raises(DigestMismatch):
        import_zoo(zoo, target)
    assert target.stat(head_key("tiny-zoo")) is None


def test_the_command_accepts_a_zip(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "store")
    assert main(["store", "import", str(packed), "--store", store]) == 0
    assert "tiny-zoo version 1: 6 models, 3 epochs; " in capsys.readouterr().out
    assert main(["store", "import", f"{packed}/zoos/tiny-zoo", "--store", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] is False
    assert main(["store", "verify", "--store", store]) == 0
    assert main(["store", "import", str(packed)]) == 2
    assert "no store given" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as empty:
        empty.writestr("a", "b")
    assert main(["store", "import", str(tmp_path / "none.zip"), "--store", store]) == 2
    assert "holds 0 zoos" in capsys.readouterr().err
