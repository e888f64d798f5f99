"""Batches, augmentation and the one-cycle schedule."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from zooforge.zoo_jobs.engines import batches, philox
from zooforge.zoo_jobs.engines.batches import augmented, evaluation_blocks, pixels, training_blocks
from zooforge.zoo_jobs.engines.one_cycle import one_cycle
from zooforge.zoo_jobs.errors import InputError

Made = Callable[..., Any]


@pytest.mark.parametrize("batch_size", [1, 10, 16, 57, 100])
def test_an_epoch_has_every_image_once_in_the_order_of_its_permutation(batch_size: int, digits: Made) -> None:
    data = digits()
    blocks = list(training_blocks(data, 5, 3, batch_size, None))
    order = philox.permutation(5, 3, 57)
    assert np.array_equal(
        np.concatenate([b.images for b in blocks]), pixels(data.pixel_values, data.train.images[order])
    )
    assert np.array_equal(np.concatenate([b.labels for b in blocks]), data.train.labels[order])
    assert sum(b.num_steps for b in blocks) == batches.num_steps(57, batch_size)


def test_the_block_size_does_not_change_results(digits: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits(3, 32)

    def epoch() -> tuple[bytes, list[int]]:
        blocks = list(training_blocks(data, 5, 3, 10, "crop-flip"))
        return b"".join(b.images.tobytes() for b in blocks), [b.first_step for b in blocks]

    whole, firsts = epoch()
    assert firsts == [0]
    monkeypatch.setattr(batches, "BLOCK_BYTES", 2 * 10 * 3 * 32 * 32 * 4)
    cut, firsts = epoch()
    assert firsts == [0, 2, 4]
    assert cut == whole


def test_a_batch_as_large_as_the_training_set_is_permuted_all_the_same(digits: Made) -> None:
    (block,) = training_blocks(digits(), 1, 1, 57, None)
    assert not np.array_equal(block.labels, digits().train.labels)


def test_pixels_are_looked_up_per_channel(digits: Made) -> None:
    data = digits(3)
    table = data.pixel_values * np.array([[1], [2], [3]], np.float32)
    values = pixels(table, data.test.images)
    for channel in range(3):
        assert np.array_equal(values[:, channel], table[channel][data.test.images[:, channel]])


def test_a_split_is_evaluated_in_its_own_order_in_fixed_blocks(digits: Made) -> None:
    data = digits()
    blocks = list(evaluation_blocks(data, data.test, 8))
    assert [len(b.labels) for b in blocks] == [8, 8, 8, 6]
    assert np.array_equal(np.concatenate([b.labels for b in blocks]), data.test.labels)


def words(*values: float) -> Any:
    """One row of words from ratios of 2^32."""
    return np.array([[int(v * 2**32) for v in values]], np.uint32)


def picture(size: int = 32) -> Any:
    return np.arange(3 * size * size).astype(np.uint8).reshape(1, 3, size, size)


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (4, 4), (8, 0), (3, 7)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_crop_flip_is_a_shift_into_zeros_then_a_mirror(dy: int, dx: int, mirrored: bool) -> None:
    image = augmented(picture(), words((dy + 0.5) / 9, (dx + 0.5) / 9, 0.75 if mirrored else 0.25, 0), "crop-flip")
    expected = np.pad(picture(), ((0, 0), (0, 0), (4, 4), (4, 4)))[:, :, dy : dy + 32, dx : dx + 32]
    assert np.array_equal(image, expected[..., ::-1] if mirrored else expected)


def test_every_crop_is_as_likely() -> None:
    drawn = philox.augment_words(1, epoch=1, step=np.arange(100), num_samples=90).reshape(-1, 4)
    skipped = drawn[:, 0].astype(np.uint64) * np.uint64(9) >> np.uint64(32)
    counts = np.bincount(skipped.astype(np.intp), minlength=9)
    assert len(counts) == 9
    assert abs(counts - 1000).max() < 150


def test_no_rotation_is_the_identity_and_a_mirror_comes_before_it() -> None:
    assert np.array_equal(augmented(picture(), words(0, 0, 0.25, 0.5), "flip-rotate"), picture())
    assert np.array_equal(augmented(picture(), words(0, 0, 0.75, 0.5), "flip-rotate"), picture()[..., ::-1])


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.9])
def test_a_rotation_is_pillows_with_the_nearest_neighbour(ratio: float) -> None:
    """Pillow rounds coordinates in fixed point: a few pixels of a thousand may come from the neighbour."""
    from PIL import Image

    smooth = (np.add.outer(np.arange(64), 2 * np.arange(64))).astype(np.uint8)
    image = augmented(np.broadcast_to(smooth, (1, 1, 64, 64)).copy(), words(0, 0, 0, ratio), "flip-rotate")[0, 0]
    angle = 40 * ratio - 20
    expected = np.asarray(Image.fromarray(smooth).rotate(angle, resample=Image.Resampling.NEAREST, fillcolor=0))
    assert (image == expected).mean() > 0.98
    assert (image == 0).sum() > 100


def test_augmentation_depends_on_epoch_step_and_sample_alone(digits: Made) -> None:
    data = digits(3, 32)
    first, again, other = (
        next(training_blocks(data, 5, epoch, 10, "crop-flip")).images.tobytes() for epoch in (1, 1, 2)
    )
    assert first == again != other


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match="accepted: crop-flip, flip-rotate"):
        augmented(picture(), words(0, 0, 0, 0), "cutout")


@pytest.mark.parametrize(
    ("step", "learning_rate", "momentum"), [(0, 0.002, 0.95), (2_354, 0.05, 0.85), (7_849, 2e-7, 0.95)]
)
def test_the_schedule_has_the_values_measured_on_the_reference(
    step: int, learning_rate: float, momentum: float
) -> None:
    assert one_cycle(step, 7_850, 0.05) == pytest.approx((learning_rate, momentum), rel=1e-9)


@pytest.mark.parametrize("total", [2, 6, 10, 157, 1_000])
def test_the_schedule_is_torchs_at_every_step(total: int) -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=total)
    for step in range(total):
        group = optimizer.param_groups[0]
        assert one_cycle(step, total, 0.1) == pytest.approx((group["lr"], group["momentum"]), rel=1e-12, abs=1e-15)
        optimizer.step()
        if step + 1 < total:
            scheduler.step()


def test_a_step_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(InputError, match="beyond the one-cycle schedule of 10 steps"):
        one_cycle(10, 10, 0.1)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "epochs", "total"),
    [(40_000, 256, 50, 7_850), (40_000, 128, 60, 18_780), (100_000, 128, 60, 46_920)],
)
def test_the_schedules_of_the_reference_have_these_lengths(
    num_images: int, batch_size: int, epochs: int, total: int
) -> None:
    assert batches.num_steps(num_images, batch_size) * epochs == total
