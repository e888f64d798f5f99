"""Counter-based random numbers in numpy, as docs/determinism.md specifies them. Pure; there is no generator state.

Every number is a function of (model seed, purpose, epoch, step, stream, position). Arguments broadcast, so one call
can serve many models, steps or samples; positions are the last axis of the result.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57  # Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers:
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85  # as easy as 1, 2, 3", table 2 and the Random123 library
NUM_ROUNDS = 10
TILE_BLOCKS = 1 << 13  # counters per pass, so that the temporaries stay in the cache


class Purpose(IntEnum):
    """The use of random numbers, which is the second word of the key."""

    ORDER = 1
    DROPOUT = 2
    NOISE = 3
    AUGMENT = 4
    SUBSET = 5
    LABEL = 6


def blocks(counter_N4: NDArray[np.uint32], key_N2: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Philox4x32-10 of N counters under N keys (or one key, [1, 2]): [N, 4] words.

    Source: Salmon et al. (2011); the known answers of Random123 are in docs/determinism.md.
    """
    out_N4 = np.empty(counter_N4.shape, np.uint32)
    for start in range(0, len(counter_N4), TILE_BLOCKS):
        tile = slice(start, start + TILE_BLOCKS)
        keys = key_N2 if len(key_N2) == 1 else key_N2[tile]
        _rounds(counter_N4[tile], keys, out_N4[tile])
    return out_N4


def _rounds(counter_N4: NDArray[np.uint32], key_N2: NDArray[np.uint32], out_N4: NDArray[np.uint32]) -> None:
    """Ten rounds in 64-bit integers that hold 32-bit values, so a product has its high and low word in its halves."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c0, c1, c2, c3 = (counter_N4[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key_N2[:, 0].astype(np.uint64), key_N2[:, 1].astype(np.uint64)
    high = np.empty_like(c0)
    for _ in range(NUM_ROUNDS):
        c0 *= np.uint64(MULTIPLIER_0)
        c2 *= np.uint64(MULTIPLIER_1)
        np.right_shift(c0, half, out=high)
        c3 ^= high
        c3 ^= k1
        np.right_shift(c2, half, out=high)
        c1 ^= high
        c1 ^= k0
        c0 &= low
        c2 &= low
        c0, c1, c2, c3 = c1, c2, c3, c0
        k0 = (k0 + np.uint64(WEYL_0)) & low
        k1 = (k1 + np.uint64(WEYL_1)) & low
    for i, word in enumerate((c0, c1, c2, c3)):
        out_N4[:, i] = word


def words(
    seed: ArrayLike, purpose: Purpose, *, epoch: ArrayLike, step: ArrayLike, stream: ArrayLike, num_words: int
) -> NDArray[np.uint32]:
    """Words at positions 0 .. ``num_words`` - 1 for every broadcast combination of the other arguments.

    Returns:
        [*broadcast, num_words] uint32.
    """
    lead = np.broadcast_shapes(*(np.shape(a) for a in (seed, epoch, step, stream)))
    num_blocks = -(-num_words // 4)
    counter = np.empty((*lead, num_blocks, 4), np.uint32)
    counter[..., 0] = np.arange(num_blocks, dtype=np.uint32)
    for i, value in enumerate((step, epoch, stream), start=1):
        counter[..., i] = np.asarray(value).astype(np.uint32)[..., None]
    seeds = np.asarray(seed).astype(np.uint32)
    if seeds.ndim == 0:
        key = np.array([[seeds, purpose]], np.uint32)
    else:
        key = np.empty((*lead, num_blocks, 2), np.uint32)
        key[..., 0] = seeds[..., None]
        key[..., 1] = purpose
    out = blocks(counter.reshape(-1, 4), key.reshape(-1, 2))
    return out.reshape(*lead, num_blocks * 4)[..., :num_words]


def permutation(
    seed: ArrayLike, epoch: ArrayLike, num_rows: int, purpose: Purpose = Purpose.ORDER
) -> NDArray[np.int64]:
    """Order of the training rows in ``epoch``: [*broadcast, num_rows].

    Batch b of B rows is ``order[b * B : (b + 1) * B]``. Rows are sorted by 64-bit words, ties by row.
    """
    w = words(seed, purpose, epoch=epoch, step=0, stream=0, num_words=2 * num_rows).astype(np.uint64)
    sort_keys = w[..., 0::2] | w[..., 1::2] << np.uint64(32)
    return np.argsort(sort_keys, axis=-1, kind="stable").astype(np.int64, copy=False)


def dropout_threshold(ratio: float) -> int:
    """A value is dropped if its word is below this threshold. Raises ValueError for a ratio outside [0, 1)."""
    if not 0 <= ratio < 1:
        raise ValueError(f"dropout ratio is {ratio}, must be in [0, 1)")
    return int(ratio * 2.0**32)


def dropout_scale(ratio: float) -> np.float32:
    """The factor of values that are kept: 1 / (1 - ratio) in double precision, rounded once to float32."""
    return np.float32(1.0 / (1.0 - ratio))


def keep_mask(
    seed: ArrayLike, *, epoch: ArrayLike, step: ArrayLike, layer: int, num_samples: int, num_values: int, ratio: float
) -> NDArray[np.bool_]:
    """True where a value is kept: [*broadcast of seed, epoch, step, num_samples, num_values].

    Args:
        layer: 0, 1, .. counting the dropout layers of the architecture.
        num_values: size of the layer's input for one sample, in C order.
    """
    w = words(
        np.asarray(seed)[..., None],
        Purpose.DROPOUT,
        epoch=np.asarray(epoch)[..., None],
        step=np.asarray(step)[..., None],
        stream=sample_streams(layer, num_samples),
        num_words=num_values,
    )
    kept: NDArray[np.bool_] = w >= np.uint32(dropout_threshold(ratio))
    return kept


def sample_streams(layer: int, num_samples: int) -> NDArray[np.uint32]:
    """[num_samples]: the layer in the high 16 bits, the sample's place in its batch in the low 16."""
    if num_samples > 1 << 16:
        raise ValueError(f"{num_samples} samples in a batch; a stream has room for {1 << 16}")
    return np.uint32(layer << 16) | np.arange(num_samples, dtype=np.uint32)


def uniform_pairs(words_: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """u in (0, 1] from the even positions, v in [0, 1) from the odd ones: float32, exact on any machine.

    The sum with 0.5 is rounded to nearest even, so the largest word gives u = 1.
    """
    top = (words_ >> np.uint32(8)).astype(np.float32)
    scale = np.float32(2.0**-24)
    return (top[..., 0::2] + np.float32(0.5)) * scale, top[..., 1::2] * scale


def augment_words(seed: int, *, epoch: int, step: ArrayLike, num_samples: int) -> NDArray[np.uint32]:
    """Words 0 to 3 of every sample of a batch: [*steps, num_samples, 4]. docs/determinism.md says what each is for."""
    return words(
        seed,
        Purpose.AUGMENT,
        epoch=epoch,
        step=np.asarray(step)[..., None],
        stream=np.arange(num_samples, dtype=np.uint32),
        num_words=4,
    )
