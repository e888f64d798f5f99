"""Registry of architectures: names, descriptions and unit sizes, without torch."""

from collections.abc import Callable

from ..errors import InputError, unknown
from .cnn2 import cnn2
from .cnn_l import cnn_l
from .cnn_s import cnn_s
from .layers import ACTIVATIONS, ActivationName, Architecture
from .resnet18 import ResNet18

Network = Architecture | ResNet18

INITIALIZERS = ("uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal")

_LAYER_LISTS: dict[str, Callable[[int, ActivationName, bool], Architecture]] = {
    "cnn-s": cnn_s,
    "cnn2": cnn2,
    "cnn-l": cnn_l,
}

ARCHITECTURES = (*_LAYER_LISTS, "resnet18")

UNIT_MODELS = {"cnn-s": 256, "cnn2": 256, "cnn-l": 128, "resnet18": 1}
"""Models of a work unit. Changing one changes the units of existing runs: they pin it."""


def architecture(
    name: str,
    in_channels: int,
    activation: ActivationName,
    dropout: bool,
    *,
    num_classes: int = 10,
    image_size: int | None = None,
) -> Network:
    """The network called ``name``.

    Args:
        dropout: whether the ratio is positive; decides where a CNN has dropout layers, not its parameters.
        image_size: side of the images; None: what a CNN is made for, 32 for ``resnet18``.

    Raises:
        InputError: unknown name or activation, or a CNN with images or classes that it is not made for.
    """
    if name == "resnet18":
        return ResNet18(in_channels, image_size or 32, num_classes)
    if name not in _LAYER_LISTS:
        raise unknown("architecture", name, ARCHITECTURES)
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    network = _LAYER_LISTS[name](in_channels, activation, dropout)
    if image_size not in (None, network.image_size):
        raise InputError(f"{name} takes {network.image_size} x {network.image_size} images, found {image_size}")
    if num_classes != network.num_classes:
        raise InputError(f"{name} has {network.num_classes} outputs, the dataset has {num_classes} classes")
    return network


__all__ = ["ARCHITECTURES", "INITIALIZERS", "UNIT_MODELS", "Architecture", "Network", "ResNet18", "architecture"]
