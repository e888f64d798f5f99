"""Preprocessing, splits and the cache, compared with the reference."""

import hashlib
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.data_specs import GREY, Spec
from zooforge.zoo_jobs.data import prepare as module
from zooforge.zoo_jobs.data.prepare import load, pixel_values, prepare, prepared, split_rows
from zooforge.zoo_jobs.data.raw import RawDataset, RawImages
from zooforge.zoo_jobs.data.rules import Preprocessing, SplitRule
from zooforge.zoo_jobs.errors import InputError


@pytest.mark.parametrize(
    ("num_images", "train", "first", "digest"),
    [
        (60_000, 50_000, [37542, 43087, 2992, 25810, 39634], "1d33d4238a185ac0"),
        (7_291, 6_000, [2339, 1968, 3656, 6329, 1324], "8af1c90c33346bb4"),
        (73_257, 60_000, [60336, 70868, 53178, 72901, 17776], "f235e868211bd1e9"),
        (50_000, 42_000, [37542, 44491, 216, 43688, 41558], "caaec5fb8386ef9a"),
        (50_000, 40_000, [37542, 44491, 216, 43688, 41558], "5448db08a6653755"),
        (5_000, 4_200, [2542, 430, 846, 4406, 2154], "fb98d191bbff0cb2"),
    ],
)
def test_splits_are_those_of_the_reference(num_images: int, train: int, first: list[int], digest: str) -> None:
    rows = split_rows("any", num_images, SplitRule(train=train, val=num_images - train, seed=42))
    assert rows["train"][:5].tolist() == first
    members = ",".join(map(str, sorted(rows["val"].tolist())))
    assert hashlib.sha256(members.encode()).hexdigest()[:16] == digest
    assert sorted([*rows["train"], *rows["val"]]) == list(range(num_images))


def test_without_a_seed_images_stay_in_order() -> None:
    rows = split_rows("any", 10, SplitRule(train=7, val=0, seed=None))
    assert rows["train"].tolist() == list(range(7))
    assert rows["val"].size == rows["test"].size == 0


def test_a_test_split_by_number_continues_the_permutation() -> None:
    parts = split_rows("any", 20, SplitRule(train=10, val=4, test=5, seed=3))
    joined = np.concatenate([parts[name] for name in ("train", "val", "test")])
    assert np.array_equal(joined, split_rows("any", 20, SplitRule(train=20, val=0, seed=3))["train"][:19])


def test_a_split_larger_than_the_dataset_is_refused() -> None:
    with pytest.raises(InputError, match=r"split: 4000 \+ 500 \+ 501 images asked, mnist5k has 5000"):
        prepare("mnist5k", GREY, SplitRule(train=4000, val=500, test=501, seed=1))


def test_a_dataset_without_a_test_set_needs_a_number() -> None:
    with pytest.raises(InputError, match=r"mnist5k has no official test set: split\.test must say"):
        prepare("mnist5k", GREY, SplitRule(train=4000, val=500, seed=1))


def test_pixel_values_are_torchvisions_to_the_bit() -> None:
    """ToTensor divides a float32 by 255, Normalize subtracts and divides in place."""
    import torch

    mean, std = (0.49137, 0.48235, 0.44667), (0.24706, 0.24353, 0.26157)
    expected = torch.arange(256, dtype=torch.uint8).to(torch.float32).div(255).expand(3, 256).clone()
    expected.sub_(torch.tensor(mean).view(3, 1)).div_(torch.tensor(std).view(3, 1))
    assert pixel_values(Preprocessing(mean=mean, std=std)).tobytes() == expected.numpy().tobytes()


def raw(*shape: int) -> RawDataset:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, shape, np.uint8)
    labels = rng.integers(0, 10, shape[0], np.uint8)
    return RawDataset(RawImages(images, labels), RawImages(images[::-1], labels[::-1]))


def one(images: RawDataset, preprocessing: Preprocessing) -> Any:
    n = len(images.train)
    return prepared("any", 10, images, preprocessing, SplitRule(train=n, val=0, seed=None))


