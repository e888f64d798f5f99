"""Architectures as layer lists, from which torch module, layout, FLOP count and kernels follow. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zooforge.storage.formats.layout import Layout

ActivationName = str  # a key of ACTIVATIONS
ACTIVATIONS: dict[ActivationName, str] = {
    "leaky_relu": "torch.nn:LeakyReLU",
    "relu": "torch.nn:ReLU",
    "tanh": "torch.nn:Tanh",
    "sigmoid": "torch.nn:Sigmoid",
    "silu": "torch.nn:SiLU",
    "gelu": "torch.nn:GELU",
    "sine": "zooforge.storage.views.module:Sine",
    "identity": "torch.nn:Identity",
}
"""Registry of activations: each name with the torch module class that computes it, as ``package.module:Class``.

The class is imported only where a network is computed. The ``lanes`` engine has kernels of its own and refuses an
activation that it has no kernel for.
"""
WITH_OMEGA = ("sine",)
"""The activations whose class takes a frequency, as its only argument."""


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Square convolution with bias. ``padding`` zeros surround the image; sizes are rounded down."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True, slots=True)
class MaxPool2d:
    """Square max-pool without padding; rows and columns that fill no window are dropped."""

    kernel_size: int = 2
    stride: int = 2


@dataclass(frozen=True, slots=True)
class AvgPool2d:
    """Mean of square windows without padding; rows and columns that fill no window are dropped."""

    kernel_size: int
    stride: int


@dataclass(frozen=True, slots=True)
class GlobalAvgPool2d:
    """[C, H, W] to [C], the mean of each channel."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of single values. ``omega`` is the frequency of ``sine``, sin(omega x); ValueError for another's."""

    name: ActivationName
    omega: float = 1.0

    def __post_init__(self) -> None:
        if self.omega != 1.0 and self.name not in WITH_OMEGA:
            raise ValueError(f"activation {self.name} has no omega, found {self.omega}")


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout of single values; the ratio is a hyperparameter of the model and may be 0."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """[C, H, W] to [C * H * W], row-major."""


@dataclass(frozen=True, slots=True)
class Linear:
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of the layer's input and the output of the layer at index ``source``, which has the same shape."""

    source: int


Layer = (
    Conv2d | MaxPool2d | AvgPool2d | GlobalAvgPool2d | Activation | Dropout | Flatten | Linear | Add
)  # a new layer: its shape here, its torch module, its record in a manifest, and the engines' arithmetic


@dataclass(frozen=True, slots=True)
class Parametric:
    """A layer with parameters: its name in layouts, its index in the layer list (and so in ``module_list``)."""

    name: str
    index: int
    layer: Conv2d | Linear

    @property
    def noisy(self) -> tuple[str, ...]:
        """Layout names of the tensors that have a noise variance under variational dropout, in layout order.

        A linear layer's bias has none in the reference (``log_sigma2_bias`` exists there, unused).
        """
        parts = ("weight", "bias") if isinstance(self.layer, Conv2d) else ("weight",)
        return tuple(f"{self.name}.{part}" for part in parts)


@dataclass(frozen=True)
class Architecture:
    """A network as a list of layers over [in_channels, image_size, image_size] images, or over vectors [in_channels].

    Position in ``layers`` is the index in the reference's ``module_list``. Dropout layers shift these indices; names
    (``conv1``, ``linear2``), shapes and order of the parameters do not depend on them.
    """

    name: str
    in_channels: int
    image_size: int
    layers: tuple[Layer, ...]
    vector_input: bool = False  # the input is a vector [in_channels], and image_size is 1

    def __post_init__(self) -> None:
        shapes = self.shapes
        if len(shapes[-1]) != 1:
            raise ValueError(f"{self.name}: the last layer gives {list(shapes[-1])}, not one value per class")
        if not self.parametric:
            raise ValueError(f"{self.name}: no layer has parameters")

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Input shape, then the output shape of each layer, without the batch axis. ValueError if layers do not fit."""
        images = (self.in_channels, self.image_size, self.image_size)
        shapes: list[tuple[int, ...]] = [(self.in_channels,) if self.vector_input else images]
        for index, layer in enumerate(self.layers):
            try:
                shapes.append(output_shape(layer, shapes))
            except ValueError as error:
                raise ValueError(f"{self.name} layer {index}: {error}") from None
        return tuple(shapes)

    @property
    def num_classes(self) -> int:
        """Outputs of the last layer: one per class, or one per channel of an image that is learned."""
        return self.shapes[-1][0]

    @property
    def parametric(self) -> tuple[Parametric, ...]:
        """The layers with parameters, in order, named by kind and number: ``conv1``, ``conv2``, ``linear1``."""
        counts = {"conv": 0, "linear": 0}
        layers = []
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Conv2d | Linear):
                kind = "conv" if isinstance(layer, Conv2d) else "linear"
                counts[kind] += 1
                layers.append(Parametric(f"{kind}{counts[kind]}", index, layer))
        return tuple(layers)

    @property
    def layout(self) -> Layout:
        """Parameters in state-dict order: per layer the weight, then the bias."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for p in self.parametric:
            weight, outputs = _weight_shape(p.layer)
            shapes += [(f"{p.name}.weight", weight), (f"{p.name}.bias", (outputs,))]
        return Layout.of(shapes)

    @property
    def buffer_layout(self) -> Layout:
        """Layout of the state dict's untrained values; a layer list has none."""
        return Layout(())

    @property
    def counter_names(self) -> tuple[str, ...]:
        """Integers of the state dict; a layer list has none."""
        return ()

    @property
    def state_dict_names(self) -> dict[str, str]:
        """Layout name to the key in the torch module's state dict, e.g. ``conv2.bias`` to ``module_list.3.bias``."""
        return {
            f"{p.name}.{part}": f"module_list.{p.index}.{part}" for p in self.parametric for part in ("weight", "bias")
        }

    @property
    def num_macs(self) -> int:
        """Multiply-adds of the forward pass of one sample; biases, activations, pools and padded taps do not count."""
        return sum(self.layer_macs(p) for p in self.parametric)

    @property
    def num_train_macs(self) -> int:
        """Multiply-adds of forward, weight gradient and data gradient of one sample, the first layer's data gradient
        not computed."""
        return 3 * self.num_macs - self.layer_macs(self.parametric[0])

    def layer_macs(self, p: Parametric) -> int:
        """Multiply-adds of one layer's forward pass of one sample."""
        if isinstance(p.layer, Linear):
            return p.layer.in_features * p.layer.out_features
        (_, height, width), (_, rows, columns) = self.shapes[p.index : p.index + 2]
        taps = _taps(p.layer, height, rows) * _taps(p.layer, width, columns)
        return p.layer.in_channels * p.layer.out_channels * taps


