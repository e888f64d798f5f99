"""Makes the random tensors of many training steps at a time: dropout masks, and the noise of twins."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import philox
from ..random_layers import RandomLayer

WORDS_AT_ONCE = 1 << 20  # random words in memory at a time


@dataclass(frozen=True, slots=True)
class Steps:
    """Consecutive steps of one epoch of the model with this seed.

    ``first`` is the number of the first step. ``sizes`` has the number of samples of each batch; only the last may be
    smaller than the others.
    """

    seed: int
    epoch: int
    first: int
    sizes: tuple[int, ...]


DrawLayer = Callable[[RandomLayer, Steps, NDArray[np.intp]], Tensor]
"""Returns the random values of a layer for some of the steps: float32 [steps, samples, *shape of the layer], where the
layer's shape may be flattened to one axis."""


def draws(
    layers: Sequence[RandomLayer], draw_layer: DrawLayer, steps: Steps, device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """Yield a tuple for each step, with one tensor [B, *shape] per layer. Without layers the tuples are empty."""
    sizes = steps.sizes
    if not layers:
        yield from (() for _ in sizes)
        return
    at_once = max(1, WORDS_AT_ONCE // (sizes[0] * sum(layer.num_values for layer in layers)))
    for start in range(0, len(sizes), at_once):
        numbers = np.arange(steps.first + start, steps.first + min(start + at_once, len(sizes)))
        tensors = [
            draw_layer(layer, steps, numbers).reshape(len(numbers), sizes[0], *layer.shape).to(device)
            for layer in layers
        ]
        for i in range(len(numbers)):
            num_samples = sizes[start + i]
            yield tuple(tensor[i, :num_samples] for tensor in tensors)


def dropout_masks(layer: RandomLayer, steps: Steps, numbers: NDArray[np.intp], *, ratio: float) -> Tensor:
    """Dropout masks (see ``DrawLayer``): 0 for dropped values, 1 / (1 - ratio) for all others."""
    kept = philox.keep_mask(
        steps.seed,
        epoch=steps.epoch,
        step=numbers,
        layer=layer.ordinal,
        num_samples=steps.sizes[0],
        num_values=layer.num_values,
        ratio=ratio,
    )
    return torch.from_numpy(kept * philox.dropout_scale(ratio))


def noise(layer: RandomLayer, steps: Steps, numbers: NDArray[np.intp]) -> Tensor:
    """Standard normal values (see ``DrawLayer``)."""
    words = philox.words(
        steps.seed,
        philox.Purpose.NOISE,
        epoch=steps.epoch,
        step=numbers[:, None],
        stream=philox.sample_streams(layer.ordinal, steps.sizes[0]),
        num_words=layer.num_values + layer.num_values % 2,
    )
    return _box_muller(words)[..., : layer.num_values]


def _box_muller(words: NDArray[np.uint32]) -> Tensor:
    """Gaussians from pairs of words (docs/determinism.md) by torch's functions, which are faster than NumPy's."""
    u, v = (torch.from_numpy(uniform) for uniform in philox.uniform_pairs(words))
    radius = torch.log_(u).mul_(-2).sqrt_()
    angle = v.mul_(float(np.float32(2 * np.pi)))
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten(-2)
