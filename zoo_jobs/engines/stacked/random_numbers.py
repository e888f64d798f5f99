"""The random numbers of docs/determinism.md on the device that trains: the same words as ``philox``, in torch.

Shape suffixes: P = models, S = streams (samples of a batch), N = training rows. Words are int64 in [0, 2^32).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..philox import MULTIPLIER_0, MULTIPLIER_1, NUM_ROUNDS, WEYL_0, WEYL_1, Purpose

LOW = 0xFFFFFFFF
HALF = 1 << 31
TILE_BYTES = 64 << 20  # size of the temporaries while an order is drawn
ORDER_BYTES = 120  # bytes of temporaries per row of an order: words, keys and the sort together


def words(seed_P: Tensor, purpose: Purpose, epoch: Tensor, step: Tensor, stream_S: Tensor, num_words: int) -> Tensor:
    """Words at positions 0 .. ``num_words`` - 1, [P, S, num_words].

    Args:
        epoch, step: int64 without axes, on the device.
        num_words: words per stream. A multiple of 4 avoids a copy.
    """
    return _interleaved(_block_words(seed_P, purpose, epoch, step, stream_S, num_words))[..., :num_words]


def dropout_factors(
    seed_P: Tensor,
    epoch: Tensor,
    step: Tensor,
    stream_S: Tensor,
    num_values: int,
    threshold_P11: Tensor,
    scale_P11: Tensor,
) -> Tensor:
    """The factors of a dropout layer, [P, S, num_values] float32: 0 where a word is below the threshold, or the scale.

    The last axis is longer if ``num_values`` is not a multiple of 4, so that a compiler sees one shape.

    Args:
        threshold_P11: int64, ``philox.dropout_threshold``.
        scale_P11: float32, ``philox.dropout_scale``.
    """
    drawn = _block_words(seed_P, Purpose.DROPOUT, epoch, step, stream_S, num_values)
    return _interleaved([(word >= threshold_P11) * scale_P11 for word in drawn])


def gaussians(seed_P: Tensor, epoch: Tensor, step: Tensor, stream_S: Tensor, num_values: int) -> Tensor:
    """Standard normal noise of a variational layer, [P, S, num_values] float32, rounded up as ``dropout_factors``."""
    w0, w1, w2, w3 = _block_words(seed_P, Purpose.NOISE, epoch, step, stream_S, num_values)
    return _interleaved([*box_muller(w0, w1), *box_muller(w2, w3)])


def _block_words(
    seed_P: Tensor, purpose: Purpose, epoch: Tensor, step: Tensor, stream_S: Tensor, num_words: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Words 0, 1, 2, 3 of every block of four that ``num_words`` words need: each [P, S, blocks].

    The words of the counter are broadcast as late as possible, so the first two rounds are cheap.
    """
    c0 = torch.arange(-(-num_words // 4), device=seed_P.device)
    c1, c2, c3 = step, epoch, stream_S[:, None]
    k0, k1 = seed_P[:, None, None], int(purpose)
    for round_ in range(NUM_ROUNDS):
        (high_0, low_0), (high_1, low_1) = _product(c0, MULTIPLIER_0), _product(c2, MULTIPLIER_1)
        key_0 = k0 + round_ * WEYL_0 & LOW
        key_1 = k1 + round_ * WEYL_1 & LOW
        c0, c1, c2, c3 = high_1 ^ c1 ^ key_0, low_1, high_0 ^ c3 ^ key_1, low_0
    return c0, c1, c2, c3


def _product(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of the product of a word and an odd multiplier of 32 bits.

    2^31 is subtracted from the word, so that no product overflows signed 64 bits. The behaviour of such an overflow is
    undefined, and g++ made wrong words of it. The missing multiplier * 2^31 is (multiplier >> 1) * 2^32 + 2^31. The
    word occurs once, because a compiler repeats the computation of what occurs twice: over ten rounds, minutes.
    """
    product = (word - HALF).mul_(multiplier).add_(HALF)
    return (product >> 32).add_(multiplier >> 1), product & LOW


def _interleaved(columns: Sequence[Tensor]) -> Tensor:
    """One axis of the values of four columns that hold every fourth value."""
    return torch.stack(tuple(columns), dim=-1).flatten(-2)


def permutations(seed_P: Tensor, epoch: Tensor, order_PN: Tensor, count_P: Tensor | None = None) -> Tensor:
    """Order of the training rows of every model in ``epoch``: rows sorted by 64-bit words.

    Args:
        order_PN: int32; the order is written here and returned.
        count_P: how many rows each model has, if that is not N; the first entries are then their order.
    """
    num_rows = order_PN.shape[1]
    at_once = max(1, TILE_BYTES // (ORDER_BYTES * num_rows))
    zero = torch.zeros((), dtype=torch.int64, device=seed_P.device)
    for start in range(0, len(seed_P), at_once):
        tile = slice(start, start + at_once)
        drawn = words(seed_P[tile], Purpose.ORDER, epoch, zero, zero[None], 2 * num_rows).squeeze(1)
        # The keys are unsigned. After subtracting 2^63 they sort in the same order as signed numbers.
        keys_pN = (drawn[:, 1::2] - HALF) * (1 << 32) + drawn[:, 0::2]
        if count_P is not None:  # a stable sort puts a model's rows before other rows with the largest key
            beyond_pN = torch.arange(num_rows, device=seed_P.device) >= count_P[tile, None]
            keys_pN.masked_fill_(beyond_pN, torch.iinfo(torch.int64).max)
        order_PN[tile] = torch.sort(keys_pN, dim=1, stable=True).indices
    return order_PN


def sample_streams(layer: int, num_samples: int, device: torch.device) -> Tensor:
    """[S]: the layer in the high 16 bits, the sample's place in its batch in the low 16."""
    return (layer << 16) + torch.arange(num_samples, device=device)


def uniform_pairs(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """u in (0, 1] from words at even positions, v in [0, 1) from those at odd ones: float32, bits as in ``philox``."""
    return ((even >> 8).float() + 0.5) * 2.0**-24, (odd >> 8).float() * 2.0**-24


def box_muller(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Standard normal numbers, those at even positions and those at odd ones, from the words at these positions."""
    u, v = uniform_pairs(even, odd)
    radius = torch.log_(u).mul_(-2).sqrt_()
    angle = v.mul_(TWO_PI)
    return radius * torch.cos(angle), radius * torch.sin(angle)


TWO_PI = 6.2831854820251465  # float32(2 pi)
