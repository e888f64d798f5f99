"""Random numbers made on the device are those of docs/determinism.md, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import gaussian_noise
from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.stacked import random_numbers

WORD = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=4), WORD, WORD, st.integers(0, 2**16 - 1), st.integers(1, 30))
def test_words_are_those_of_philox(seeds: list[int], epoch: int, step: int, layer: int, num_words: int) -> None:
    streams = philox.sample_streams(layer, 3)
    expected = philox.words(
        np.array(seeds, np.uint32)[:, None], philox.Purpose.NOISE, epoch=epoch, step=step, stream=streams,
        num_words=num_words,
    )  # fmt: skip
    drawn = random_numbers.words(
        torch.tensor(seeds),
        philox.Purpose.NOISE,
        torch.tensor(epoch),
        torch.tensor(step),
        random_numbers.sample_streams(layer, 3, torch.device("cpu")),
        num_words,
    )
    assert drawn.shape == expected.shape
    assert np.array_equal(drawn.numpy(), expected)


@pytest.mark.parametrize("num_rows", [1, 10, 1001])
def test_orders_are_those_of_philox_whatever_the_tile(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = np.array([1, 999_999, 2**32 - 1], np.uint32)
    expected = philox.permutation(seeds[:, None][:, 0], 7, num_rows)
    for tile_bytes in (1, random_numbers.TILE_BYTES):
        monkeypatch.setattr(random_numbers, "TILE_BYTES", tile_bytes)
        order = torch.zeros((3, num_rows), dtype=torch.int32)
        orders = random_numbers.permutations(torch.tensor(seeds.astype(np.int64)), torch.tensor(7), order)
        assert orders is order  # a second buffer would not be in the predicted memory
        assert np.array_equal(orders.numpy(), expected)


def test_uniforms_are_the_same_bits_and_gaussians_agree_to_a_few_ulp() -> None:
    words = np.array([[0, 0, 2**32 - 1, 2**32 - 1, 123_456_789, 987_654_321]], np.uint32)
    even, odd = (torch.tensor(words[:, first::2].astype(np.int64)) for first in (0, 1))
    for one, other in zip(random_numbers.uniform_pairs(even, odd), philox.uniform_pairs(words), strict=True):
        assert one.numpy().tobytes() == other.tobytes()
    expected = gaussian_noise.box_muller(words)
    for first, gaussians in enumerate(random_numbers.box_muller(even, odd)):
        np.testing.assert_allclose(gaussians.numpy(), expected[:, first::2], rtol=1e-6, atol=1e-6)
