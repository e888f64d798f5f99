"""The torch module of a model, built from the layer list in its zoo's manifest. Imported only when needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..errors import FormatError, StorageUsageError
from ..formats.manifest import Manifest
from ..keys import code_key
from .resnet18 import ResNet18Module


class LayerListModule(nn.Module):
    """Layers in sequence. The place of a layer in ``module_list`` is its place in the manifest's list."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W]."""
        outputs: list[Tensor] = []
        for layer in self.module_list:
            images = images + outputs[layer.source] if isinstance(layer, Residual) else layer(images)
            outputs.append(images)
        return images


class Residual(nn.Module):
    """Stands for a residual sum in a ``module_list``; the network adds the output of module ``source``."""

    def __init__(self, source: int) -> None:
        super().__init__()
        self.source = source


class GlobalAverage(nn.Module):
    """Means of the channels, [B, C, H, W] to [B, C]."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Sine(nn.Module):
    """sin(omega x), of which torch has no module. Source: Sitzmann et al. (2020), arXiv:2006.09661."""

    def __init__(self, omega: float = 1.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, values: Tensor) -> Tensor:
        return torch.sin(values if self.omega == 1.0 else values * self.omega)

    def extra_repr(self) -> str:
        return f"omega={self.omega}"


def network(manifest: Manifest, activation: str | None, dropout_ratio: float) -> nn.Module:
    """The network of a zoo's models with this activation and ratio; its parameters are not initialised.

    Raises:
        StorageUsageError: the manifest lists no layers, and its architecture is not ``resnet18``.
        FormatError: a layer or an activation that this version does not know.
    """
    layers = manifest.layers.get("dropout" if dropout_ratio else "plain") or manifest.layers.get("plain")
    if layers:
        return build_module(layers, activation, dropout_ratio)
    name = manifest.architecture["name"]
    if name.startswith("code-"):
        raise StorageUsageError(
            f"zoo {manifest.zoo!r}: its networks ({name}) are code, which readers never run; the text is in "
            f"{code_key(manifest.run)} of the store where they were grown, and the card names the class: load "
            "zoo.state_dict(model, epoch, torch=True) into an instance of it"
        )
    if name == "resnet18":
        widths = [manifest.layout[f"layer{stage}.0.conv1.weight"].shape[0] for stage in range(1, 5)]
        return ResNet18Module(manifest.architecture["in_channels"], manifest.architecture["num_classes"], widths)
    raise StorageUsageError(
        f"zoo {manifest.zoo!r}: its manifest lists no layers of {name}, so no module can be built; "
        "load zoo.state_dict(model, epoch, torch=True) into one of your own"
    )


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
            sizes = layer["in_channels"], layer["out_channels"], layer["kernel_size"]
            module = skip_init(nn.Conv2d, *sizes, stride=layer.get("stride", 1), padding=layer.get("padding", 0))
        case "linear":
            module = skip_init(nn.Linear, layer["in_features"], layer["out_features"])
        case "max_pool2d":
            module = nn.MaxPool2d(layer["kernel_size"], layer.get("stride", layer["kernel_size"]))
        case "avg_pool2d":
            module = nn.AvgPool2d(layer["kernel_size"], layer["stride"])
        case "global_avg_pool2d":
            module = GlobalAverage()
        case "add":
            module = Residual(layer["source"])
        case "flatten":
            module = nn.Flatten()
        case "dropout":
            module = nn.Dropout(dropout_ratio)
        case "activation":
            module = _activation(layer.get("name") or activation, layer.get("omega", 1.0))
        case other:
            raise FormatError(f"the manifest lists a layer of type {str(other)[:40]!r}, which no module is known for")
    return module


def _activation(name: str | None, omega: float) -> nn.Module:
    """The module of ``torch.nn`` with this name, whatever its capitals: ``leaky_relu`` is ``LeakyReLU``; and the sine,
    which torch has not."""
    if name == "sine":
        return Sine(omega)
    if name == "identity":
        return nn.Identity()
    classes = {known.lower(): getattr(nn, known) for known in torch.nn.modules.activation.__all__}
    if name is None or name.replace("_", "") not in classes:
        raise FormatError(f"activation {str(name)[:40]!r}: torch.nn has none of that name")
    module: nn.Module = classes[name.replace("_", "")]()
    return module
