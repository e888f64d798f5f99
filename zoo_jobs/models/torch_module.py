"""Torch modules of the architectures, with the reference's state-dict keys."""

import pkgutil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import skip_init

from zooforge.storage.views.module import GlobalAverage, LayerListModule, Residual
from zooforge.storage.views.resnet18 import ResNet18Module

from .code_module import code_module
from .code_network import CodeNetwork
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


def activation_module(name: ActivationName, omega: float = 1.0) -> nn.Module:
    """A new module that computes the activation ``name`` of the registry; ``omega`` is the frequency of a sine."""
    kind = pkgutil.resolve_name(ACTIVATIONS[name])
    module: nn.Module = kind(omega) if name in WITH_OMEGA else kind()
    return module


def torch_module(architecture: Network, dropout_ratio: float = 0.0) -> nn.Module:
    """A module whose convolutions and linear layers are zero until a state dict is loaded; draws no random number.

    Of a network that is code this runs the code. Raises InputError where the code cannot be run here.
    """
    module: nn.Module
    if isinstance(architecture, Architecture):
        module = LayerListModule([_module(layer, dropout_ratio) for layer in architecture.layers])
    elif isinstance(architecture, CodeNetwork):
        module = code_module(architecture)
    else:
        module = ResNet18Module(architecture.in_channels, architecture.num_classes)
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
        buffers_B: running statistics, in the order of the network's ``buffer_layout``; with ``counters_C``.
    """
    names = architecture.state_dict_names
    tensors = {
        names[name]: torch.from_numpy(np.array(values))
        for name, values in architecture.layout.unflatten(weights_D).items()
    }
    if architecture.buffer_layout.size or architecture.counter_names:
        if buffers_B is None or counters_C is None:
            raise ValueError("the state dict of this network needs its buffers and counters")
        for name, values in architecture.buffer_layout.unflatten(buffers_B).items():
            tensors[name] = torch.from_numpy(np.array(values))
        for name, value in zip(architecture.counter_names, counters_C, strict=True):
            tensors[name] = torch.tensor(int(value))
    return tensors


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
