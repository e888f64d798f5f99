"""Cases of the lanes engine, drawn by hypothesis or listed."""

from hypothesis import strategies as st

from tests.support.lanes_cases import Case, case
from tests.support.layer_lists import any_layer_lists
from zooforge.zoo_jobs.engines.lanes.engine import extension
from zooforge.zoo_jobs.models.layers import (
    Activation,
    Architecture,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
)

KINDS = ("plain", "dropout", "twin", "magnitude")


COMBINATIONS = [
    ("cnn-s ch1", "tanh", "adam", "plain"),
    ("cnn-s ch1", "relu", "adam", "dropout"),
    ("cnn-s ch1", "gelu", "adam", "twin"),
    ("cnn-s ch1", "leaky_relu", "adam", "magnitude"),
    ("cnn-s ch3", "sigmoid", "sgd", "plain"),
    ("cnn-s ch3", "silu", "sgd", "dropout"),
    ("cnn-s ch3", "tanh", "sgd", "twin"),
    ("cnn-s ch1", "relu", "sgd", "magnitude"),
    ("cnn2 ch1", "leaky_relu", "rmsprop", "plain"),
    ("cnn2 ch1", "gelu", "rmsprop", "dropout"),
    ("cnn2 ch1", "sigmoid", "rmsprop", "twin"),
    ("cnn-s ch3", "silu", "rmsprop", "magnitude"),
    ("cnn-l ch3", "gelu", "adam", "plain"),
    ("cnn-l ch3", "relu", "sgd", "dropout"),
    ("cnn-l ch3", "silu", "adam", "twin"),
    ("cnn-s ch1", "tanh", "adamw", "plain"),
    ("cnn-s ch3", "relu", "adamw", "magnitude"),
    ("cnn2 ch1", "silu", "adamw", "twin"),
    ("cnn-s ch1", "gelu", "adamw", "dropout"),
]


@st.composite
def layer_lists(draw: st.DrawFn) -> Architecture:
    """Small lists that the tuned tiles cover, and layers between them that they do not."""
    channels, side = draw(st.integers(1, 3)), draw(st.integers(5, 17))
    layers: list[Layer] = []
    c, height = channels, side

    def points() -> None:
        for _ in range(draw(st.integers(0, 2))):
            layers.append(draw(st.sampled_from([Dropout(), *map(Activation, extension().ACTIVATIONS)])))

    points()
    for _ in range(draw(st.integers(0, 3))):
        if height >= 2 and draw(st.integers(0, 3)) == 0:
            layers.append(MaxPool2d())
            height //= 2
        kernel = draw(st.integers(1, min(6, height)))
        out = draw(st.integers(1, 9))
        layers.append(Conv2d(c, out, kernel))
        c, height = out, height - kernel + 1
        if height >= 2 and draw(st.booleans()):
            layers.append(MaxPool2d())
            height //= 2
        points()
    layers.append(Flatten())
    size = c * height * height
    for _ in range(draw(st.integers(0, 2))):
        out = draw(st.integers(1, 23))
        layers.append(Linear(size, out))
        size = out
        points()
    layers.append(Linear(size, draw(st.integers(2, 12))))
    return Architecture("random", channels, side, tuple(layers))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(["plain", "dropout", "twin"]))
    return case(
        draw(st.one_of(layer_lists(), any_layer_lists())),
        draw(st.sampled_from(["sgd", "adam", "adamw", "rmsprop"])),
        num_models=draw(st.integers(1, 21)),
        batch_size=draw(st.integers(1, 12)),
        train=draw(st.integers(1, 13)),
        dropout=0.25 if kind == "dropout" else 0.0,
        variational=kind == "twin",
        fractions=draw(st.sampled_from([(1.0,), (1.0, 0.1, 0.25, 0.5), (0.3,)])),
    )
