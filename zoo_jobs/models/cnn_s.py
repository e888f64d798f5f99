"""CNN-s, the small network of the reference: 2,464 parameters with 1 channel, 2,864 with 3; 28 x 28 images."""

from .layers import Activation, Architecture, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d


def cnn_s(in_channels: int, image_size: int, num_classes: int, activation: str, dropout: bool) -> Architecture:
    """The network has dropout layers only if ``dropout`` is true; they shift the indices of the layers after them."""
    drop: tuple[Layer, ...] = (Dropout(),) if dropout else ()
    act = Activation(activation)
    layers: tuple[Layer, ...] = (
        Conv2d(in_channels, 8, 5), MaxPool2d(), act, *drop,
        Conv2d(8, 6, 5), MaxPool2d(), act, *drop,
        Conv2d(6, 4, 2), act, Flatten(),
        Linear(36, 20), act, *drop,
        Linear(20, num_classes),
    )  # fmt: skip
    return Architecture("cnn-s", in_channels, image_size, layers)
