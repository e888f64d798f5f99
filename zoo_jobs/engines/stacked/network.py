"""Forward pass and gradients of P models of one layer list, as batched matrix products.

Shape suffixes: P = models (1 where all models see the same images), B = samples, C/O = channels in and out,
H, W = image rows and columns, F = values under a kernel, I = inputs of a linear layer, K = classes, D = parameters,
V = values with a noise variance, T = D + V for twins, D otherwise. Images of a layer are [P, C, B, H, W]. The
channel comes before the sample, so that a convolution is one matrix product per model, [O, F] x [F, B H W], without
transposition.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
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
from ...sparsify import variational_dropout as vd
from ..contract import noisy_layout
from ..random_layers import random_layers
from ..sequential.layer_list_model import activated, averages


class StackedNetwork:
    """Computes logits and losses of P models. Parameters are rows of one matrix; random numbers are arguments."""

    def __init__(self, architecture: Architecture, dropout: bool, variational: bool, device: torch.device) -> None:
        self.architecture, self.variational = architecture, variational
        self._parametric = {p.index: p for p in architecture.parametric}
        self._added = {layer.source for layer in architecture.layers if isinstance(layer, Add)}
        self._entries = architecture.layout.entries
        self._num_parameters = architecture.layout.size
        self._noisy = noisy_layout(architecture).entries if variational else ()
        self._clamp_V = vd.clamps(architecture).to(device)
        self.random_layers = random_layers(architecture, dropout, variational)

    def training_loss(
        self,
        values_PT: Tensor,
        images: Tensor,
        labels_PB: Tensor,
        draws: Sequence[Tensor],
        kl_weight: Tensor,
        counted_PB: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The minimised loss (summed over the models), the mean cross-entropy per model [P], the logits [P, B, K].

        Args:
            images: [P, C, B, H, W].
            draws: for each random layer, in order, [P, B, *shape]: scaled masks, or the noise of twins.
            counted_PB: which samples of a model count; None: all. The mean is over those that do, 0 if none does.
        """
        tensors = self.tensors(values_PT)
        variances: dict[str, Tensor] = {}
        penalty: Tensor | None = None
        if self.variational:
            values_PV = torch.cat([tensors[entry.name].flatten(1) for entry in self._noisy], dim=1)
            log_alpha_PV = vd.log_alpha(values_PT[:, self._num_parameters :], values_PV, self._clamp_V)
            variance_PV = torch.exp(log_alpha_PV) * values_PV * values_PV
            parts = torch.split(variance_PV, [entry.size for entry in self._noisy], dim=1)
            variances = {entry.name: part for entry, part in zip(self._noisy, parts, strict=True)}
            penalty = kl_weight * vd.kl_from_log_uniform(log_alpha_PV).sum()
        logits = self._forward(tensors, variances, images, draws)
        loss_PB = cross_entropy(logits, labels_PB)
        if counted_PB is None:
            loss_P = loss_PB.mean(dim=1)
        else:
            loss_P = torch.where(counted_PB, loss_PB, 0.0).sum(dim=1) / counted_PB.sum(dim=1).clamp(min=1)
        total = loss_P.sum() if penalty is None else loss_P.sum() + penalty
        return total, loss_P, logits

    def logits(self, values_PD: Tensor, images: Tensor) -> Tensor:
        """Logits [P, B, K] in eval mode, for images [1, C, B, H, W] that all models share."""
        return self._forward(self.tensors(values_PD), {}, images, ())

    def tensors(self, values_PT: Tensor) -> dict[str, Tensor]:
        """Parameters by name, [P, *shape]: views."""
        sizes = [entry.size for entry in self._entries]
        parts = torch.split(values_PT[:, : self._num_parameters], sizes, dim=1)
        return {e.name: part.view(-1, *e.shape) for e, part in zip(self._entries, parts, strict=True)}

    def log_alpha(self, values_PT: Tensor) -> Tensor:
        """log alpha [P, V] of twins."""
        tensors = self.tensors(values_PT)
        values_PV = torch.cat([tensors[entry.name].flatten(1) for entry in self._noisy], dim=1)
        return vd.log_alpha(values_PT[:, self._num_parameters :], values_PV, self._clamp_V)

    def masked(self, values_PT: Tensor) -> Tensor:
        """Parameters [P, D] for an evaluation. Pruned values of twins are zero, even if they were not finite."""
        values_PD = values_PT[:, : self._num_parameters].clone()
        if self.variational:
            pruned_PV = vd.pruned(self.log_alpha(values_PT))
            offset = 0
            by_name = {entry.name: entry for entry in self._entries}
            for noisy in self._noisy:
                entry = by_name[noisy.name]
                values_PD[:, entry.offset : entry.stop].masked_fill_(pruned_PV[:, offset : offset + noisy.size], 0.0)
                offset += noisy.size
        return values_PD

    def _forward(
        self, tensors: dict[str, Tensor], variances: dict[str, Tensor], images: Tensor, draws: Sequence[Tensor]
    ) -> Tensor:
        values = images
        drawn = dict(zip(self.random_layers, draws, strict=False))
        added: dict[int, Tensor] = {}
        for index, layer in enumerate(self.architecture.layers):
            match layer:
                case Activation():
                    values = activated(layer, values)
                case MaxPool2d(kernel_size=kernel, stride=stride):
                    values = _pooled(values, F.max_pool2d(values.flatten(0, 1), kernel, stride))
                case AvgPool2d(kernel_size=kernel, stride=stride):
                    values = _pooled(values, averages(values.flatten(0, 1), kernel, kernel, stride))
                case GlobalAvgPool2d():
                    means = averages(values.flatten(0, 1), values.shape[3], values.shape[4], 1)
                    values = _pooled(values, means).transpose(1, 2).flatten(2)
                case Add(source=source):
                    values = values + added[source]
                case Flatten():
                    values = values if values.dim() == 3 else values.transpose(1, 2).flatten(2)
                case Dropout():
                    if index in drawn:
                        values = values * _channels_first(drawn[index])
                case _:
                    p = self._parametric[index]
                    if variances:
                        values = _noisy_layer(p, tensors, variances, values, drawn[index])
                    else:
                        weight, bias = tensors[f"{p.name}.weight"], tensors[f"{p.name}.bias"]
                        values = _apply(p, values, weight.flatten(2), bias)
            if index in self._added:
                added[index] = values
        return values


