"""Torch modules of the architectures, with the reference's state-dict keys."""

import pkgutil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import skip_init

from .layers import (
    ACTIVATIONS,
    WITH_OMEGA,
    Activation,
    ActivationName,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
)
from .registry import Network
from .resnet18 import BLOCKS_PER_STAGE, WIDTHS, ResNet18


def activation_module(name: ActivationName, omega: float = 1.0) -> nn.Module:
    """A new module that computes the activation ``name`` of the registry; ``omega`` is the frequency of a sine."""
    kind = pkgutil.resolve_name(ACTIVATIONS[name])
    module: nn.Module = kind(omega) if name in WITH_OMEGA else kind()
    return module


def torch_module(architecture: Network, dropout_ratio: float = 0.0) -> nn.Module:
    """A module whose parameters are zero until a state dict is loaded; draws no random number."""
    module: nn.Module
    if isinstance(architecture, Architecture):
        module = LayerList(architecture, dropout_ratio)
    else:
        module = ResNet18Module(architecture)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                for parameter in layer.parameters():
                    parameter.zero_()
    return module


def state_dict(
    architecture: Network,
    weights_D: NDArray[np.float32],
    buffers_B: NDArray[np.float32] | None = None,
    counters_C: NDArray[np.int64] | None = None,
) -> dict[str, Tensor]:
    """Tensors that ``torch_module(architecture)`` loads with ``strict=True``. They own their memory.

    Args:
        buffers_B: running statistics of a ResNet, in the order of its ``buffer_layout``; with ``counters_C``.
    """
    names = architecture.state_dict_names
    tensors = {
        names[name]: torch.from_numpy(np.array(values))
        for name, values in architecture.layout.unflatten(weights_D).items()
    }
    if isinstance(architecture, ResNet18):
        if buffers_B is None or counters_C is None:
            raise ValueError("a ResNet's state dict needs its buffers and counters")
        for name, values in architecture.buffer_layout.unflatten(buffers_B).items():
            tensors[name] = torch.from_numpy(np.array(values))
        for name, value in zip(architecture.counter_names, counters_C, strict=True):
            tensors[name] = torch.tensor(int(value))
    return tensors


class LayerList(nn.Module):
    """The layers of an architecture in sequence; a layer's index in ``module_list`` is its index in the list."""

    def __init__(self, architecture: Architecture, dropout_ratio: float) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(_module(layer, dropout_ratio) for layer in architecture.layers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W]."""
        values = images
        outputs: list[Tensor] = []
        for layer in self.module_list:
            values = values + outputs[layer.source] if isinstance(layer, Residual) else layer(values)
            outputs.append(values)
        return values


class Residual(nn.Module):
    """Stands for an ``Add`` in a ``module_list``; the network adds the output of module ``source``."""

    def __init__(self, source: int) -> None:
        super().__init__()
        self.source = source


class GlobalAverage(nn.Module):
    """Means of the channels, [B, C, H, W] to [B, C]."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def _module(layer: Layer, dropout_ratio: float) -> nn.Module:
    match layer:
        case Conv2d(in_channels=i, out_channels=o, kernel_size=k, stride=stride, padding=padding):
            return _uninitialised(nn.Conv2d, i, o, k, stride=stride, padding=padding)
        case Linear(in_features=i, out_features=o):
            return _uninitialised(nn.Linear, i, o)
        case MaxPool2d(kernel_size=k, stride=stride):
            return nn.MaxPool2d(k, stride)
        case AvgPool2d(kernel_size=k, stride=stride):
            return nn.AvgPool2d(k, stride)
        case GlobalAvgPool2d():
            return GlobalAverage()
        case Dropout():
            return nn.Dropout(dropout_ratio)
        case Flatten():
            return nn.Flatten()
        case Activation(name=name, omega=omega):
            return activation_module(name, omega)
        case Add(source=source):
            return Residual(source)


def _uninitialised(kind: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A layer built without its default initialisation, which would move torch's global generator."""
    module: nn.Module = skip_init(kind, *args, **kwargs)
    return module


class ResNet18Module(nn.Module):
    """torchvision's ResNet of basic blocks (2, 2, 2, 2), the stem's convolution 3 x 3 and its pooling left out."""

    def __init__(self, architecture: ResNet18) -> None:
        super().__init__()
        width = WIDTHS[0]
        self.conv1 = _conv(architecture.in_channels, width, 3, 1)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        channels = width
        for stage, width in enumerate(WIDTHS, start=1):
            blocks = []
            for block in range(BLOCKS_PER_STAGE):
                blocks.append(BasicBlock(channels, width, 2 if stage > 1 and block == 0 else 1))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = _uninitialised(nn.Linear, channels, architecture.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W]."""
        values = torch.relu(self.bn1(self.conv1(images)))
        values = self.layer4(self.layer3(self.layer2(self.layer1(values))))
        logits: Tensor = self.fc(values.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions in parallel to a shortcut, which is a 1 x 1 convolution where the shape changes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385; names and order as in torchvision.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv(out_channels, out_channels, 3, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride > 1:
            self.downsample = nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))

    def forward(self, images: Tensor) -> Tensor:
        shortcut = images if self.downsample is None else self.downsample(images)
        values = torch.relu(self.bn1(self.conv1(images)))
        return torch.relu(self.bn2(self.conv2(values)) + shortcut)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Module:
    return _uninitialised(
        nn.Conv2d, in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
    )
