"""Variational dropout as the reference sparsifies with it.

Shape suffixes: V = values that have a noise variance, in the order of ``noisy_layout``; leading axes are free.

Source: Molchanov, Ashukha, Vetrov (2017), arXiv:1701.05369; clamps, eps and the schedule are the reference's.
"""

import torch
from torch import Tensor

from ..models.layers import Architecture, Conv2d

K1, K2, K3 = 0.63576, 1.87320, 1.48695  # sigmoid approximation of the KL term, Molchanov et al. (2017)
EPS = 1e-15  # under the logarithm and added to variances
CONV_CLAMP, LINEAR_CLAMP = 8.0, 10.0  # log alpha stays within plus and minus these
PRUNED_FROM = 3.0  # log alpha at and above which a value is pruned


def log_alpha(log_sigma2_V: Tensor, values_V: Tensor, clamp_V: Tensor) -> Tensor:
    """log of noise variance over squared mean, clamped: outside the clamp nothing has a gradient through it."""
    return torch.clamp(log_sigma2_V - 2 * torch.log(values_V.abs() + EPS), min=-clamp_V, max=clamp_V)


def clamps(architecture: Architecture) -> Tensor:
    """The clamp of log alpha of every noisy value, [V]."""
    sizes = {entry.name: entry.size for entry in architecture.layout.entries}
    limits = [
        torch.full((sizes[name],), CONV_CLAMP if isinstance(layer.layer, Conv2d) else LINEAR_CLAMP)
        for layer in architecture.parametric
        for name in layer.noisy
    ]
    return torch.cat(limits)


def kl_from_log_uniform(log_alpha_V: Tensor) -> Tensor:
    """KL divergence of each value's posterior from the log-uniform prior, in nats.

    Non-negative, decreasing in ``log_alpha_V``, and 0 in the limit of a value that is pure noise.
    """
    return K1 * torch.sigmoid(-(K2 + K3 * log_alpha_V)) + 0.5 * torch.nn.functional.softplus(-log_alpha_V)


def pruned(log_alpha_V: Tensor) -> Tensor:
    """True where a value is set to zero in eval mode."""
    return log_alpha_V >= PRUNED_FROM
