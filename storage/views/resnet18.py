"""ResNet-18 as a torch module, with torchvision's names. Imported only when needed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


class ResNet18Module(nn.Module):
    """torchvision's ResNet of basic blocks (2, 2, 2, 2), the stem's convolution 3 x 3 and its pooling left out."""

    def __init__(self, in_channels: int, num_classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        width = widths[0]
        self.conv1 = _conv(in_channels, width, 3, 1)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        channels = width
        for stage, width in enumerate(widths, start=1):
            blocks = []
            for block in range(BLOCKS_PER_STAGE):
                blocks.append(BasicBlock(channels, width, 2 if stage > 1 and block == 0 else 1))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = _uninitialised(nn.Linear, channels, num_classes)

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


def _uninitialised(kind: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A layer built without its default initialisation, which would move torch's global generator."""
    module: nn.Module = skip_init(kind, *args, **kwargs)
    return module
