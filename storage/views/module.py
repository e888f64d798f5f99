"""The torch module of a model, built from the layer list in its zoo's manifest. Imported when one is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..errors import FormatError


class LayerListModule(nn.Module):
    """Layers in sequence. The place of a layer in ``module_list`` is its place in the manifest's list."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W]."""
        for layer in self.module_list:
            images = layer(images)
        return images


def build_module(layers: Sequence[Mapping[str, Any]], activation: str | None, dropout_ratio: float) -> LayerListModule:
    """A module whose parameters are not initialised, so that torch's random generator is left as it is.

    Args:
        layers: as a manifest lists them, each with its ``type``.
        activation: of the layers of type ``activation``, e.g. ``leaky_relu``.
        dropout_ratio: of the layers of type ``dropout``.

    Raises:
        FormatError: a layer or an activation that this version does not know.
    """
    return LayerListModule([_layer(layer, activation, dropout_ratio) for layer in layers])


def _layer(layer: Mapping[str, Any], activation: str | None, dropout_ratio: float) -> nn.Module:
    module: nn.Module
    match layer.get("type"):
        case "conv2d":
            module = skip_init(nn.Conv2d, layer["in_channels"], layer["out_channels"], layer["kernel_size"])
        case "linear":
            module = skip_init(nn.Linear, layer["in_features"], layer["out_features"])
        case "max_pool2d":
            module = nn.MaxPool2d(layer["kernel_size"], layer["kernel_size"])
        case "flatten":
            module = nn.Flatten()
        case "dropout":
            module = nn.Dropout(dropout_ratio)
        case "activation":
            module = _activation(layer.get("name") or activation)
        case other:
            raise FormatError(f"the manifest lists a layer of type {str(other)[:40]!r}, which no module is known for")
    return module


def _activation(name: str | None) -> nn.Module:
    """The module of ``torch.nn`` with this name, whatever its capitals: ``leaky_relu`` is ``LeakyReLU``."""
    classes = {known.lower(): getattr(nn, known) for known in torch.nn.modules.activation.__all__}
    if name is None or name.replace("_", "") not in classes:
        raise FormatError(f"activation {str(name)[:40]!r}: torch.nn has none of that name")
    module: nn.Module = classes[name.replace("_", "")]()
    return module
