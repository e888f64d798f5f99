"""Random layer lists of every kind of layer, and the same networks built from torch's own layers."""

from hypothesis import strategies as st
from torch import Tensor, nn

from zooforge.zoo_jobs.models.layers import (
    ACTIVATIONS,
    WITH_OMEGA,
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    output_shape,
)

MODULES = {"leaky_relu": nn.LeakyReLU, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU,
           "gelu": nn.GELU, "identity": nn.Identity}  # fmt: skip


@st.composite
def any_layer_lists(draw: st.DrawFn, num_classes: int | None = None) -> Architecture:
    """Small lists with strides, padding, every pool, every activation, dropout and residual sums."""
    channels, side = draw(st.integers(1, 3)), draw(st.integers(5, 13))
    layers: list[Layer] = []
    shapes: list[tuple[int, ...]] = [(channels, side, side)]

    def put(layer: Layer) -> None:
        shapes.append(output_shape(layer, shapes))
        layers.append(layer)

    def points() -> None:
        for _ in range(draw(st.integers(0, 2))):
            name = draw(st.sampled_from([None, *ACTIVATIONS]))
            omega = draw(st.sampled_from([1.0, 3.0])) if name in WITH_OMEGA else 1.0
            put(Dropout() if name is None else Activation(name, omega))
        sources = [index for index, shape in enumerate(shapes[1:]) if shape == shapes[-1]]
        if sources and draw(st.booleans()):
            put(Add(draw(st.sampled_from(sources))))

    for _ in range(draw(st.integers(0, 3))):
        c, height, _ = shapes[-1]
        kernel = draw(st.integers(1, min(4, height)))
        stride = draw(st.integers(1, 3))
        match draw(st.sampled_from(["conv", "conv", "max", "avg"])):
            case "conv":
                put(Conv2d(c, draw(st.integers(1, 5)), kernel, stride, draw(st.integers(0, kernel - 1))))
            case "max":
                put(MaxPool2d(kernel, stride))
            case _:
                put(AvgPool2d(kernel, stride))
        points()
    put(draw(st.sampled_from([Flatten(), GlobalAvgPool2d()])))
    for _ in range(draw(st.integers(0, 2))):
        put(Linear(shapes[-1][0], draw(st.integers(1, 9))))
        points()
    put(Linear(shapes[-1][0], num_classes or draw(st.integers(2, 12))))
    return Architecture("random", channels, side, tuple(layers))


class Sine(nn.Module):
    def __init__(self, omega: float) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, values: Tensor) -> Tensor:
        return (values * self.omega).sin()


class Plain(nn.Module):
    """The network of a layer list, built independently from torch's own layers, without dropout."""

    def __init__(self, network: Architecture) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(_module(layer) for layer in network.layers)

    def forward(self, images: Tensor) -> Tensor:
        outputs = [images]
        for layer, module in zip(self.network.layers, self.layers, strict=True):
            skipped = outputs[layer.source + 1] if isinstance(layer, Add) else 0
            outputs.append(module(outputs[-1]) + skipped)
        return outputs[-1]


def _module(layer: Layer) -> nn.Module:
    match layer:
        case Conv2d():
            return nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, stride=layer.stride, padding=layer.padding
            )
        case MaxPool2d():
            return nn.MaxPool2d(layer.kernel_size, layer.stride)
        case AvgPool2d():
            return nn.AvgPool2d(layer.kernel_size, layer.stride)
        case GlobalAvgPool2d():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten():
            return nn.Flatten()
        case Linear():
            return nn.Linear(layer.in_features, layer.out_features)
        case Activation(name="sine"):
            return Sine(layer.omega)
        case Activation():
            return MODULES[layer.name]()
        case Dropout() | Add():
            return nn.Identity()