def cross_entropy(logits: Tensor, labels_PB: Tensor) -> Tensor:
    """Cross-entropy per sample, shape [P, B]."""
    log_probabilities = torch.log_softmax(logits, dim=2)
    return -log_probabilities.gather(2, labels_PB[:, :, None]).squeeze(2)


def patches(images: Tensor, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Copy the inputs under the kernel at each output position: [P, C, B, H, W] to [P, F, B H' W'], F = C kernel^2."""
    if padding:
        images = F.pad(images, (padding,) * 4)
    windows = images.unfold(3, kernel, stride).unfold(4, kernel, stride).permute(0, 1, 5, 6, 2, 3, 4)
    num_models, channels, _, _, *places = windows.shape
    return windows.reshape(num_models, channels * kernel * kernel, places[0] * places[1] * places[2])


def from_patches(grads: Tensor, shape: Sequence[int], kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
    """The transpose of ``patches``: adds up the patches and returns images of ``shape``.

    On a GPU this takes two kernels of torch. On a CPU it adds slices, which is twice as fast there.
    """
    num_models, channels, batch, height, width = shape
    padded = (num_models, channels, batch, height + 2 * padding, width + 2 * padding)
    rows, columns = ((size - kernel) // stride + 1 for size in padded[3:])
    windows = grads.view(num_models, channels, kernel, kernel, batch, rows, columns)
    if on_gpu(grads):
        images = summed_by_kernels(windows, padded, kernel, stride)
    else:
        images = grads.new_zeros(padded)
        for i in range(kernel):
            for j in range(kernel):
                images[..., i : i + rows * stride : stride, j : j + columns * stride : stride] += windows[:, :, i, j]
    return images[..., padding : padding + height, padding : padding + width] if padding else images


def on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def summed_by_kernels(windows: Tensor, shape: Sequence[int], kernel: int, stride: int = 1) -> Tensor:
    """``from_patches`` without padding, computed axis by axis as the gradient of ``Tensor.unfold``.

    The axis of the kernel's rows stays before the axis of samples, as in memory, so that neighbouring threads of a GPU
    read neighbouring addresses. The sums and their order are the same.
    """
    num_models, channels, batch, height, width = shape
    rows = (height - kernel) // stride + 1
    by_row = [num_models, channels, kernel, batch, rows, width]
    grads = torch.ops.aten.unfold_backward(windows.permute(0, 1, 2, 4, 5, 6, 3), by_row, 5, kernel, stride)
    grads = grads.permute(0, 1, 3, 4, 5, 2)
    images: Tensor = torch.ops.aten.unfold_backward(grads, list(shape), 3, kernel, stride)
    return images


class _Convolution(torch.autograd.Function):
    """Convolution of P models. It keeps the patches for the gradient of the weights, so it computes them only once."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight_POF: Tensor, bias_PO: Tensor, layer: Conv2d) -> Tensor:
        patches_PFN = patches(images, layer.kernel_size, layer.stride, layer.padding)
        ctx.save_for_backward(patches_PFN, weight_POF)
        ctx.shape, ctx.layer = images.shape, layer
        out_PON = torch.baddbmm(bias_PO[:, :, None], weight_POF, patches_PFN)
        return _as_images(out_PON, images.shape, layer)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        patches_PFN, weight_POF = ctx.saved_tensors
        grad_PON = grads[0].flatten(2)
        grad_weight = torch.bmm(grad_PON, patches_PFN.transpose(1, 2))
        grad_bias = grad_PON.sum(dim=2)
        grad_images = None
        if ctx.needs_input_grad[0]:
            grad_PFN, layer = torch.bmm(weight_POF.transpose(1, 2), grad_PON), ctx.layer
            grad_images = from_patches(grad_PFN, ctx.shape, layer.kernel_size, layer.stride, layer.padding)
        return grad_images, grad_weight, grad_bias, None


def _apply(p: Parametric, values: Tensor, weight_POF: Tensor, bias_PO: Tensor) -> Tensor:
    """The affine map of a layer. Patches of images that all models share, [1, ...], are computed only once."""
    shared = len(values) == 1 < len(weight_POF)
    layer = p.layer
    if isinstance(layer, Conv2d):
        if not shared:
            out: Tensor = _Convolution.apply(values, weight_POF, bias_PO, layer)  # type: ignore[no-untyped-call]
            return out
        product = weight_POF.flatten(0, 1) @ patches(values, layer.kernel_size, layer.stride, layer.padding)[0]
        product += bias_PO.flatten()[:, None]
        return _as_images(product.view(*weight_POF.shape[:2], -1), values.shape, layer)
    inputs = values.expand(len(weight_POF), -1, -1) if shared else values
    return torch.baddbmm(bias_PO[:, None, :], inputs, weight_POF.transpose(1, 2))


def _pooled(images: Tensor, pooled: Tensor) -> Tensor:
    """Reshape pooled images [P C, B, H', W'] to [P, C, B, H', W'], with P, C and B of ``images``."""
    return pooled.view(*images.shape[:2], *pooled.shape[1:])


def _noisy_layer(
    p: Parametric, tensors: dict[str, Tensor], variances: dict[str, Tensor], values: Tensor, noise: Tensor
) -> Tensor:
    """Local reparameterisation: draw each output from the normal distribution with its mean and variance.

    The bias of a convolution has a variance; the bias of a linear layer is added without noise.
    """
    weight, bias = tensors[f"{p.name}.weight"].flatten(2), tensors[f"{p.name}.bias"]
    weight_variance = variances[f"{p.name}.weight"].view(weight.shape)
    if isinstance(p.layer, Conv2d):
        mean = _apply(p, values, weight, bias)
        variance = _apply(p, values * values, weight_variance, variances[f"{p.name}.bias"])
        return mean + torch.sqrt(variance + vd.EPS) * _channels_first(noise)
    mean = torch.bmm(values, weight.transpose(1, 2))
    variance = torch.bmm(values * values, weight_variance.transpose(1, 2))
    return mean + torch.sqrt(variance + vd.EPS) * noise + bias[:, None, :]


def _as_images(out_PON: Tensor, shape: Sequence[int], layer: Conv2d) -> Tensor:
    rows, columns = ((size + 2 * layer.padding - layer.kernel_size) // layer.stride + 1 for size in shape[3:])
    return out_PON.view(*out_PON.shape[:2], shape[2], rows, columns)


def _channels_first(drawn: Tensor) -> Tensor:
    """Transpose [P, B, C, H, W] to [P, C, B, H, W]. Tensors without image axes are returned unchanged."""
    return drawn.transpose(1, 2) if drawn.dim() == 5 else drawn
