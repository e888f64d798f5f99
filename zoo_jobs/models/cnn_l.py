"""CNN-l, the large CNN of the reference (called CNN3 there), for 32 x 32 images: 10,853 parameters with 3 channels."""

from .layers import Activation, Architecture, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d


def cnn_l(in_channels: int, image_size: int, num_classes: int, activation: str, dropout: bool) -> Architecture:
    """The network always has its dropout layers, with ratio 0 if ``dropout`` is false, so layer indices never shift."""
    del dropout
    act, drop = Activation(activation), Dropout()
    layers: tuple[Layer, ...] = (
        Conv2d(in_channels, 16, 3), MaxPool2d(), act, drop,
        Conv2d(16, 32, 3), MaxPool2d(), act, drop,
        Conv2d(32, 15, 3), MaxPool2d(), act, drop, Flatten(),
        Linear(60, 20), act, drop,
        Linear(20, num_classes),
    )  # fmt: skip
    return Architecture("cnn-l", in_channels, image_size, layers)
