"""Each reader on a small file in the real format."""

import bz2
import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from zooforge.zoo_jobs.data.readers import read
from zooforge.zoo_jobs.errors import InputError

RNG = np.random.default_rng(7)


def noise(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, np.uint8)


def idx(array: Any) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def test_idx_files_are_read(tmp_path: Path) -> None:
    arrays = {"train": (noise(5, 28, 28), noise(5) % 10), "t10k": (noise(3, 28, 28), noise(3) % 10)}
    files = {}
    for prefix, (images, labels) in arrays.items():
        for name, array in ((f"{prefix}-images-idx3-ubyte.gz", images), (f"{prefix}-labels-idx1-ubyte.gz", labels)):
            files[name] = tmp_path / name
            files[name].write_bytes(idx(array))
    actual = read("idx", files)
    assert np.array_equal(actual.train.images[..., 0], arrays["train"][0])
    assert np.array_equal(actual.train.labels, arrays["train"][1])
    assert actual.test is not None
    assert np.array_equal(actual.test.images[..., 0], arrays["t10k"][0])


def test_svhn_matrices_are_read_and_the_digit_zero_has_label_ten(tmp_path: Path) -> None:
    files = {}
    pixels = noise(4, 32, 32, 3)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        files[name] = tmp_path / name
        savemat(files[name], {"X": pixels.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [10]], np.uint8)})
    images = read("svhn-mat", files)
    assert np.array_equal(images.train.images, pixels)
    assert images.train.labels.tolist() == [0, 1, 9, 0]
    assert images.test is not None


def test_usps_lines_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    values = RNG.uniform(-1, 1, (3, 256)).round(3)
    values[0, :2] = -1, 1
    lines = [
        f"{label} " + " ".join(f"{i}:{v}" for i, v in enumerate(row, start=1))
        for label, row in zip((1, 10, 5), values, strict=True)
    ]
    files = {}
    for name in ("usps.bz2", "usps.t.bz2"):
        files[name] = tmp_path / name
        files[name].write_bytes(bz2.compress("\n".join(lines).encode()))
    images = read("libsvm", files)
    assert images.train.labels.tolist() == [0, 9, 4]
    expected = ((np.asarray(values, np.float32) + 1) / 2 * 255).astype(np.uint8)
    assert np.array_equal(images.train.images.reshape(3, 256), expected)
    assert images.train.images.reshape(3, 256)[0, :2].tolist() == [0, 255]


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def batch(pixels: Any, labels: list[int], key: bytes = b"labels") -> bytes:
    return pickle.dumps({b"data": pixels.reshape(len(labels), 3072), key: labels, b"batch_label": b"x"}, protocol=2)


def test_cifar10_batches_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pixels = noise(6, 3, 32, 32)
    members = {f"cifar-10-batches-py/data_batch_{i}": batch(pixels[i - 1 : i], [i]) for i in (3, 1, 5, 2, 4)}
    members["cifar-10-batches-py/test_batch"] = batch(pixels[5:], [7])
    members["cifar-10-batches-py/batches.meta"] = pickle.dumps({b"label_names": [b"cat"]}, protocol=2)
    images = read("cifar", {"cifar-10-python.tar.gz": tar(tmp_path / "cifar.tar.gz", members)})
    assert images.train.labels.tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(images.train.images, pixels[:5].transpose(0, 2, 3, 1))
    assert images.test is not None
    assert np.array_equal(images.test.images, pixels[5:].transpose(0, 2, 3, 1))


def test_cifar100_gives_fine_labels(tmp_path: Path) -> None:
    pixels = noise(2, 3, 32, 32)
    content = {b"data": pixels.reshape(2, 3072), b"fine_labels": [99, 3], b"coarse_labels": [1, 1]}
    members = {f"cifar-100-python/{name}": pickle.dumps(content, protocol=2) for name in ("train", "test", "meta")}
    images = read("cifar", {"cifar-100-python.tar.gz": tar(tmp_path / "cifar.tar.gz", members)})
    assert images.train.labels.tolist() == [99, 3]
    assert np.array_equal(images.train.images, pixels.transpose(0, 2, 3, 1))


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


def test_a_cifar_archive_with_code_in_it_is_refused(tmp_path: Path) -> None:
    members = {"c/data_batch_1": pickle.dumps(Hostile()), "c/test_batch": pickle.dumps({})}
    with pytest.raises(InputError, match=r"builtins\.print, which is not on the allow-list"):
        read("cifar", {"cifar-10-python.tar.gz": tar(tmp_path / "cifar.tar.gz", members)})


def test_stl_bytes_are_columns_first_and_the_unlabelled_images_are_not_read(tmp_path: Path) -> None:
    pixels = noise(3, 96, 96, 3)
    stored = pixels.transpose(0, 3, 2, 1).tobytes()
    members = {"stl10_binary/test_X.bin": stored, "stl10_binary/test_y.bin": bytes([1, 10, 2]),
               "stl10_binary/train_X.bin": stored, "stl10_binary/train_y.bin": bytes([3, 4, 5]),
               "stl10_binary/unlabeled_X.bin": b"not a multiple of an image"}  # fmt: skip
    images = read("stl-binary", {"stl10_binary.tar.gz": tar(tmp_path / "stl.tar.gz", members)})
    assert np.array_equal(images.train.images, pixels)
    assert images.train.labels.tolist() == [2, 3, 4]
    assert images.test is not None
    assert images.test.labels.tolist() == [0, 9, 1]


