"""Data sets in other packings or folders are accepted if their contents are right; otherwise the file is named."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError

from tests.support.data_specs import Spec
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data import prepare, sources
from zooforge.zoo_jobs.data.readers import read
from zooforge.zoo_jobs.data.registry import DATASETS, Dataset, LockedFile
from zooforge.zoo_jobs.data.sources import Folder, fetch, source_folder, verified_files
from zooforge.zoo_jobs.errors import InputError

IDX = {name: f"bytes of {name}".encode() * 9 for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
BATCHES = {f"data_batch_{number}": bytes([number]) * 5000 for number in (1, 2)} | {"test_batch": b"test" * 99}


def _entry(files: list[LockedFile]) -> Dataset:
    return DATASETS["mnist"].model_copy(update={"files": files})


def _file(name: str, packed: bytes, contents: dict[str, bytes]) -> LockedFile:
    digests = {key: f"sha256:{hashlib.sha256(value).hexdigest()}" for key, value in contents.items()}
    digest = hashlib.sha256(packed).hexdigest()
    return LockedFile(name=name, urls=["http://127.0.0.1:9/x"], bytes=None, md5=None, sha256=digest, contents=digests)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data sets in the real packings: ``tiny`` of gzip files, ``batches`` of one archive."""
    files = [_file(f"{name}.gz", gzip.compress(value, mtime=7), {name: value}) for name, value in IDX.items()]
    monkeypatch.setitem(DATASETS, "tiny", _entry(files))
    monkeypatch.setitem(DATASETS, "batches", _entry([_file("batches.tar.gz", b"as published", BATCHES)]))


def tar(members: dict[str, bytes], folder: str = "batches-py") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, value in members.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(value)
            archive.addfile(member, io.BytesIO(value))
    return packed.getvalue()


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    return folder


def unpacked(cache: Path) -> dict[str, bytes]:
    """Contents of the fetched gzip files of ``tiny``."""
    return {
        path.stem: gzip.decompress(path.read_bytes())
        for path in verified_files("tiny", source_folder(cache, "tiny")).values()
    }


@pytest.mark.parametrize("layout", ["", "TINY/raw/", "usr/share/datasets/tiny/"])
@pytest.mark.parametrize("kind", ["packed again", "unpacked", "one of each"])
def test_a_data_set_in_another_packing_is_accepted_by_its_contents(kind: str, layout: str, tmp_path: Path) -> None:
    files = {}
    for number, (name, value) in enumerate(IDX.items()):
        if kind == "unpacked" or (kind == "one of each" and number):
            files[f"{layout}{name}"] = value
        else:
            files[f"{layout}{name}.gz"] = gzip.compress(value, 3, mtime=99)
    fetch("tiny", tmp_path / "cache", Folder(put(tmp_path / "from", files)))
    assert unpacked(tmp_path / "cache") == IDX


def test_the_right_one_of_two_data_sets_with_equal_file_names_is_taken(tmp_path: Path) -> None:
    others = {f"A/raw/{name}{end}": b"other images" for name in IDX for end in ("", ".gz")}
    files = others | {f"B/raw/{name}": value for name, value in IDX.items()}
    fetch("tiny", tmp_path / "cache", Folder(put(tmp_path / "from", files)))
    assert unpacked(tmp_path / "cache") == IDX


@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_packed_again_or_unpacked_is_accepted_and_resource_forks_are_passed_over(
    packed: bool, tmp_path: Path
) -> None:
    forks = {f"._{name}": b"Mac OS X" for name in BATCHES}
    members = BATCHES | forks | {"readme.html": b"<p>"}
    files = {"batches.tar.gz": tar(members)} if packed else {f"batches-py/{name}": v for name, v in members.items()}
    if not packed:
        files |= {f"__MACOSX/batches-py/{name}": b"Mac OS X" for name in BATCHES}
    (path,) = fetch("batches", tmp_path / "cache", Folder(put(tmp_path / "from", files)))
    with tarfile.open(path) as archive:
        streams = ((member.name.rpartition("/")[2], archive.extractfile(member)) for member in archive)
        files = {name: stream.read() for name, stream in streams if stream is not None}
    assert {name: files[name] for name in BATCHES} == BATCHES
    assert verified_files("batches", path.parent) == {"batches.tar.gz": path}


