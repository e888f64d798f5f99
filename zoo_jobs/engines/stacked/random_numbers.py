"""The random numbers of docs/determinism.md on the device that trains: the same words as ``philox``, in torch.

Shape suffixes: P = models, S = streams (samples of a batch), N = training rows. Words are int64 in [0, 2^32).
"""

import torch
from torch import Tensor

from ..philox import MULTIPLIER_0, MULTIPLIER_1, NUM_ROUNDS, WEYL_0, WEYL_1, Purpose

LOW = 0xFFFFFFFF
HALF = 1 << 31
TILE_BYTES = 64 << 20  # size of the temporaries while an order is drawn
ORDER_BYTES = 120  # bytes of temporaries per row of an order: words, keys and the sort together


def words(seed_P: Tensor, purpose: Purpose, epoch: Tensor, step: Tensor, stream_S: Tensor, num_words: int) -> Tensor:
    """Words at positions 0 .. ``num_words`` - 1, [P, S, num_words].

    A product of two 32-bit words may overflow signed 64 bits, but its bits are still correct; masks split its halves.
    The words of the counter are broadcast as late as possible, so the first two rounds are cheap.

    Args:
        epoch, step: int64 without axes, on the device.
        num_words: words per stream. A multiple of 4 avoids a copy.
    """
    num_blocks = -(-num_words // 4)
    c0 = torch.arange(num_blocks, device=seed_P.device)
    c1, c2, c3 = step, epoch, stream_S[:, None]
    k0, k1 = seed_P[:, None, None], int(purpose)
    for round_ in range(NUM_ROUNDS):
        product_0, product_1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        key_0 = k0 + round_ * WEYL_0 & LOW
        key_1 = k1 + round_ * WEYL_1 & LOW
        c0 = (product_1 >> 32 & LOW) ^ c1 ^ key_0
        c2 = (product_0 >> 32 & LOW) ^ c3 ^ key_1
        c1, c3 = product_1 & LOW, product_0 & LOW
    return torch.stack((c0, c1, c2, c3), dim=-1).flatten(-2)[..., :num_words]


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


def uniform_pairs(words_: Tensor) -> tuple[Tensor, Tensor]:
    """u in (0, 1] from the even positions, v in [0, 1) from the odd ones: float32, the same bits as in ``philox``."""
    top = (words_ >> 8).float()
    return (top[..., 0::2] + 0.5) * 2.0**-24, top[..., 1::2] * 2.0**-24


def box_muller(words_: Tensor) -> Tensor:
    """Standard normal numbers from an even number of words, pair by pair."""
    u, v = uniform_pairs(words_)
    radius = torch.log_(u).mul_(-2).sqrt_()
    angle = v.mul_(TWO_PI)
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten(-2)


TWO_PI = 6.2831854820251465  # float32(2 pi)
