"""Registry of architectures and initializers: everything that other modules need to know, without torch. Pure."""

from dataclasses import dataclass
from typing import Protocol

from ..errors import InputError, unknown
from .cnn2 import cnn2
from .cnn_l import cnn_l
from .cnn_s import cnn_s
from .code_network import CodeNetwork
from .layers import ACTIVATIONS, Architecture
from .resnet18 import ResNet18, resnet18

Network = Architecture | ResNet18 | CodeNetwork


class Builder(Protocol):
    """Builds the network for images [in_channels, image_size, image_size].

    ``dropout`` says whether a model's dropout ratio is positive; it may decide where dropout layers are, never the
    parameters.
    """

    def __call__(
        self, in_channels: int, image_size: int, num_classes: int, activation: str, dropout: bool
    ) -> Network: ...


@dataclass(frozen=True, slots=True)
class ArchitectureRow:
    """One architecture.

    Attributes:
        description: one phrase for people.
        build: makes the network.
        image_sizes: sides of the square images that it takes, the usual one first.
        unit_models: models of a work unit. A change alters the units of runs to come; existing runs pin it.
        shard_shape: (models, epochs) of a published shard; None: as many models as fit into 64 MiB.
        least_outputs: outputs of the network for a data set of fewer classes; else it has one for each class.
        fixed_activation: the activation of a network that is no layer list, such as a ResNet. A grid cannot change it,
            such a network has no dropout, and its models have no sparse twins. None: a layer list, which has all three.
    """

    description: str
    build: Builder
    image_sizes: tuple[int, ...]
    unit_models: int
    shard_shape: tuple[int, int] | None = None
    least_outputs: int = 10
    fixed_activation: str | None = None


ARCHITECTURES: dict[str, ArchitectureRow] = {
    "cnn-s": ArchitectureRow("small CNN of the reference", cnn_s, (28,), unit_models=256, shard_shape=(128, 64)),
    "cnn2": ArchitectureRow(
        "CNN2 of the reference, used by no published zoo", cnn2, (28,), unit_models=256, shard_shape=(128, 64)
    ),
    "cnn-l": ArchitectureRow("large CNN of the reference", cnn_l, (32,), unit_models=128, shard_shape=(32, 64)),
    "resnet18": ArchitectureRow(
        "ResNet-18 with a 3 x 3 stem",
        resnet18,
        (32, 64),
        unit_models=1,
        shard_shape=(1, 1),
        least_outputs=1,
        fixed_activation="relu",
    ),
}

INITIALIZERS: dict[str, str] = {
    "uniform": "torch.nn.init:uniform_",
    "normal": "torch.nn.init:normal_",
    "kaiming_uniform": "torch.nn.init:kaiming_uniform_",
    "kaiming_normal": "torch.nn.init:kaiming_normal_",
    "xavier_uniform": "torch.nn.init:xavier_uniform_",
    "xavier_normal": "torch.nn.init:xavier_normal_",
    "truncated_normal": "torch.nn.init:trunc_normal_",
    "orthogonal": "zooforge.zoo_jobs.models.orthogonal:orthogonal_",
    "siren": "zooforge.zoo_jobs.models.siren:siren_",
}
"""Registry of initializers: each name with the function that fills a weight tensor in place, as
``package.module:function``. It is called as ``function(weight, generator=generator)`` and draws from nothing else."""
OF_NETWORKS = ("siren",)
"""The initializers that fill in a whole layer list, ``function(architecture, tensors, generator, scale)``. They leave
the biases as torch's layers draw them."""


__all__ = [
    "ARCHITECTURES", "INITIALIZERS", "Architecture", "ArchitectureRow", "CodeNetwork", "Network", "ResNet18",
    "architecture",
]  # fmt: skip


def architecture(
    name: str,
    in_channels: int,
    activation: str,
    dropout: bool,
    *,
    num_classes: int = 10,
    image_size: int | None = None,
) -> Network:
    """Build the network called ``name``.

    Args:
        dropout: whether the ratio is positive; decides where a CNN has dropout layers, not its parameters.
        image_size: side of the images; None: the architecture's usual one.

    Raises:
        InputError: unknown name or activation, or images that the network is not made for.
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    row = ARCHITECTURES[name]
    size = row.image_sizes[0] if image_size is None else image_size
    if row.fixed_activation is None and size not in row.image_sizes:  # a ResNet computes any size
        sizes = " or ".join(f"{side} x {side}" for side in row.image_sizes)
        raise InputError(f"{name} takes {sizes} images, found {size}")
    return row.build(
        in_channels=in_channels, image_size=size, num_classes=num_classes, activation=activation, dropout=dropout
    )