def sines(architecture: Architecture) -> list[float]:
    """The omega of each linear layer: that of the sine after it, or of the last sine before it where none follows.

    Raises ValueError: no sine in the network, or a layer that is not linear.
    """
    if any(not isinstance(p.layer, Linear) for p in architecture.parametric):
        raise ValueError("siren is for linear layers and sines")
    found: list[float | None] = []
    for layer in architecture.layers:
        if isinstance(layer, Linear):
            found.append(None)
        elif isinstance(layer, Activation) and layer.name == "sine" and found and found[-1] is None:
            found[-1] = layer.omega
    known = [omega for omega in found if omega is not None]
    if not known:
        raise ValueError("siren needs a layer {activation: {name: sine, omega: 30}}")
    omegas, last = [], known[0]
    for omega in found:
        last = last if omega is None else omega
        omegas.append(last)
    return omegas


def output_shape(layer: Layer, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Output shape of ``layer`` after layers with ``shapes``, of which the first is the input's and the last its own.

    Raises ValueError, with the reason, for a layer that does not fit.
    """
    shape = shapes[-1]
    match layer:
        case Conv2d(in_channels=c, kernel_size=k, padding=padding):
            if len(shape) != 3 or shape[0] != c:
                raise ValueError(f"{layer} cannot take an input of shape {shape}")
            if not 0 <= padding < k:
                raise ValueError(f"padding {padding} is not below the kernel {k}: a window would hold nothing else")
            return (layer.out_channels, *_windows(shape, k, layer.stride, padding))
        case MaxPool2d(kernel_size=k, stride=stride) | AvgPool2d(kernel_size=k, stride=stride):
            return (_channels(shape), *_windows(shape, k, stride, 0))
        case GlobalAvgPool2d():
            return (_channels(shape),)
        case Flatten():
            return (math.prod(shape),)
        case Linear(in_features=i, out_features=o):
            if shape != (i,):
                raise ValueError(f"{layer} cannot take an input of shape {shape}")
            return (o,)
        case Add(source=source):
            if not 0 <= source < len(shapes) - 1:
                raise ValueError(f"add reads an earlier layer, of 0 to {len(shapes) - 2}, found {source}")
            if shapes[source + 1] != shape:
                raise ValueError(
                    f"add needs equal shapes: layer {source} gives {list(shapes[source + 1])}, "
                    f"the layer before gives {list(shape)}"
                )
            return shape
        case Activation() | Dropout():
            return shape


def _channels(shape: tuple[int, ...]) -> int:
    if len(shape) != 3:
        raise ValueError(f"it takes images, [channels, height, width], and the layer before gives {list(shape)}")
    return shape[0]


def _windows(shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns of windows that fit into an image with its padding."""
    _, height, width = shape
    if min(kernel, stride) < 1:
        raise ValueError(f"kernel {kernel} and stride {stride} must be at least 1")
    if min(height, width) + 2 * padding < kernel:
        raise ValueError(f"kernel {kernel} is larger than the image, {height} x {width}, with padding {padding}")
    return (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1


def _taps(layer: Conv2d, size: int, places: int) -> int:
    """Taps of a kernel's axis over all its places that are inside the image."""
    starts = (place * layer.stride - layer.padding for place in range(places))
    return sum(min(start + layer.kernel_size, size) - max(start, 0) for start in starts)


def _weight_shape(layer: Conv2d | Linear) -> tuple[tuple[int, ...], int]:
    if isinstance(layer, Conv2d):
        k = layer.kernel_size
        return (layer.out_channels, layer.in_channels, k, k), layer.out_channels
    return (layer.out_features, layer.in_features), layer.out_features
