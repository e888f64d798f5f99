"""Networks that a spec gives as a list of layers: parses the list, and makes its normal form and its network. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zooforge.storage.canonical import digest_of

from ..errors import nearest
from ..models.layers import (
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
from ..models.registry import ARCHITECTURES, Network
from ..tasks.contract import Task
from ..tasks.registry import DEFAULT, TASKS
from .validation import MisplacedError

OWN = "own"  # stands for the activation in the model's row
CLASSES, GLOBAL = "classes", "global"
OUTPUTS = tuple(task.outputs for task in TASKS.values())  # words for the outputs of the network, by task
BARE = ("activation", "dropout", "flatten")  # kinds that may stand without arguments
KINDS = ("conv", "activation", "dropout", "max_pool", "avg_pool", "flatten", "linear", "add")
UNIT_MACS, LEAST_UNIT, LARGEST_UNIT = 1 << 27, 16, 1024


@dataclass(frozen=True, slots=True)
class ListedLayer:
    """One entry of the list in its normal form, which has all arguments in a fixed order."""

    kind: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return dict(self.arguments)[name]

    def to_json(self) -> str | dict[str, Any]:
        """``dropout``, ``{"add": 3}``, ``{"conv": {"channels": 16, "kernel": 3, "stride": 1, "padding": 0}}``, ..."""
        values = dict(self.arguments)
        if self.kind in BARE and values.get("name", OWN) == OWN:
            return self.kind
        if values.get("window") == GLOBAL:
            return {self.kind: GLOBAL}
        if self.kind in ("add", "activation") and len(values) == 1:
            (values,) = values.values()
        return {self.kind: values}


@dataclass(frozen=True)
class LayerList:
    """A network of a spec. ``width`` multiplies the channels of convolutions and the features of hidden linear layers.

    Two lists that have the same layers after this multiplication are the same network.
    """

    layers: tuple[ListedLayer, ...]
    width: float = 1.0

    @cached_property
    def content(self) -> list[str | dict[str, Any]]:
        """The normal form, which is part of a run's digest. ``width`` is multiplied into its numbers."""
        return [self._wide(layer).to_json() for layer in self.layers]

    @cached_property
    def name(self) -> str:
        """``layers-`` and 8 hex digits of the SHA-256 over the canonical JSON of ``content``."""
        return f"layers-{digest_of(self.content)[:8]}"

    def to_json(self) -> dict[str, Any]:
        """JSON that ``parse`` reads back, with defaults written out."""
        width = {} if self.width == 1 else {"width": self.width}
        return {"layers": [layer.to_json() for layer in self.layers], **width}

    @property
    def takes_activation(self) -> bool:
        """True if some layer uses the activation in the model's row."""
        return any(layer.kind == "activation" and layer["name"] == OWN for layer in self.layers)

    @property
    def has_dropout(self) -> bool:
        return any(layer.kind == "dropout" for layer in self.layers)

    def network(
        self, in_channels: int, image_size: int, num_outputs: int, activation: str, task: Task = TASKS[DEFAULT]
    ) -> Architecture:
        """Network for images [in_channels, image_size, image_size], or if ``task.vectors`` for vectors [in_channels].

        ``activation`` is the activation in the model's row.

        Raises:
            MisplacedError: a layer does not fit, or the number of outputs is not ``num_outputs``.
        """
        inputs = (in_channels,) if task.vectors else (in_channels, image_size, image_size)
        shapes: list[tuple[int, ...]] = [inputs]
        layers: list[Layer] = []
        for index, listed in enumerate(self.layers):
            try:
                layer = _layer(self._wide(listed), shapes, num_outputs, activation, task)
                shapes.append(output_shape(layer, shapes))
            except ValueError as error:
                raise MisplacedError(f"layers[{index}].{listed.kind}", str(error)) from None
            layers.append(layer)
        if shapes[-1] != (num_outputs,):
            each = {CLASSES: "class"}.get(task.outputs, task.outputs.removesuffix("s"))
            raise MisplacedError(
                f"layers[{len(layers) - 1}]",
                f"the last layer gives {list(shapes[-1])}, expected one value per {each}, [{num_outputs}]; "
                f"end with linear: {{features: {task.outputs}}}",
            )
        if not any(isinstance(layer, Conv2d | Linear) for layer in layers):
            raise MisplacedError("layers", "no layer has parameters")
        return Architecture(self.name, in_channels, image_size, tuple(layers), task.vectors)

    def _wide(self, layer: ListedLayer) -> ListedLayer:
        scaled = {"conv": "channels", "linear": "features"}.get(layer.kind)
        values = dict(layer.arguments)
        if scaled is not None and isinstance(values[scaled], int):
            values[scaled] = round(values[scaled] * self.width)
        return ListedLayer(layer.kind, tuple(values.items()))


