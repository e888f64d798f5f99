"""ResNet-18 of the reference: torchvision's, its stem a 3 x 3 convolution without pooling. Pure.

11,173,962 parameters with 10 classes, 122 state-dict entries under torchvision's names.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from zooforge.storage.formats.layout import Layout

WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


@dataclass(frozen=True, slots=True)
class ConvUnit:
    """A convolution without bias, then batch normalisation. ``size`` is the side of its square output."""

    conv: str
    norm: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    size: int


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18. It is no layer list: ``layers`` is None, and engines that need a list refuse it.

    Activation and dropout ratio of a model row have no effect on it, as in the reference.
    """

    in_channels: int
    image_size: int
    num_classes: int

    name = "resnet18"
    layers = None

    @cached_property
    def units(self) -> tuple[ConvUnit, ...]:
        """Convolutions with their normalisations, in the order of the state dict (a shortcut follows its block)."""
        return tuple(self._units())

    def _units(self) -> Iterator[ConvUnit]:
        size, channels = self.image_size, WIDTHS[0]
        yield ConvUnit("conv1", "bn1", self.in_channels, channels, 3, 1, size)
        for stage, width in enumerate(WIDTHS, start=1):
            for block in range(BLOCKS_PER_STAGE):
                prefix = f"layer{stage}.{block}"
                stride = 2 if stage > 1 and block == 0 else 1
                size = -(-size // stride)
                yield ConvUnit(f"{prefix}.conv1", f"{prefix}.bn1", channels, width, 3, stride, size)
                yield ConvUnit(f"{prefix}.conv2", f"{prefix}.bn2", width, width, 3, 1, size)
                if stride > 1:
                    shortcut = f"{prefix}.downsample"
                    yield ConvUnit(f"{shortcut}.0", f"{shortcut}.1", channels, width, 1, stride, size)
                channels = width

    @cached_property
    def layout(self) -> Layout:
        """Parameters in state-dict order."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for u in self.units:
            shapes += [
                (f"{u.conv}.weight", (u.out_channels, u.in_channels, u.kernel_size, u.kernel_size)),
                (f"{u.norm}.weight", (u.out_channels,)),
                (f"{u.norm}.bias", (u.out_channels,)),
            ]
        shapes += [("fc.weight", (self.num_classes, WIDTHS[-1])), ("fc.bias", (self.num_classes,))]
        return Layout.of(shapes)

    @cached_property
    def buffer_layout(self) -> Layout:
        """Running mean and variance of each normalisation, float32."""
        return Layout.of(
            [(f"{u.norm}.running_{what}", (u.out_channels,)) for u in self.units for what in ("mean", "var")]
        )

    @property
    def counter_names(self) -> tuple[str, ...]:
        """int64 scalars of the state dict."""
        return tuple(f"{u.norm}.num_batches_tracked" for u in self.units)

    @property
    def state_dict_names(self) -> dict[str, str]:
        """Layout names equal those of the state dict."""
        return {entry.name: entry.name for entry in self.layout.entries}

    @property
    def num_macs(self) -> int:
        """Multiply-adds of convolutions and the linear layer in the forward pass of one sample."""
        return sum(_macs(u) for u in self.units) + WIDTHS[-1] * self.num_classes

    @property
    def num_train_macs(self) -> int:
        """Multiply-adds of forward, weight gradient and data gradient, the stem's data gradient not computed."""
        return 3 * self.num_macs - _macs(self.units[0])


def resnet18(in_channels: int, image_size: int, num_classes: int, activation: str, dropout: bool) -> ResNet18:
    """ResNet-18 for images [in_channels, image_size, image_size]; it has ReLU and no dropout, whatever is asked."""
    del activation, dropout
    return ResNet18(in_channels, image_size, num_classes)


def _macs(unit: ConvUnit) -> int:
    return unit.in_channels * unit.out_channels * math.prod((unit.kernel_size, unit.kernel_size, unit.size, unit.size))
