"""The noise of docs/determinism.md in NumPy, with which the engines' noise is compared."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zooforge.zoo_jobs.engines import philox


def gaussians(
    seed: ArrayLike, *, epoch: ArrayLike, step: ArrayLike, layer: int, num_samples: int, num_values: int
) -> NDArray[np.float32]:
    """Standard normal noise of a variational layer's outputs: [*broadcast, num_samples, num_values] float32.

    The uniforms are exact; logarithm, sine and cosine are numpy's, so other engines agree to a few ulp.

    Args:
        layer: 0, 1, .. counting the layers with parameters.
        num_values: outputs of the layer for one sample, before pooling, in C order.

    Source: Box and Muller (1958).
    """
    w = philox.words(
        np.asarray(seed)[..., None],
        philox.Purpose.NOISE,
        epoch=np.asarray(epoch)[..., None],
        step=np.asarray(step)[..., None],
        stream=philox.sample_streams(layer, num_samples),
        num_words=num_values + num_values % 2,
    )
    return box_muller(w)[..., :num_values]


def box_muller(words_: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Gaussians from an even number of words, pair by pair: r cos(2 pi v), then r sin(2 pi v)."""
    u, v = philox.uniform_pairs(words_)
    radius = np.sqrt(np.float32(-2) * np.log(u))
    angle = np.float32(2 * np.pi) * v
    out = np.empty(words_.shape, np.float32)
    out[..., 0::2] = radius * np.cos(angle)
    out[..., 1::2] = radius * np.sin(angle)
    return out
