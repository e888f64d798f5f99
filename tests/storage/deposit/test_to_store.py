"""Publishing into a folder or a bucket: planned, resumed, read back, and never visible by halves."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.faulty_store import Died, FaultyStore
from tests.support.synthetic import description, train
from zooforge.storage.deposit.parcel import Parcel, parcel_of, slice_of
from zooforge.storage.deposit.plan import Limits, estimate, plan_of
from zooforge.storage.deposit.send import target_of
from zooforge.storage.deposit.to_store import publish_to_store, store_sizes
from zooforge.storage.errors import DigestMismatch, NotPublished, StorageUsageError, StoreURLError
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.papers import Credits
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore, shared_memory_store
from zooforge.storage.stores.objects import put_object
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ByteRange, Data
from zooforge.storage.zoo import Zoo, open_zoo


def test_a_folder_has_the_plans_files_and_reads_and_verifies(zoo: Zoo, tmp_path: Path) -> None:
    target, sizes = target_of(str(tmp_path)), []
    parcel = Parcel(zoo)
    plan = target.plan(parcel)
    published = target.publish(parcel, sizes.append)
    found = [p for p in tmp_path.rglob("*") if p.is_file() and ".locks" not in p.parts]
    assert (len(found), sum(p.stat().st_size for p in found)) == (plan.num_files, plan.num_bytes)
    assert sum(sizes) == sum(ref.bytes for ref in zoo.manifest.refs)
    copy = open_zoo(published.address)
    assert copy.manifest == zoo.manifest and verify_zoo(copy).ok
    table = (tmp_path / "README.md").read_text().split("data_files: ")[1].splitlines()[0]
    assert (tmp_path / table).is_file()
    again = target_of(str(tmp_path)).publish(parcel, sizes.append)
    assert (again.new, again.number) == (False, 1)


@pytest.mark.s3
def test_a_bucket_has_the_plans_files_and_reads_and_verifies(zoo: Zoo, s3_store_url: str) -> None:
    published = target_of(s3_store_url).publish(Parcel(zoo), lambda size: None)
    assert verify_zoo(open_zoo(published.address)).ok


@pytest.mark.parametrize("last", range(1, 40, 3))
def test_a_publication_killed_anywhere_is_invisible_or_whole_and_can_continue(last: int, zoo: Zoo) -> None:
    inner = shared_memory_store(f"killed-{last}")
    puts: list[str] = []

    def fault(verb: str, key: str) -> None:
        puts.append(key)
        if len(puts) > last:
            raise Died

    try:
        publish_to_store(Parcel(zoo), FaultyStore(inner, fault), inner.url)
    except Died:
        with contextlib.suppress(NotPublished):
            assert verify_zoo(open_zoo(f"{inner.url}/zoos/tiny-zoo")).ok
    publish_to_store(Parcel(zoo), inner, inner.url)
    assert verify_zoo(open_zoo(f"{inner.url}/zoos/tiny-zoo")).ok and inner.stat("README.md") is not None


def test_existing_objects_are_not_uploaded_again(zoo: Zoo) -> None:
    inner = MemoryStore()
    first, *others = zoo.manifest.refs
    for ref in others:
        inner.put(ref.key, zoo.store.get(ref.key)[0])
    damaged = bytearray(zoo.store.get(others[0].key)[0])
    damaged[-1] ^= 1
    inner.put(others[0].key, bytes(damaged))
    written: list[str] = []
    store = FaultyStore(inner, after=lambda verb, key: written.append(key))
    publish_to_store(Parcel(zoo), store, inner.url)
    assert {key for key in written if key.startswith("objects/")} == {first.key, others[0].key}


class _ReturnsOtherBytes(FaultyStore):
    """Returns other bytes of one object than were written."""

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        data, etag = self.inner.get(key, byte_range)
        return (data[:-1] + b"?" if key.endswith(".safetensors") else data), etag

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return self.inner.put(key, data, if_absent=if_absent, if_match=if_match)


def test_a_store_that_gives_other_bytes_back_publishes_nothing(zoo: Zoo) -> None:
    inner = shared_memory_store("forgetful")
    with pytest.raises(DigestMismatch, match="read back"):
        publish_to_store(Parcel(zoo), _ReturnsOtherBytes(inner), inner.url)
    with pytest.raises(NotPublished):
        open_zoo(f"{inner.url}/zoos/tiny-zoo")


def test_a_name_that_is_taken_is_refused_before_anything_is_written(zoo: Zoo) -> None:
    other = MemoryStore()
    train(other, range(2), 1, run="f" * 32)
    vectorize(other, description(num_models=6, num_epochs=2), "f" * 32)
    before = {stat.key for stat in other.list("")}
    with pytest.raises(StorageUsageError, match="is of run ffffffff"):
        publish_to_store(Parcel(zoo), other, "DIR")
    assert {stat.key for stat in other.list("")} == before


def test_a_second_zoo_leaves_the_root_to_the_first(zoo: Zoo) -> None:
    target = MemoryStore()
    train(target, range(2), 1, run="f" * 32)
    vectorize(target, description("another", num_models=6, num_epochs=2), "f" * 32)
    published = publish_to_store(Parcel(zoo), target, "DIR")
    assert target.stat("README.md") is None
    assert published.notes == ("the store has other zoos too; the card is DIR/zoos/tiny-zoo/versions/0001/README.md",)


def test_a_part_is_a_zoo_of_its_own_and_about_as_large_as_was_estimated(zoo: Zoo, tmp_path: Path) -> None:
    about = estimate(zoo.manifest, "x", zoo.wanted(2, None, None, None), ())
    part = slice_of(zoo, tmp_path / "part", 2, None, None, None)
    assert about.about and about.num_states == part.manifest.num_states == 6
    target = MemoryStore()
    publish_to_store(Parcel(part), target, "DIR")
    assert b"weights of epochs 2 of 0:3" in target.get("README.md")[0]


def test_images_are_published_only_on_request(zoo: Zoo) -> None:
    pixels = put_object(zoo.store, b"pixels", "safetensors")
    zoo = Zoo(zoo.store, replace(zoo.manifest, images=pixels), zoo.version, progress=False)
    kept, left = parcel_of(zoo, Credits(), images=True), parcel_of(zoo, Credits(), why_not="no licence")
    assert pixels.key in store_sizes(kept, 1) and pixels.key not in store_sizes(left, 1)
    assert (kept.left_out, left.left_out) == ((), ("images: no licence",))


def test_a_refusal_by_a_limit_states_the_numbers(zoo: Zoo) -> None:
    sizes = {"a/1": 40 * 10**9, "a/2": 20 * 10**9, "b": 1}
    for limits, said in (
        (Limits("S", files=2), "3 files, S takes 2"),
        (Limits("S", folder_files=1), "2 files in one folder, S takes 1"),
        (Limits("S", bytes=50 * 10**9), "60.0 GB, S takes 50.0 GB"),
        (Limits("S", file_bytes=30 * 10**9), "a file of 40.0 GB, S takes 30.0 GB"),
    ):
        with pytest.raises(StorageUsageError, match=said):
            plan_of(zoo.manifest, "x", sizes, limits)


@pytest.mark.parametrize("address", ["https://host/x", "http://host", "ftp://host/x", "", "hf:me"])
def test_an_invalid_target_is_refused(address: str) -> None:
    with pytest.raises(StoreURLError):
        target_of(address)


def test_credits_reach_the_root(zoo: Zoo) -> None:
    target = open_store("memory://credits")
    publish_to_store(Parcel(zoo, Credits(("Doe, Jane",))), target, "DIR")
    assert b"Jane" in target.get("CITATION.cff")[0]
