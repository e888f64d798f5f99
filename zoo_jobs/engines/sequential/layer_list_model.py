"""One model of a layer list in plain torch: the arithmetic of the engine ``sequential``.

Shape suffixes: D = parameters, V = values with a noise variance, T = D + V for twins, D otherwise; B = batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from ...models.layers import (
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Parametric,
)
from ...models.torch_module import activation_module
from ...sparsify import variational_dropout as vd
from ..contract import Program, noisy_layout
from ..random_layers import random_layers
from .draws import Steps, draws, dropout_masks, noise

LOSSES: dict[str, Callable[..., Tensor]] = {"classification": F.cross_entropy, "image_regression": F.mse_loss}
Draws = Sequence[Tensor]  # for one step: a scaled mask per dropout layer, or noise per parametric layer of a twin


class LayerListModel:
    """Computes loss and logits of the model whose values are bound. All models of a program share everything else."""

    def __init__(self, program: Program, device: torch.device) -> None:
        architecture = program.architecture
        if not isinstance(architecture, Architecture):
            raise ValueError(f"{architecture.name} is not a layer list")
        self._architecture = architecture
        self._device = device
        self._variational = program.variational
        self.loss = LOSSES[program.task]
        entries = architecture.layout.entries
        noisy = noisy_layout(architecture).entries if program.variational else ()
        self._sizes = [entry.size for entry in entries]
        self._shapes = {entry.name: entry.shape for entry in entries}
        self._noisy = [entry.name for entry in noisy]
        self._noisy_sizes = [entry.size for entry in noisy]
        if program.variational:
            self._sizes.append(sum(self._noisy_sizes))
            self._clamp_V = vd.clamps(architecture).to(device)
        self._parametric = {p.index: p for p in architecture.parametric}
        self._random = random_layers(architecture, program.dropout, program.variational)
        self._values_T = torch.empty(0)

    def bind(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Use ``rows["values"]`` [T] as the model's values. Returns this tensor, the leaf that receives gradients."""
        self._values_T = rows["values"].requires_grad_()
        return self._values_T

    def training_loss(
        self, images: Tensor, labels: Tensor, draws: Draws, kl_weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss that is minimised, the mean loss of the task (no KL term), and the outputs [B, K]."""
        tensors, log_sigma2_V = self._tensors()
        if not self._variational:
            logits = self._forward(tensors, {}, images, draws)
            loss = self.loss(logits, labels)
            return loss, loss, logits
        values_V = torch.cat([tensors[name].reshape(-1) for name in self._noisy])
        log_alpha_V = vd.log_alpha(log_sigma2_V, values_V, self._clamp_V)
        variance_V = torch.exp(log_alpha_V) * values_V * values_V
        variances = dict(zip(self._noisy, variance_V.split(self._noisy_sizes), strict=True))
        logits = self._forward(tensors, variances, images, draws)
        loss = F.cross_entropy(logits, labels)
        return loss + kl_weight * vd.kl_from_log_uniform(log_alpha_V).sum(), loss, logits

    def logits(self, images: Tensor) -> Tensor:
        """Logits [B, K] in eval mode; pruned values of a twin are zero."""
        tensors, _ = self._tensors()
        if self._variational:
            kept = (~vd.pruned(self.log_alpha())).split(self._noisy_sizes)
            for name, kept_values in zip(self._noisy, kept, strict=True):
                # Not a product, because a pruned value that is not finite must become zero too.
                values = tensors[name]
                tensors[name] = torch.where(kept_values.view(values.shape), values, torch.zeros_like(values))
        return self._forward(tensors, {}, images, ())

    def log_alpha(self) -> Tensor:
        """log alpha [V] of a twin."""
        tensors, log_sigma2_V = self._tensors()
        values_V = torch.cat([tensors[name].reshape(-1) for name in self._noisy])
        return vd.log_alpha(log_sigma2_V, values_V, self._clamp_V)

    def draw(
        self, seed: int, ratio: float, epoch: int, first_step: int, sizes: Sequence[int]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Random tensors of consecutive steps, whose batches have ``sizes`` samples (only the last may be smaller)."""
        draw_layer = noise if self._variational else partial(dropout_masks, ratio=ratio)
        return draws(
            list(self._random.values()), draw_layer, Steps(seed, epoch, first_step, tuple(sizes)), self._device
        )

    def _tensors(self) -> tuple[dict[str, Tensor], Tensor]:
        """Views of the parameters by name, and of log sigma^2 [V]. If the model is no twin, ignore the second value."""
        parts = self._values_T.split(self._sizes)
        tensors = {
            name: part.view(shape) if len(shape) > 1 else part
            for (name, shape), part in zip(self._shapes.items(), parts, strict=False)
        }
        return tensors, parts[-1]

    def _forward(
        self, tensors: dict[str, Tensor], variances: dict[str, Tensor], images: Tensor, draws: Draws
    ) -> Tensor:
        values = images
        outputs: list[Tensor] = []
        remaining = iter(draws)
        for index, layer in enumerate(self._architecture.layers):
            match layer:
                case Activation():
                    values = activated(layer, values)
                case MaxPool2d(kernel_size=kernel, stride=stride):
                    values = F.max_pool2d(values, kernel, stride)
                case AvgPool2d(kernel_size=kernel, stride=stride):
                    values = averages(values, kernel, kernel, stride)
                case GlobalAvgPool2d():
                    values = averages(values, values.shape[2], values.shape[3], 1).flatten(1)
                case Add(source=source):
                    values = values + outputs[source]
                case Flatten():
                    values = values.flatten(1)
                case Dropout():
                    if index in self._random and draws:
                        values = values * next(remaining)
                case _:
                    p = self._parametric[index]
                    if variances:
                        values = self._noisy_layer(p, tensors, variances, values, next(remaining))
                    else:
                        values = _affine(p, values, tensors[f"{p.name}.weight"], tensors[f"{p.name}.bias"])
            outputs.append(values)
        return values

    def _noisy_layer(
        self, p: Parametric, tensors: dict[str, Tensor], variances: dict[str, Tensor], values: Tensor, noise: Tensor
    ) -> Tensor:
        """Local reparameterisation: draw each output from the normal distribution with its mean and variance.

        The bias of a convolution has a variance; the bias of a linear layer is added without noise.
        """
        weight, bias = tensors[f"{p.name}.weight"], tensors[f"{p.name}.bias"]
        weight_variance = variances[f"{p.name}.weight"].view(weight.shape)
        if isinstance(p.layer, Conv2d):
            mean = _affine(p, values, weight, bias)
            variance = _affine(p, values * values, weight_variance, variances[f"{p.name}.bias"])
            return mean + torch.sqrt(variance + vd.EPS) * noise
        mean = F.linear(values, weight)
        variance = F.linear(values * values, weight_variance)
        return mean + torch.sqrt(variance + vd.EPS) * noise + bias


def activated(layer: Activation, values: Tensor) -> Tensor:
    result: Tensor = _module(layer)(values)
    return result


@cache
def _module(layer: Activation) -> nn.Module:
    return activation_module(layer.name, layer.omega)


def averages(images: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Means of the windows of images [.., .., H, W]: the sum of a window, row by row, times float32(1 / n)."""
    sums = F.avg_pool2d(images, (height, width), stride, divisor_override=1)
    return sums * float(np.float32(1 / (height * width)))


def _affine(p: Parametric, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if isinstance(p.layer, Conv2d):
        return F.conv2d(values, weight, bias, p.layer.stride, p.layer.padding)
    return F.linear(values, weight, bias)
