"""Architectures as layer lists, from which torch module, layout, FLOP count and kernels follow. Pure."""

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
}
"""Registry of activations: each name with the torch module class that computes it, as ``package.module:Class``.

The class is imported only where a network is computed. The ``lanes`` engine has kernels of its own and refuses an
activation that it has no kernel for.
"""


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Square convolution, stride 1, no padding, with bias."""

    in_channels: int
    out_channels: int
    kernel_size: int


@dataclass(frozen=True, slots=True)
class MaxPool2d:
    """2 x 2 max-pool, stride 2; an odd last row or column is dropped."""


@dataclass(frozen=True, slots=True)
class Activation:
    name: ActivationName


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


Layer = Conv2d | MaxPool2d | Activation | Dropout | Flatten | Linear


@dataclass(frozen=True, slots=True)
class Parametric:
    """A layer with parameters: its name in layouts, its index in the layer list (and so in ``module_list``)."""

    name: str
    index: int
    layer: Conv2d | Linear
    output_positions: int  # spatial positions of the output; 1 for a linear layer

    @property
    def noisy(self) -> tuple[str, ...]:
        """Layout names of the tensors that have a noise variance under variational dropout, in layout order.

        A linear layer's bias has none in the reference (``log_sigma2_bias`` exists there, unused).
        """
        parts = ("weight", "bias") if isinstance(self.layer, Conv2d) else ("weight",)
        return tuple(f"{self.name}.{part}" for part in parts)


@dataclass(frozen=True)
class Architecture:
    """A network as a list of layers over [in_channels, image_size, image_size] images.

    Position in ``layers`` is the index in the reference's ``module_list``. Dropout layers shift these indices; names
    (``conv1``, ``linear2``), shapes and order of the parameters do not depend on them.
    """

    name: str
    in_channels: int
    image_size: int
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        shapes = self.shapes
        if len(shapes[-1]) != 1:
            raise ValueError(f"{self.name}: the last layer must be linear")

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Input shape, then the output shape of each layer, without the batch axis. ValueError if layers do not fit."""
        shape: tuple[int, ...] = (self.in_channels, self.image_size, self.image_size)
        shapes = [shape]
        for index, layer in enumerate(self.layers):
            shape = _output_shape(layer, shape, f"{self.name} layer {index}")
            shapes.append(shape)
        return tuple(shapes)

    @property
    def activations(self) -> set[ActivationName]:
        """The activations that its layers compute."""
        return {layer.name for layer in self.layers if isinstance(layer, Activation)}

    @property
    def num_classes(self) -> int:
        """Outputs of the last layer."""
        return self.shapes[-1][0]

    @property
    def parametric(self) -> tuple[Parametric, ...]:
        """The layers with parameters, in order, named by kind and number: ``conv1``, ``conv2``, ``linear1``."""
        counts = {"conv": 0, "linear": 0}
        layers = []
        for index, (layer, shape) in enumerate(zip(self.layers, self.shapes[1:], strict=True)):
            if isinstance(layer, Conv2d | Linear):
                kind = "conv" if isinstance(layer, Conv2d) else "linear"
                counts[kind] += 1
                positions = shape[1] * shape[2] if isinstance(layer, Conv2d) else 1
                layers.append(Parametric(f"{kind}{counts[kind]}", index, layer, positions))
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
        """Multiply-adds of the forward pass of one sample, biases and activations not counted."""
        total = 0
        for p in self.parametric:
            weight, _ = _weight_shape(p.layer)
            size = 1
            for n in weight:
                size *= n
            total += size * p.output_positions
        return total

    @property
    def num_train_macs(self) -> int:
        """Multiply-adds of forward, weight gradient and data gradient of one sample, the first layer's data gradient
        not computed."""
        first = self.parametric[0]
        weight, _ = _weight_shape(first.layer)
        size = 1
        for n in weight:
            size *= n
        return 3 * self.num_macs - size * first.output_positions


def _weight_shape(layer: Conv2d | Linear) -> tuple[tuple[int, ...], int]:
    if isinstance(layer, Conv2d):
        k = layer.kernel_size
        return (layer.out_channels, layer.in_channels, k, k), layer.out_channels
    return (layer.out_features, layer.in_features), layer.out_features


def _output_shape(layer: Layer, shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    match layer:
        case Conv2d(in_channels=c, out_channels=o, kernel_size=k):
            if len(shape) != 3 or shape[0] != c or min(shape[1:]) < k:
                raise ValueError(f"{where}: {layer} cannot take an input of shape {shape}")
            return (o, shape[1] - k + 1, shape[2] - k + 1)
        case MaxPool2d():
            if len(shape) != 3 or min(shape[1:]) < 2:
                raise ValueError(f"{where}: a 2 x 2 pool cannot take an input of shape {shape}")
            return (shape[0], shape[1] // 2, shape[2] // 2)
        case Flatten():
            size = 1
            for n in shape:
                size *= n
            return (size,)
        case Linear(in_features=i, out_features=o):
            if shape != (i,):
                raise ValueError(f"{where}: {layer} cannot take an input of shape {shape}")
            return (o,)
        case _:
            return shape