def parse(value: Any) -> LayerList:
    """Parse ``{"layers": [...], "width": 1}``. Raises MisplacedError, which has the place of the mistake."""
    fields = _fields(value, "", ("layers", "width"), required=("layers",))
    layers = fields["layers"]
    if not isinstance(layers, list | tuple) or not layers:
        raise MisplacedError("layers", f"it is a list of layers, found {_short(layers)}")
    width = fields.get("width", 1.0)
    if isinstance(width, bool) or not isinstance(width, int | float) or not (0 < width < math.inf):
        raise MisplacedError("width", f"it is a number above 0, found {_short(width)}")
    listed = tuple(_listed(layer, f"layers[{index}]") for index, layer in enumerate(layers))
    for index, layer in enumerate(listed):
        number = dict(layer.arguments).get("channels", dict(layer.arguments).get("features"))
        if isinstance(number, int) and (number * width % 1 or number * width < 1):
            raise MisplacedError(
                "width", f"{width:g} times the {number} of layers[{index}] is {number * width:g}, not a whole number"
            )
    return LayerList(listed, float(width))


def unit_models(network: Network) -> int:
    """Number of models in a work unit.

    It is the largest power of two from 16 to 1,024 with which one training sample takes at most 2^27 multiply-adds in
    all models together. This rule must never change, because existing runs pin its result.
    """
    fit = max(1, UNIT_MACS // network.num_train_macs)
    return min(LARGEST_UNIT, max(LEAST_UNIT, 1 << (fit.bit_length() - 1)))


def _listed(value: Any, place: str) -> ListedLayer:
    if isinstance(value, str) and value in BARE:
        return ListedLayer(value, (("name", OWN),) if value == "activation" else ())
    kind = value if isinstance(value, str) else next(iter(value)) if isinstance(value, dict) and value else None
    if not isinstance(kind, str):
        raise MisplacedError(place, f"a layer is a name such as dropout or {{conv: {{...}}}}, found {_short(value)}")
    if kind not in KINDS:
        raise MisplacedError(place, _unknown("layer", kind, KINDS))
    if isinstance(value, str):
        raise MisplacedError(f"{place}.{kind}", f"{kind} needs its arguments, e.g. {EXAMPLES[kind]}")
    if len(value) > 1:
        raise MisplacedError(place, f"one layer per entry, found {', '.join(map(str, value))}")
    return _READERS[kind](value[kind], f"{place}.{kind}")


def _conv(value: Any, place: str) -> ListedLayer:
    if isinstance(value, dict):
        for name in ("dilation", "groups"):
            if name in value:
                raise MisplacedError(f"{place}.{name}", f"convolutions with {name} are not supported")
    fields = _fields(value, place, ("channels", "kernel", "stride", "padding"), required=("channels", "kernel"))
    kernel = _whole(fields["kernel"], f"{place}.kernel")
    padding, where = fields.get("padding", 0), f"{place}.padding"
    if padding == "same":
        if kernel % 2 == 0:
            raise MisplacedError(where, f"same needs an odd kernel, found kernel {kernel}")
        padding = (kernel - 1) // 2
    elif padding == "valid":
        padding = 0
    elif isinstance(padding, str):
        raise MisplacedError(where, f"it is a whole number, same or valid, found {padding!r}")
    if _whole(padding, where, least=0) >= kernel:
        raise MisplacedError(where, f"{padding} is not below the kernel {kernel}: a window would hold nothing else")
    return ListedLayer(
        "conv",
        (
            ("channels", _whole(fields["channels"], f"{place}.channels")),
            ("kernel", kernel),
            ("stride", _whole(fields.get("stride", 1), f"{place}.stride")),
            ("padding", padding),
        ),
    )


def _activation(value: Any, place: str) -> ListedLayer:
    fields = {"name": value} if isinstance(value, str) else _fields(value, place, ("name", "omega"), ("name",))
    name = fields["name"]
    if name not in ACTIVATIONS:
        raise MisplacedError(place, _unknown("activation", name, ACTIVATIONS))
    if name not in WITH_OMEGA:
        if "omega" in fields:
            raise MisplacedError(f"{place}.omega", f"only {', '.join(WITH_OMEGA)} has an omega, not {name}")
        return ListedLayer("activation", (("name", name),))
    omega = fields.get("omega", 1.0)
    if isinstance(omega, bool) or not isinstance(omega, int | float) or not (0 < omega < math.inf):
        raise MisplacedError(f"{place}.omega", f"it is a number above 0, found {_short(omega)}")
    return ListedLayer("activation", (("name", name), ("omega", float(omega))))


def _pool(kind: str) -> Callable[[Any, str], ListedLayer]:
    def read(value: Any, place: str) -> ListedLayer:
        if value == GLOBAL and kind == "avg_pool":
            return ListedLayer(kind, (("window", GLOBAL),))
        if isinstance(value, str):
            accepted = "global or {kernel, stride}" if kind == "avg_pool" else "{kernel, stride}"
            raise MisplacedError(place, f"{value!r} is no window; accepted: {accepted}")
        fields = _fields(value, place, ("kernel", "stride"), required=("kernel",))
        kernel = _whole(fields["kernel"], f"{place}.kernel")
        stride = _whole(fields.get("stride", kernel), f"{place}.stride")
        return ListedLayer(kind, (("kernel", kernel), ("stride", stride)))

    return read


def _linear(value: Any, place: str) -> ListedLayer:
    features = _fields(value, place, ("features",), required=("features",))["features"]
    if features not in OUTPUTS:
        if isinstance(features, str):
            raise MisplacedError(
                f"{place}.features", f"it is a whole number or {' or '.join(OUTPUTS)}, found {features!r}"
            )
        _whole(features, f"{place}.features")
    return ListedLayer("linear", (("features", features),))


def _add(value: Any, place: str) -> ListedLayer:
    return ListedLayer("add", (("source", _whole(value, place, least=0)),))


def _no_arguments(kind: str) -> Callable[[Any, str], ListedLayer]:
    def read(value: Any, place: str) -> ListedLayer:
        if value not in (None, {}):
            more = "; its ratio is the axis dropout_ratio" if kind == "dropout" else ""
            raise MisplacedError(place, f"{kind} has no arguments, found {_short(value)}{more}")
        return ListedLayer(kind)

    return read


_READERS: dict[str, Callable[[Any, str], ListedLayer]] = {
    "conv": _conv,
    "activation": _activation,
    "dropout": _no_arguments("dropout"),
    "max_pool": _pool("max_pool"),
    "avg_pool": _pool("avg_pool"),
    "flatten": _no_arguments("flatten"),
    "linear": _linear,
    "add": _add,
}
EXAMPLES = {
    "conv": "conv: {channels: 16, kernel: 3}",
    "max_pool": "max_pool: {kernel: 2, stride: 2}",
    "avg_pool": "avg_pool: global",
    "linear": "linear: {features: classes}",
    "add": "add: 0",
}


def _layer(listed: ListedLayer, shapes: list[tuple[int, ...]], num_outputs: int, activation: str, task: Task) -> Layer:
    shape = shapes[-1]
    match listed.kind:
        case "conv":
            if len(shape) != 3:
                raise ValueError(
                    f"it takes images, [channels, height, width], and the layer before gives {list(shape)}"
                )
            return Conv2d(shape[0], listed["channels"], listed["kernel"], listed["stride"], listed["padding"])
        case "linear":
            if len(shape) != 1:
                raise ValueError(
                    f"it takes a vector, and the layer before gives {list(shape)}; "
                    "put flatten or avg_pool: global before it"
                )
            features = listed["features"]
            if isinstance(features, str) and features != task.outputs:
                raise ValueError(f"features: the outputs of this task are {task.outputs}, found {features}")
            return Linear(shape[0], num_outputs if isinstance(features, str) else features)
        case "activation":
            values = dict(listed.arguments)
            return Activation(activation if values["name"] == OWN else values["name"], values.get("omega", 1.0))
        case "max_pool":
            return MaxPool2d(listed["kernel"], listed["stride"])
        case "avg_pool":
            if dict(listed.arguments).get("window") == GLOBAL:
                return GlobalAvgPool2d()
            return AvgPool2d(listed["kernel"], listed["stride"])
        case "add":
            return Add(listed["source"])
        case "dropout":
            return Dropout()
        case _:
            return Flatten()


def _fields(value: Any, place: str, accepted: tuple[str, ...], required: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MisplacedError(place, f"it has the fields {', '.join(accepted)}, found {_short(value)}")
    for name in value:
        if name not in accepted:
            raise MisplacedError(f"{place}.{name}" if place else str(name), _unknown("field", name, accepted))
    for name in required:
        if name not in value:
            raise MisplacedError(f"{place}.{name}" if place else name, "it is required")
    return value


def _whole(value: Any, place: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MisplacedError(place, f"it is a whole number of at least {least}, found {_short(value)}")
    return value


def _unknown(what: str, name: Any, accepted: Any) -> str:
    close = nearest(str(name), accepted)
    offer = f"did you mean {close!r}? " if close else ""
    return f"unknown {what} {_short(name)}; {offer}accepted: {', '.join(accepted)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_COUNT = {"type": "integer", "minimum": 1}
_FROM_0 = {"type": "integer", "minimum": 0}
_ABOVE_0 = {"type": "number", "exclusiveMinimum": 0}
_WINDOW = _object(["kernel"], kernel=_COUNT, stride=_COUNT)
_PADDING = {"anyOf": [_FROM_0, {"enum": ["same", "valid"]}]}
_LAYER_SCHEMAS: dict[str, Any] = {
    "conv": _object(["channels", "kernel"], channels=_COUNT, kernel=_COUNT, stride=_COUNT, padding=_PADDING),
    "activation": {
        "anyOf": [{"enum": list(ACTIVATIONS)}, _object(["name"], name={"enum": list(ACTIVATIONS)}, omega=_ABOVE_0)]
    },
    "max_pool": _WINDOW,
    "avg_pool": {"anyOf": [{"const": GLOBAL}, _WINDOW]},
    "linear": _object(["features"], features={"anyOf": [_COUNT, {"enum": list(OUTPUTS)}]}),
    "add": _FROM_0,
}
ARCHITECTURE_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": list(ARCHITECTURES)},
        _object(
            ["layers"],
            layers={
                "type": "array",
                "minItems": 1,
                "items": {
                    "anyOf": [
                        {"enum": list(BARE)},
                        *(_object([kind], **{kind: schema}) for kind, schema in _LAYER_SCHEMAS.items()),
                    ]
                },
            },
            width=_ABOVE_0,
        ),
    ]
}
