"""A user's own images: arrays and pictures are read unchanged, and refused in one line if they are invalid."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from zooforge.storage import budget
from zooforge.storage.budget import Budget
from zooforge.zoo_jobs.data.own_files import read_folder, read_npz
from zooforge.zoo_jobs.errors import InputError

RANDOM = np.random.default_rng(1)
IMAGES = RANDOM.integers(0, 256, (12, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 3


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def picture(path: Path, pixels: NDArray[Any], **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def pictures(folder: Path, side: int = 8) -> Path:
    for name in ("cat/b.png", "cat/a.png", "dog/1.png"):
        picture(folder / name, np.full((side, side), len(name) * 7 + ord(name[4]), np.uint8))
    return folder


def test_an_npz_file_gives_its_values_and_a_digest_of_the_documented_bytes(tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz", images=IMAGES, labels=LABELS, test_images=IMAGES[:4], test_labels=LABELS[:4])
    facts, raw = read_npz(path)
    assert np.array_equal(raw.train.images[..., 0], IMAGES)
    assert raw.train.labels.tolist() == LABELS.tolist()
    assert raw.test is not None
    assert np.array_equal(raw.test.images[..., 0], IMAGES[:4])
    assert (facts.image_size, facts.channels, facts.num_classes, facts.num_images, facts.num_test) == (8, 1, 3, 12, 4)
    text = b"zooforge images 1 3\n"
    for array in (IMAGES[..., None], LABELS.astype(np.uint8), IMAGES[:4, ..., None], LABELS[:4].astype(np.uint8)):
        text += f"uint8 {' '.join(map(str, array.shape))}\n".encode() + array.tobytes()
    assert facts.digest == hashlib.sha256(text).hexdigest()


def test_the_digest_is_of_the_values_not_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=LABELS.astype(np.int64), images=np.asfortranarray(IMAGES))
    np.savez_compressed(tmp_path / "b.npz", images=IMAGES[..., None], labels=LABELS.astype(np.uint8))
    assert read_npz(tmp_path / "a.npz")[0] == read_npz(tmp_path / "b.npz")[0]
    assert read_npz(tmp_path / "a.npz")[0] != read_npz(tmp_path / "a.npz", 4)[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES / 255, "labels": LABELS}, "images are float64, expected uint8"),
        ({"images": IMAGES[:, :, :7], "labels": LABELS}, "images are 8 x 7, expected square"),
        ({"images": IMAGES[0], "labels": LABELS}, r"images have the shape \(8, 8\), expected \(N, H, W\)"),
        ({"images": np.zeros((12, 8, 8, 4), np.uint8), "labels": LABELS}, "images have 4 channels, expected 1 or 3"),
        ({"images": IMAGES, "labels": LABELS[:11]}, "12 images, but 11 labels"),
        ({"images": IMAGES, "labels": LABELS - 1}, "labels are -1 to 1, expected 0 to 255"),
        ({"images": IMAGES, "labels": LABELS + 254}, "labels are 254 to 256, expected 0 to 255"),
        ({"images": IMAGES, "labels": LABELS + 1}, "no image has label 0; .* state num_classes: 4"),
        ({"images": IMAGES, "labels": LABELS * 0}, "all labels are 0"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, "labels are float64 of shape"),
        ({"images": IMAGES, "labels": np.array(list("abc") * 4)}, "labels are <U1 of shape"),
        ({"images": IMAGES, "labels": np.array([None] * 12)}, "labels holds Python objects, which would be unpickled"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "which is empty"),
        ({"images": IMAGES}, "has no array 'labels'"),
        ({"images": IMAGES, "labels": LABELS, "test_images": IMAGES}, "has no array 'test_labels'"),
        ({"images": IMAGES, "label": LABELS}, "has an array 'label'; did you mean 'labels'"),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES[:, :4, :4], "test_labels": LABELS},
            r"test_images have the shape \(4, 4, 1\)",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES, "test_labels": LABELS + 1},
            "test_labels go to 3, but labels go to 2",
        ),
    ],
)
def test_invalid_arrays_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InputError, match=message) as raised:
        read_npz(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_labels_beyond_the_stated_number_of_classes_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(InputError, match="labels go to 2, but num_classes is 2"):
        read_npz(path, 2)
    assert read_npz(path, 9)[0].num_classes == 9


def test_a_shape_beyond_the_budget_is_refused_before_its_values_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(tmp_path / "mine.npz", images=np.zeros((3000, 64, 64), np.uint8), labels=np.arange(3000) % 2)
    monkeypatch.setattr(budget, "IMAGES", Budget(max_bytes=1_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"bytes, the limit is 1,000,000"):
        read_npz(path)


@pytest.mark.parametrize("shape", [(10**12, 8, 8), (12, 8, 8, 3), (-1, 8, 8)])
def test_a_header_that_declares_more_values_than_the_file_has_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream,
        {"descr": "|u1", "fortran_order": False, "shape": shape},
    )
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("images.npy", stream.getvalue() + IMAGES.tobytes())
        archive.writestr("labels.npy", b"")
    with pytest.raises(InputError):
        read_npz(tmp_path / "mine.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 200])
def test_a_file_that_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.npz: "):
        read_npz(tmp_path / "mine.npz")
    with pytest.raises(InputError, match="no such file"):
        read_npz(tmp_path / "other.npz")


def test_pictures_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    facts, raw = read_folder(pictures(tmp_path / "p"), pictures(tmp_path / "t"))
    (tmp_path / "p" / ".DS_Store").write_bytes(b"macOS")
    assert facts.class_names == ("cat", "dog")
    assert (facts.num_classes, facts.num_images, facts.num_test, facts.channels) == (2, 3, 3, 1)
    assert raw.train.labels.tolist() == [0, 0, 1]
    assert raw.train.images[:, 0, 0, 0].tolist() == FIRST
    assert read_folder(tmp_path / "p", tmp_path / "t")[0] == facts


FIRST = [len("cat/a.png") * 7 + ord("a"), len("cat/b.png") * 7 + ord("b"), len("dog/1.png") * 7 + ord("1")]


def _turned() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


@pytest.mark.parametrize(
    ("name", "pixels", "settings", "message"),
    [
        ("dog/2.png", np.zeros((8, 9), np.uint8), {}, "9 x 8 pixels, expected square"),
        ("dog/2.png", np.zeros((9, 9), np.uint8), {}, r"9 x 9 with 1 channels, the first picture has 8 x 8 with 1"),
        ("dog/2.png", np.zeros((8, 8, 3), np.uint8), {}, "8 x 8 with 3 channels"),
        ("dog/2.png", np.zeros((8, 8, 4), np.uint8), {}, "mode RGBA"),
        ("dog/2.png", np.zeros((8, 8), np.uint8), {"transparency": 0}, "mode L with transparency"),
        ("dog/2.png", np.zeros((8, 8), np.uint16), {}, "mode I;16"),
        ("dog/2.jpg", np.zeros((8, 8), np.uint8), _turned(), "turned by its EXIF orientation"),
        ("dog/2.gif", np.zeros((8, 8), np.uint8), {}, "neither PNG nor JPEG by its name"),
        ("dog/more/2.png", np.zeros((8, 8), np.uint8), {}, "more: a folder; a class's folder holds"),
        ("2.png", np.zeros((8, 8), np.uint8), {}, "a file where folders of classes are expected"),
    ],
)
def test_invalid_pictures_are_refused_by_name(
    name: str, pixels: NDArray[Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    picture(pictures(tmp_path) / name, pixels, **settings)
    with pytest.raises(InputError, match=message) as raised:
        read_folder(tmp_path)
    assert str(raised.value).startswith(str(tmp_path / name.partition("/")[0]))


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="1 folders of classes, at least 2"):
        read_folder(tmp_path / "one")
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(InputError, match="cat: a class without pictures"):
        read_folder(tmp_path / "one")
    pictures(tmp_path / "p")
    picture(pictures(tmp_path / "t") / "fish/1.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"t: other classes than .*p: fish"):
        read_folder(tmp_path / "p", tmp_path / "t")
    (tmp_path / "p" / "dog" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    with pytest.raises(InputError, match=r"2\.png: Truncated"):
        read_folder(tmp_path / "p")
