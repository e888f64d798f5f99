"""Recompute the masks of sparsified models from weights and log sigma^2, as the reference does. Pure numpy.

Source: section 3 of Molchanov, Ashukha, Vetrov (2017), arXiv:1701.05369; clamps and epsilon are the reference's.
"""

import numpy as np
from numpy.typing import NDArray

from ...formats.layout import Layout
from ...formats.manifest import Manifest

CONV_CLAMP, LINEAR_CLAMP = np.float32(8.0), np.float32(10.0)  # log alpha is clamped to plus and minus these
EPS = np.float32(1e-15)
PRUNED_FROM = np.float32(3.0)  # a value is pruned if log alpha is at least this


def used(values: NDArray[np.float32], noise: NDArray[np.float32], layout: Layout, noisy: Layout) -> NDArray[np.bool_]:
    """Mask [V] in the order of ``noisy``: true where a value is kept.

    Args:
        values: weights [D] in the order of ``layout``.
        noise: log sigma^2 [V].
    """
    weights = layout.unflatten(values)
    mean = np.concatenate([weights[entry.name].reshape(-1) for entry in noisy.entries])
    clamp = np.concatenate(
        [np.full(e.size, LINEAR_CLAMP if noisy.is_linear(e) else CONV_CLAMP, np.float32) for e in noisy.entries]
    )
    with np.errstate(invalid="ignore", over="ignore"):
        log_alpha = np.clip(noise - np.float32(2.0) * np.log(np.abs(mean) + EPS), -clamp, clamp)
        pruned: NDArray[np.bool_] = log_alpha >= PRUNED_FROM
    return ~pruned


def flips_of(
    manifest: Manifest, values: NDArray[np.float32], noise: NDArray[np.float32], mask: NDArray[np.bool_]
) -> list[int]:
    """Places where stored and recomputed masks differ. The logarithm of an engine may differ in its last bit."""
    if manifest.noisy_layout is None:
        return []
    flips: list[int] = np.flatnonzero(mask != used(values, noise, manifest.layout, manifest.noisy_layout)).tolist()
    return flips


def num_pruned(mask: NDArray[np.bool_], noisy: Layout) -> tuple[int, int]:
    """The numbers of pruned and of prunable weights. As in the reference's sparsity ratio, biases do not count."""
    weights = [mask[entry.offset : entry.stop] for entry in noisy.entries if entry.name.endswith(".weight")]
    return sum(int((~part).sum()) for part in weights), sum(part.size for part in weights)