def test_an_archive_with_another_image_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "from", {"batches.tar.gz": tar(BATCHES | {"test_batch": b"other"})})
    with pytest.raises(InputError, match=r"has SHA-256 .*nor are its contents those of batches; it was not kept"):
        fetch("batches", tmp_path / "cache", Folder(tmp_path / "from"))
    assert not list(source_folder(tmp_path / "cache", "batches").iterdir())


def test_missing_files_are_named_together_with_those_in_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "from", {f"picture-{number}.png": b"png" for number in range(7)} | {"._tiny.gz": b"Mac OS X"})
    with pytest.raises(
        InputError, match=r"ubyte\.gz is missing, packed or unpacked; the folder has picture-0\.png,"
    ) as raised:
        fetch("tiny", tmp_path / "cache", Folder(tmp_path / "from"))
    assert "picture-4.png and 2 more" in str(raised.value)
    (tmp_path / "deep" / "/".join("abcdef")).mkdir(parents=True)
    (tmp_path / "deep" / "/".join("abcdef") / "tiny.gz").write_bytes(b"gz")
    with pytest.raises(InputError, match="the folder has no files in its first 6 levels"):
        fetch("tiny", tmp_path / "cache", Folder(tmp_path / "deep"))
    with pytest.raises(InputError, match="there is no such folder"):
        fetch("tiny", tmp_path / "cache", Folder(tmp_path / "nowhere"))
    put(tmp_path / "here", IDX)
    with pytest.raises(
        InputError, match=rf"the folder has t10k.*`zoo data fetch tiny` gets it, with `--from {tmp_path}/here`"
    ):
        verified_files("tiny", tmp_path / "here")


def test_an_archive_of_images_is_read_without_the_members_that_macos_adds(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture, "JPEG")
    with zipfile.ZipFile(tmp_path / "EuroSAT.zip", "w") as archive:
        for name in ("A/A_1", "B/B_1"):
            archive.writestr(f"2750/{name}.jpg", picture.getvalue())
            folder, _, stem = name.partition("/")
            archive.writestr(f"__MACOSX/2750/{folder}/._{stem}.jpg", b"Mac OS X")
            archive.writestr(f"2750/{folder}/._{stem}.jpg", b"Mac OS X")
    assert read("eurosat-zip", {"EuroSAT.zip": tmp_path / "EuroSAT.zip"}).train.labels.tolist() == [0, 1]


def test_the_registry_knows_the_contents_of_the_data_sets_that_are_packed_again_most() -> None:
    for name in ("mnist", "fashion-mnist", "cifar10", "cifar100", "stl10"):
        for file in _real(name).files:
            assert file.contents
            for digest in file.contents.values():
                kind, _, value = digest.partition(":")
                assert len(value) == {"md5": 32, "sha256": 64}[kind]


def _real(name: str) -> Dataset:
    return DATASETS[name]


def test_a_cache_on_a_full_disk_is_one_line_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(sources, "save_file", full)
    with pytest.raises(InputError, match=r"No space left on device.*set ZOO_CACHE") as raised:
        prepare.load(Spec(), tmp_path)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "prepared").iterdir())


def test_a_cache_that_cannot_be_made_is_one_line_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert main(["data", "fetch", "mnist"]) == 2
    assert "set ZOO_CACHE" in capsys.readouterr().err


def test_without_a_home_folder_the_variable_that_helps_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ZOO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert main(["data", "list"]) == 2
    assert "set ZOO_CACHE to a folder" in capsys.readouterr().err
