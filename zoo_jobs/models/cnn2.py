"""CNN2 of the reference, for 28 x 28 images: 3,047 parameters with 1 channel, 3,347 with 3. Unpublished."""

from .layers import Activation, Architecture, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d


def cnn2(in_channels: int, image_size: int, num_classes: int, activation: str, dropout: bool) -> Architecture:
    """The network has dropout layers only if ``dropout`` is true, as CNN-s does."""
    drop: tuple[Layer, ...] = (Dropout(),) if dropout else ()
    act = Activation(activation)
    layers: tuple[Layer, ...] = (
        Conv2d(in_channels, 6, 5), MaxPool2d(), act, *drop,
        Conv2d(6, 9, 5), MaxPool2d(), act, *drop,
        Conv2d(9, 6, 2), act, Flatten(),
        Linear(54, 20), act, *drop,
        Linear(20, num_classes),
    )  # fmt: skip
    return Architecture("cnn2", in_channels, image_size, layers)