def jpeg(grey: int, mode: str = "RGB", size: int = 64) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (size, size), grey if mode == "L" else (grey, grey, grey)).save(out, "JPEG")
    return out.getvalue()


def test_tiny_imagenet_labels_are_lines_of_wnids_and_its_val_set_is_the_test_set(tmp_path: Path) -> None:
    path = tmp_path / "tiny-imagenet-200.zip"
    root = "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/wnids.txt", "n2\nn1\n")
        for wnid, number, grey in (("n1", 10, 40), ("n1", 9, 30), ("n2", 0, 20)):
            mode = "L" if grey == 40 else "RGB"
            archive.writestr(f"{root}/train/{wnid}/images/{wnid}_{number}.JPEG", jpeg(grey, mode))
        archive.writestr(f"{root}/val/val_annotations.txt", "val_1.JPEG\tn1\t0\t0\t9\t9\nval_0.JPEG\tn2\t0\t0\t9\t9\n")
        archive.writestr(f"{root}/val/images/val_0.JPEG", jpeg(50))
        archive.writestr(f"{root}/val/images/val_1.JPEG", jpeg(60))
        archive.writestr(f"{root}/test/images/test_0.JPEG", jpeg(70))
    images = read("tiny-imagenet-zip", {path.name: path})
    assert images.train.labels.tolist() == [0, 1, 1]
    assert images.train.images.shape == (3, 64, 64, 3)
    np.testing.assert_allclose(images.train.images[:, 5, 5, 0], [20, 30, 40], atol=1)
    assert images.test is not None
    assert images.test.labels.tolist() == [1, 0]
    np.testing.assert_allclose(images.test.images[:, 5, 5, 2], [60, 50], atol=1)


def test_eurosat_classes_are_its_folders_in_order_and_there_is_no_test_set(tmp_path: Path) -> None:
    path = tmp_path / "EuroSAT.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("2750/River/River_1.jpg", jpeg(30))
        archive.writestr("2750/Forest/Forest_2.jpg", jpeg(20))
        archive.writestr("2750/Forest/Forest_10.jpg", jpeg(10))
    images = read("eurosat-zip", {path.name: path})
    assert images.train.labels.tolist() == [0, 0, 1]
    np.testing.assert_allclose(images.train.images[:, 0, 0, 0], [10, 20, 30], atol=1)
    assert images.test is None


def test_csv_files_of_packages_are_read(tmp_path: Path) -> None:
    rows = np.concatenate([noise(3, 784), np.array([[1], [2], [3]], np.uint8)], axis=1)
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))
    images = read("mnist5k-csv", {path.name: path})
    assert np.array_equal(images.train.images.reshape(3, 784), rows[:, :784])
    assert images.train.labels.tolist() == [1, 2, 3]
    small = tmp_path / "digits.csv.gz"
    small.write_bytes(gzip.compress(("0," * 62 + "8,16,5").encode()))
    images = read("digits8-csv", {small.name: small})
    assert images.train.images.reshape(-1)[-2:].tolist() == [128, 255]
    assert images.train.labels.tolist() == [5]


@pytest.mark.parametrize(
    ("format_name", "names", "content"),
    [
        ("idx", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], idx(noise(4, 4))),
        ("idx", ["train-images-idx3-ubyte.gz"], b"plain text"),
        ("svhn-mat", ["train_32x32.mat"], b"plain text"),
        ("libsvm", ["usps.bz2"], bz2.compress(b"1 no-pairs")),
        ("cifar", ["cifar-10-python.tar.gz"], b"plain text"),
        ("stl-binary", ["stl10_binary.tar.gz"], b"plain text"),
        ("tiny-imagenet-zip", ["tiny-imagenet-200.zip"], b"plain text"),
        ("eurosat-zip", ["EuroSAT.zip"], b"plain text"),
        ("mnist5k-csv", ["mnist_5k.csv.gz"], gzip.compress(b"1,2,3", mtime=0)),
    ],
)
def test_another_format_is_refused_in_one_line(
    format_name: Any, names: list[str], content: bytes, tmp_path: Path
) -> None:
    files = {}
    for name in names:
        files[name] = tmp_path / name
        files[name].write_bytes(content)
    with pytest.raises(InputError, match=f"not readable as {format_name}") as refusal:
        read(format_name, files)
    assert "\n" not in str(refusal.value)


def test_an_encrypted_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "EuroSAT.zip"
    picture = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(picture, "JPEG")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("EuroSAT/A/A_1.jpg", picture.getvalue())
    data = bytearray(path.read_bytes())
    data[6] |= 1  # flag of the member's own header: encrypted
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the same flag in the archive's directory
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"EuroSAT\.zip: not readable as eurosat-zip .*encrypted"):
        read("eurosat-zip", {path.name: path})
