"""Initial weights of sine networks.

Source: Sitzmann et al. (2020), arXiv:2006.09661, section 3.2 and the published code.
"""

import math

import torch
from torch import Tensor

from .layers import Architecture, Linear, sines


def siren_(architecture: Architecture, tensors: dict[str, Tensor], generator: torch.Generator, scale: float) -> None:
    """Fill in the weights of linear layers, in their order; biases stay as they are.

    With n inputs of a layer, the weights are uniform in +-1/n in the first layer, and in +-sqrt(6/n)/omega in the
    others, where omega is that of the sine after the layer, or of the last sine where none follows.

    Args:
        tensors: by layout name; biases are torch's default, uniform in +-1/sqrt(n).
        scale: multiplies the weights.
    """
    omegas = sines(architecture)
    for number, p in enumerate(architecture.parametric):
        assert isinstance(p.layer, Linear)
        bound = 1 / p.layer.in_features if number == 0 else math.sqrt(6 / p.layer.in_features) / omegas[number]
        weight = tensors[f"{p.name}.weight"].uniform_(-bound, bound, generator=generator)
        if scale != 1:
            weight.mul_(scale)
