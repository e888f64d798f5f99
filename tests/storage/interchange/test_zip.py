"""A zip per zoo and a folder for the Hub are complete stores, which can be read wherever they are put."""

import errno
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.synthetic import RUN, description, train
from tests.support.web_server import Files, serve_folder
from zooforge.storage.errors import DigestMismatch, StorageUsageError, StoreURLError
from zooforge.storage.interchange.hub_folder import prepare_hub
from zooforge.storage.interchange.zip import zip_zoo
from zooforge.storage.ops.pull import pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.head import split_zoo_url
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.hub import web_addresses
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main


@pytest.fixture
def zoo(memory: ObjectStore) -> Zoo:
    train(memory, range(6), 3, faulty={4: 2})
    vectorize(memory, description(num_models=6, num_epochs=2), RUN)
    return open_zoo(f"{memory.url}/zoos/tiny-zoo")


def same(actual: Zoo, expected: Zoo) -> bool:
    equal = np.array_equal(actual.weights().values, expected.weights().values, equal_nan=True)
    return equal and actual.labels().equals(expected.labels())


def test_an_extracted_zip_is_a_store_that_reads_and_verifies(zoo: Zoo, tmp_path: Path) -> None:
    written = zip_zoo(zoo, tmp_path / "zoo.zip")
    assert written.num_bytes == (tmp_path / "zoo.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "zoo.zip") as archive:
        assert len(archive.namelist()) == len(set(archive.namelist())) == written.num_files
        assert archive.testzip() is None
        archive.extractall(tmp_path / "out")
    copy = open_zoo(str(tmp_path / "out" / "zoos" / "tiny-zoo"))
    assert same(copy, zoo)
    assert copy.manifest == zoo.manifest
    assert verify_zoo(copy).ok
    assert (tmp_path / "out/zoos/tiny-zoo/versions/0001/README.md").read_text().startswith("---\nlicense: cc-by-4.0")


def test_equal_zoos_give_equal_zips_whatever_their_version_is_called(zoo: Zoo, tmp_path: Path) -> None:
    zip_zoo(zoo, tmp_path / "a.zip")
    other = open_store(f"memory://{tmp_path}/other")
    train(other, range(3), 1)
    vectorize(other, description(num_models=6, num_epochs=2), RUN)
    train(other, range(6), 3, faulty={4: 2})
    vectorize(other, description(num_models=6, num_epochs=2), RUN)
    again = open_zoo(f"{other.url}/zoos/tiny-zoo")
    assert again.version == 2
    zip_zoo(again, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_zip_beyond_the_old_limits_follows_zip64(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    zip_zoo(zoo, tmp_path / "zoo.zip")
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / "zoo.zip") as archive:
        assert any(info.extract_version >= 45 for info in archive.infolist())
        archive.extractall(tmp_path / "out")
    assert same(open_zoo(str(tmp_path / "out" / "zoos" / "tiny-zoo")), zoo)


def test_a_part_of_a_zoo_has_a_card_of_its_own(zoo: Zoo, tmp_path: Path) -> None:
    pull(zoo, open_store(str(tmp_path / "part")), epochs=2, models="0:3")
    part = open_zoo(str(tmp_path / "part" / "zoos" / "tiny-zoo"))
    zip_zoo(part, tmp_path / "part.zip")
    with zipfile.ZipFile(tmp_path / "part.zip") as archive:
        assert "models: 3 of 6 planned" in archive.read("zoos/tiny-zoo/versions/0001/README.md").decode()


def test_a_damaged_object_ends_the_export_and_leaves_no_file(zoo: Zoo, tmp_path: Path) -> None:
    shard = zoo.manifest.shards[0].ref
    data = bytearray(zoo.store.get(shard.key)[0])
    data[-1] ^= 1
    zoo.store.put(shard.key, bytes(data))
    with pytest.raises(DigestMismatch, match=shard.sha256[:8]):
        zip_zoo(zoo, tmp_path / "zoo.zip")
    with pytest.raises(DigestMismatch):
        prepare_hub(zoo, tmp_path / "hub")
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("verb", ["zip", "export-hub"])
def test_a_full_disk_gives_one_line_and_leaves_nothing(
    verb: str, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*unused: Any, **unused_too: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["store", verb, f"{zoo.store.url}/zoos/tiny-zoo", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.endswith(
        "out: could not be written (No space left on device); nothing is left of it\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_commands_refuse_an_existing_target(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address, file = f"{zoo.store.url}/zoos/tiny-zoo", tmp_path / "zoo.zip"
    assert main(["store", "zip", address, str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == file.stat().st_size
    assert main(["store", "zip", address, str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["store", "export-hub", address, str(tmp_path / "hub"), "--repo", "me/my-zoos"]) == 0
    assert "hf upload me/my-zoos" in capsys.readouterr().err
    assert main(["store", "export-hub", address, str(tmp_path / "hub")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_folder_for_the_hub_has_its_card_and_metadata_at_the_top(zoo: Zoo, tmp_path: Path) -> None:
    prepare_hub(zoo, tmp_path / "hub", repository="me/my-zoos")
    card = (tmp_path / "hub" / "README.md").read_text()
    table = card.split("data_files: ")[1].splitlines()[0]
    assert (tmp_path / "hub" / table).read_bytes() == zoo.store.get(zoo.manifest.labels.ref.key)[0]
    assert 'zooforge.open_zoo("hf://me/my-zoos/zoos/tiny-zoo")\n' in card
    croissant = json.loads((tmp_path / "hub" / "croissant.json").read_text())
    assert all((tmp_path / "hub" / file["contentUrl"]).is_file() for file in croissant["distribution"])
    assert croissant["url"] == "https://huggingface.co/datasets/me/my-zoos"
    assert verify_zoo(open_zoo(str(tmp_path / "hub" / "zoos" / "tiny-zoo"))).ok


class _Hub(Files):
    """Answers as the Hub does: a data set's files behind a redirect to where large files lie."""

    def do_GET(self) -> None:
        prefix = "/datasets/me/tiny-zoo/resolve/main/"
        if self.path.startswith(prefix):
            self.send_response(302)
            self.send_header("Location", f"/cdn/{self.path.removeprefix(prefix)}?signed=1")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/cdn/"):
            self.path = self.path.removeprefix("/cdn").partition("?")[0]
            super().do_GET()
        else:
            self.send_error(404)


@pytest.fixture
def hub(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    prepare_hub(zoo, tmp_path / "hub")
    with serve_folder(tmp_path / "hub", _Hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield "hf://me/tiny-zoo"


@pytest.mark.parametrize("suffix", ["", "/zoos/tiny-zoo", "@main/zoos/tiny-zoo/versions/1"])
def test_a_zoo_on_the_hub_opens_by_its_data_set(hub: str, suffix: str, zoo: Zoo) -> None:
    assert same(open_zoo(hub + suffix), zoo)


def test_an_address_on_the_hub_is_that_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    base = "https://huggingface.co/datasets/me/Zoo.1/resolve"
    assert web_addresses("hf://me/Zoo.1") == [f"{base}/main"]
    assert web_addresses("hf://datasets/me/Zoo.1@v2/sub") == [f"{base}/v2/sub", f"{base}/v2%2Fsub"]
    assert split_zoo_url("hf://me/mnist") == ("hf://me/mnist", "mnist", None)
    assert split_zoo_url("hf://me/all@v1/zoos/mnist/versions/3") == ("hf://me/all@v1", "mnist", 3)


@pytest.mark.parametrize("url", ["hf://me", "hf://", "hf://me/a b", "hf://me/a?x=1", "hf:me/a"])
def test_an_invalid_address_on_the_hub_is_refused_in_one_line(url: str) -> None:
    with pytest.raises((StoreURLError, StorageUsageError)) as refusal:
        open_zoo(url)
    assert "\n" not in str(refusal.value)