def test_grey_and_cropped_svhn_images_equal_those_of_pillow_and_torchvision() -> None:
    images = raw(3, 32, 32, 3)
    data = one(images, Preprocessing(grayscale=True, center_crop=28, mean=(0.5,), std=(0.5,)))
    assert data.train.images.shape == (3, 1, 28, 28)
    for pixels, actual in zip(images.train.images, data.train.images, strict=True):
        assert np.array_equal(actual[0], np.asarray(Image.fromarray(pixels).convert("L"))[2:30, 2:30])
    assert data.val.images.shape == (0, 1, 28, 28)
    assert np.array_equal(data.test.images, data.train.images[::-1])


@pytest.mark.parametrize(("size", "channels", "to"), [(16, 1, 28), (32, 3, 28), (96, 3, 32), (8, 1, 28)])
def test_resizing_is_pillows_bilinear(size: int, channels: int, to: int) -> None:
    images = raw(2, size, size, channels)
    data = one(images, Preprocessing(resize=to, mean=(0.5,) * channels, std=(0.5,) * channels))
    assert data.train.images.shape == (2, channels, to, to)
    for pixels, actual in zip(images.train.images, data.train.images, strict=True):
        image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
        expected = np.asarray(image.resize((to, to), Image.Resampling.BILINEAR)).reshape(to, to, channels)
        assert np.array_equal(actual, expected.transpose(2, 0, 1))


def test_without_preprocessing_bytes_are_the_files() -> None:
    images = raw(4, 28, 28, 1)
    data = one(images, GREY)
    assert np.array_equal(data.train.images[:, 0], images.train.images[..., 0])
    assert data.train.images.flags.c_contiguous


def test_an_odd_margin_is_halved_as_torchvision_does() -> None:
    images = raw(1, 31, 31, 1)
    data = one(images, Preprocessing(center_crop=28, mean=(0.5,), std=(0.5,)))
    assert np.array_equal(data.train.images[0, 0], images.train.images[0, 2:30, 2:30, 0])


def test_mnist5k_has_real_digits_of_every_class() -> None:
    data = prepare("mnist5k", GREY, Spec().split)
    assert [len(s) for s in (data.train, data.val, data.test)] == [4000, 500, 500]
    labels = np.concatenate([data.train.labels, data.val.labels, data.test.labels])
    assert np.bincount(labels).tolist() == [500] * 10
    assert data.train.images.dtype == np.uint8
    assert 0.12 < data.train.images.mean() / 255 < 0.14
    assert data.digest[:16] == "c06eaf3e3ec37b15"


def test_digits8_is_resized_to_what_cnn_s_takes() -> None:
    spec = SplitRule(train=1257, val=270, test=270, seed=42)
    data = prepare("digits8", Preprocessing(resize=28, mean=(0.3053,), std=(0.376,)), spec)
    assert data.train.images.shape == (1257, 1, 28, 28)
    assert abs(data.pixel_values[0][data.train.images].mean()) < 0.05


def test_the_second_load_is_from_the_cache_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(Spec(), tmp_path)
    monkeypatch.setattr(module, "prepare", None)
    again = load(Spec(), tmp_path)
    assert again.digest == first.digest
    assert np.array_equal(again.test.images, first.test.images)
    assert len(list((tmp_path / "prepared").iterdir())) == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    digest = load(Spec(), tmp_path).digest
    (path,) = (tmp_path / "prepared").iterdir()
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    assert load(Spec(), tmp_path).digest == digest
    path.write_bytes(b"short")
    assert load(Spec(), tmp_path).digest == digest


def test_other_preprocessing_or_split_is_another_file(tmp_path: Path) -> None:
    digests = {
        load(spec, tmp_path).digest
        for spec in (
            Spec(),
            Spec(split=SplitRule(train=4000, val=500, test=500, seed=43)),
            Spec(preprocessing=Preprocessing(mean=(0.5,), std=(0.5,))),
        )
    }
    assert len(digests) == len(list((tmp_path / "prepared").iterdir())) == 3


def test_cached_data_needs_no_torch(tmp_path: Path) -> None:
    load(Spec(), tmp_path)
    code = (
        "import sys; from tests.zoo_jobs.data.test_prepare import Spec, load; from pathlib import Path; "
        f"load(Spec(), Path({str(tmp_path)!r})); sys.exit('torch' in sys.modules or 'mlxtend' in sys.modules)"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0
