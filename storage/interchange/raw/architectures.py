"""Recognise the reference's networks by the keys and shapes of their checkpoints. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import FormatError
from ...formats.layout import Layout

Shapes = Mapping[str, tuple[int, ...]]

_PARAMETER = re.compile(r"module_list\.(\d{1,4})\.(weight|bias|log_sigma2|log_sigma2_bias)")
BUFFERS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class _Known:
    """A network of the reference that is a chain of layers.

    Each layer is a tuple: number of outputs, kernel size (None for a linear layer), whether a pool follows, and whether
    a dropout layer may follow.
    """

    name: str
    image_size: int
    layers: tuple[tuple[int, int | None, bool, bool], ...]
    always_dropout: bool


_HEAD = ((20, None, False, True), (10, None, False, False))
_KNOWN = {
    "CNN": _Known(
        "cnn-s", 28,
        ((8, 5, True, True), (6, 5, True, True), (4, 2, False, False), *_HEAD),
        False,
    ),
    "CNN2": _Known(
        "cnn2", 28,
        ((6, 5, True, True), (9, 5, True, True), (6, 2, False, False), *_HEAD),
        False,
    ),
    "CNN3": _Known(
        "cnn-l", 32,
        ((16, 3, True, True), (32, 3, True, True), (15, 3, True, True), *_HEAD),
        True,
    ),
}  # fmt: skip
SHARD_SHAPES = {"cnn-s": (128, 64), "cnn2": (128, 64), "cnn-l": (32, 64), "resnet18": (1, 1)}
"""Shapes of the shards of imported zoos, as docs/format.md lists them. These names also stand in the registry of
architectures, but ``storage`` imports nothing from ``zoo_jobs``. A checkpoint does not name its architecture, so this
module recognises the networks of the reference by their keys and shapes."""
_TYPES = {known.name: kind for kind, known in _KNOWN.items()} | {"resnet18": "Resnet18"}


def reference_type(architecture: str, twin: bool) -> str:
    """``model::type``: CNN, CNN2, CNN3, Resnet18, or our name of another network. Sparsified zoos append ``_ARD``."""
    kind = _TYPES.get(architecture, architecture)
    return f"{kind}_ARD" if twin else kind


@dataclass(frozen=True)
class Network:
    """The network of the checkpoints of one zoo.

    Attributes:
        layout: the layout of the weight vector, with our names; ``noisy_layout``: that of log sigma^2, if there is any.
        state_dict_names, layers: the same as in a manifest, by variant.
        buffers_layout, counters: the buffers and counters of batch normalisation layers, if there are any.
    """

    name: str
    in_channels: int
    image_size: int
    num_classes: int
    layout: Layout
    state_dict_names: dict[str, dict[str, str]]
    layers: dict[str, list[dict[str, Any]]]
    noisy_layout: Layout | None
    buffers_layout: Layout | None
    counters: tuple[str, ...]


def layer_shapes(shapes: Shapes) -> list[tuple[str, tuple[int, ...]]]:
    """Pairs (our name, shape) of the weights and biases of a checkpoint, in the order of the layers' indices.

    Raises:
        FormatError: a key does not belong to a ``module_list`` layer.
    """
    return [(name, shape) for name, _, shape in _chain(shapes)]


def layer_names(shapes: Shapes) -> dict[str, str]:
    """The keys of a checkpoint by our names. Keys of log sigma^2 are left out."""
    return {name: key for name, key, _ in _chain(shapes)}


def _chain(shapes: Shapes) -> list[tuple[str, str, tuple[int, ...]]]:
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        match = _PARAMETER.fullmatch(key)
        if match is None:
            raise FormatError(f"{key} is no parameter of a `module_list` layer")
        layers.setdefault(int(match[1]), {})[match[2]] = shape
    chain = []
    counts = {"conv": 0, "linear": 0}
    for index in sorted(layers):
        weight = layers[index].get("weight", ())
        if len(weight) not in (2, 4):
            raise FormatError(f"module_list.{index}.weight has shape {list(weight)}: neither convolution nor linear")
        kind = "conv" if len(weight) == 4 else "linear"
        counts[kind] += 1
        for part in ("weight", "bias"):
            if part in layers[index]:
                key = f"module_list.{index}.{part}"
                chain.append((f"{kind}{counts[kind]}.{part}", key, layers[index][part]))
    return chain


def network(shapes: Shapes, others: Sequence[tuple[bool, Mapping[str, str]]] = ()) -> Network:
    """The network whose checkpoints have these keys and shapes.

    Args:
        others: for some models, whether their dropout ratio is above 0, and their keys by our names. They show how
            dropout layers shift indices.

    Raises:
        FormatError: the keys belong neither to a chain of layers nor to a network with batch normalisation.
    """
    if any(key.startswith("module_list.") for key in shapes):
        return _chain_network(shapes, others)
    if not any(key.endswith(f".{COUNTER}") for key in shapes):
        raise FormatError(f"{next(iter(shapes), 'nothing')} is the key of no network of the reference")
    trained = [(key, shape) for key, shape in shapes.items() if key.rpartition(".")[2] in ("weight", "bias")]
    buffers = [(key, shape) for key, shape in shapes.items() if key.rpartition(".")[2] in BUFFERS]
    weights = [shape for _, shape in trained if len(shape) > 1]
    if not weights:
        raise FormatError("no weight of a layer is among the keys of the checkpoint")
    names = {key: key for key, _ in trained}
    is_resnet18 = len(shapes) == 122 and "layer4.1.conv2.weight" in shapes
    return Network(
        name="resnet18" if is_resnet18 else "unknown",
        in_channels=weights[0][1],
        image_size=32 if weights[-1][0] < 200 else 64,  # Tiny-ImageNet is the reference's one zoo of 200 classes
        num_classes=weights[-1][0],
        layout=Layout.of(trained),
        state_dict_names={"plain": names},
        layers={},
        noisy_layout=None,
        buffers_layout=Layout.of(buffers),
        counters=tuple(key for key in shapes if key.endswith(f".{COUNTER}")),
    )


def _chain_network(shapes: Shapes, others: Sequence[tuple[bool, Mapping[str, str]]]) -> Network:
    chain = layer_shapes(shapes)
    layout = Layout.of(chain)
    weights = [shape for name, shape in chain if name.endswith(".weight")]
    in_channels = weights[0][1]
    noisy = layout.maskable() if any(key.endswith(".log_sigma2") for key in shapes) else None
    known = next((k for k in _KNOWN.values() if _known_weights(k, in_channels) == weights), None)
    seen: dict[bool, Mapping[str, str]] = {}
    for dropout, names in others or [(False, layer_names(shapes))]:
        seen.setdefault(dropout, names)
    layers: dict[str, list[dict[str, Any]]] = {}
    names_of: dict[str, dict[str, str]] = {}
    if known is not None:
        for variant in ("plain",) if known.always_dropout else ("plain", "dropout"):
            layers[variant] = _layers(known, in_channels, variant == "dropout" or known.always_dropout)
            names_of[variant] = _names(layers[variant])
        expected = {False: names_of["plain"], True: names_of.get("dropout", names_of["plain"])}
        if any(names != expected[dropout] for dropout, names in seen.items()):
            layers, names_of = {}, {}
    if not names_of:
        names_of = {"plain": dict(seen.get(False) or seen[True])}
        if True in seen and seen[True] != names_of["plain"]:
            names_of["dropout"] = dict(seen[True])
    return Network(
        name=known.name if known is not None else "unknown",
        in_channels=in_channels,
        image_size=known.image_size if known is not None else 0,
        num_classes=weights[-1][0],
        layout=layout,
        state_dict_names=names_of,
        layers=layers,
        noisy_layout=noisy,
        buffers_layout=None,
        counters=(),
    )


def _layers(known: _Known, in_channels: int, dropout: bool) -> list[dict[str, Any]]:
    """The list of layers that a manifest holds."""
    layers: list[dict[str, Any]] = []
    channels, size, flat = in_channels, known.image_size, 0
    for number, (outputs, kernel, pool, drop) in enumerate(known.layers):
        if kernel is None:
            if not flat:
                layers.append({"type": "flatten"})
                flat = channels * size * size
            layers.append({"type": "linear", "in_features": flat, "out_features": outputs})
            flat = outputs
        else:
            layers.append({"type": "conv2d", "in_channels": channels, "out_channels": outputs, "kernel_size": kernel})
            channels, size = outputs, size - kernel + 1
        if pool:
            layers.append({"type": "max_pool2d", "kernel_size": 2})
            size //= 2
        if number + 1 < len(known.layers):
            layers.append({"type": "activation"})
        if drop and dropout:
            layers.append({"type": "dropout"})
    return layers


def _names(layers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names: dict[str, str] = {}
    counts = {"conv2d": 0, "linear": 0}
    for index, layer in enumerate(layers):
        if layer["type"] in counts:
            counts[layer["type"]] += 1
            ours = f"{layer['type'].removesuffix('2d')}{counts[layer['type']]}"
            names.update({f"{ours}.{part}": f"module_list.{index}.{part}" for part in ("weight", "bias")})
    return names


def _known_weights(known: _Known, in_channels: int) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for layer in _layers(known, in_channels, False):
        if layer["type"] == "conv2d":
            shapes.append((layer["out_channels"], layer["in_channels"], layer["kernel_size"], layer["kernel_size"]))
        elif layer["type"] == "linear":
            shapes.append((layer["out_features"], layer["in_features"]))
    return shapes
