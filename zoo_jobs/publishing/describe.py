"""Describes a zoo to storage as plain data: layout, layer lists, names, symmetries, rows. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

from zooforge.storage.formats.manifest import Parent
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.keys import code_key
from zooforge.storage.publish.description import ZooDescription

from ..data.own import identity_of
from ..data.registry import DATASETS
from ..engines.contract import noisy_layout
from ..models.arithmetic import PRECISIONS
from ..models.layers import (
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
)
from ..models.registry import CodeNetwork, Network, ResNet18
from ..models.resnet18 import ConvUnit
from ..spec.blocks import LATER_AXES
from ..spec.grid import ModelRow, root_models, rows
from ..spec.own_code import OwnCode
from ..spec.twins import TwinSpec, Zoo
from ..spec.zoo import ZooSpec


def describe(zoo: Zoo) -> ZooDescription:
    """Everything that publishing needs to know about ``zoo``; equal specs give equal values."""
    spec = zoo.root
    plain, with_dropout = (spec.network(spec.axis_values("activation")[0], dropout) for dropout in (False, True))
    variants = {"plain": plain}
    if isinstance(plain, Architecture) and with_dropout != plain:
        variants["dropout"] = with_dropout
    twins, root = isinstance(zoo, TwinSpec), spec.family_root
    table = rows(zoo)
    return ZooDescription(
        name=zoo.name,
        title=f"Sparsified twins of {spec.name}" if twins else spec.description,
        source=spec.source,
        dataset=spec.dataset_name,
        architecture=spec.architecture_name,
        in_channels=plain.in_channels,
        image_size=plain.image_size,
        num_classes=spec.num_classes,
        num_models=len(table),
        num_epochs=zoo.num_epochs,
        layout=plain.layout,
        rows={row.index: _row(row, zoo) for row in table},
        state_dict_names={name: variant.state_dict_names for name, variant in variants.items()},
        layers={name: _layers(spec, name == "dropout") for name in variants if isinstance(plain, Architecture)},
        symmetries=symmetries(plain),
        noisy_layout=noisy_layout(plain) if twins and isinstance(plain, Architecture) else None,
        buffers_layout=plain.buffer_layout if plain.buffer_layout.size or plain.counter_names else None,
        counters=plain.counter_names,
        split=SplitRule(root.split_rule.kind, group=root.split_rule.group),
        root_zoo=root.name if spec.images is None else f"images of {identity_of(spec.dataset)}",
        root_rows={row.index: _row(row, root) for row in rows(root)} if zoo != root and root.split_rule.group else None,
        num_root_models=len(rows(root)),
        parent=Parent(zoo.parent.name, zoo.parent.run_id, zoo.source_epoch) if isinstance(zoo, TwinSpec) else None,
        notes=(*spec.conflicts, *_images(spec), *_family(zoo), *_code(spec), *_start(spec), *_arithmetic(spec)),
        compression=spec.compression,
        shard_shape=spec.architecture_row.shard_shape,
        data=image_facts(spec),
        task=_task(spec),
    )


def _task(spec: ZooSpec) -> dict[str, Any] | None:
    if spec.images is None:
        return None
    shape = [spec.in_channels, spec.image_size, spec.image_size]
    return {"name": spec.task, "image_shape": shape, "steps_per_epoch": spec.steps_per_epoch}


def image_facts(spec: ZooSpec) -> dict[str, Any]:
    """JSON: the data set of a zoo, its licence, and how its images were prepared and split."""
    entry = DATASETS.get(spec.dataset_name)  # a user's own images have none
    return {
        "dataset": spec.dataset_name,
        "licence": "yours" if entry is None else entry.licence,
        "home": None if entry is None else entry.home,
        "preprocessing": spec.preprocessing.model_dump(mode="json"),
        "split": spec.split.model_dump(mode="json"),
    }


def _images(spec: ZooSpec) -> tuple[str, ...]:
    """Facts for readers about networks that each represent one image."""
    if spec.images is None:
        return ()
    return (
        f"Each model learns one image of {spec.dataset_name}, column image: from the row and the column of a pixel, "
        "both in -1 to 1, to byte / 255. Models of one image are in one split, whatever their zoo.",
    )


def _start(spec: ZooSpec) -> tuple[str, ...]:
    """The start of all models, if it is not the default one; the labels have no column for it."""
    notes = []
    if spec.initializer_scale != 1:
        notes.append(f"The initial weights of every model are its initializer's times {spec.initializer_scale:g}.")
    if spec.initial_bias != ZooSpec.model_fields["initial_bias"].default:
        notes.append(f"The initial biases of every model are {spec.initial_bias:g}.")
    if spec.weight_decay_on == "kernels":
        notes.append("Weight decay shrinks weights with at least two axes, and no biases.")
    return tuple(notes)


def _family(zoo: Zoo) -> tuple[str, ...]:
    """The start of the models of a family."""
    start = zoo.root.start
    if start is None or isinstance(zoo, TwinSpec):
        return ()
    head = "" if start.head == "keep" else " but those of the last layer"
    return (
        f"Every model began with the weights of a model of {start.zoo} (run {start.spec.run_id}) after epoch "
        f"{start.epoch}, all{head}; columns parent_zoo, parent_model and parent_epoch say of which. A model is in the "
        f"split of its root, a model of {zoo.root.family_root.name}.",
    )


def _code(spec: ZooSpec) -> tuple[str, ...]:
    """The place of a network's code, because readers cannot build such a network."""
    own = spec.architecture
    if not isinstance(own, OwnCode):
        return ()
    return (
        f"The networks are instances of the class {own.class_name} in {code_key(spec.run_id)} of the store where they "
        f"were grown, SHA-256 {own.text.sha256}. Readers never run it.",
    )


def _arithmetic(spec: ZooSpec) -> tuple[str, ...]:
    """Facts for readers about arithmetic that is not plain float32."""
    plain = spec.precision == "float32"
    return () if plain else (f"Precision: trained and evaluated in {spec.precision}: {PRECISIONS[spec.precision]}.",)


def _row(row: ModelRow, zoo: Zoo) -> dict[str, Any]:
    values = asdict(row)
    index = values.pop("index")
    for name in LATER_AXES:
        if not zoo.root.varies(name):
            del values[name]
    lineage: dict[str, Any] = {} if row.image is None else {"root_model": row.image}
    if zoo.root.start is not None:
        lineage = {"parent_zoo": zoo.root.start.zoo, "root_model": root_models(zoo.root)[index]}
    if isinstance(zoo, TwinSpec):
        lineage |= {"parent_zoo": zoo.parent.name, "parent_model": index, "parent_epoch": zoo.source_epoch}
    return {"row_digest": row.digest, **values, **lineage}


def _layers(spec: ZooSpec, dropout: bool) -> list[dict[str, Any]]:
    """The manifest's layer list. A layer that changes with the model's activation is the model's own."""
    one, other = (spec.network(name, dropout).layers or () for name in ("relu", "tanh"))
    return [
        {"type": "activation"} if layer != another else layer_json(layer)
        for layer, another in zip(one, other, strict=True)
    ]


def layer_json(layer: Layer) -> dict[str, Any]:
    """One layer as an entry of the manifest's layer list. What came later is written only where it is not the default
    of a manifest without it.
    """
    match layer:
        case Conv2d():
            value = {"type": "conv2d", **asdict(layer)}
            unused = [name for name, default in (("stride", 1), ("padding", 0)) if value[name] == default]
            return {name: number for name, number in value.items() if name not in unused}
        case MaxPool2d(kernel_size=kernel, stride=stride):
            strides = {} if stride == kernel else {"stride": stride}
            return {"type": "max_pool2d", "kernel_size": kernel, **strides}
        case AvgPool2d():
            return {"type": "avg_pool2d", **asdict(layer)}
        case GlobalAvgPool2d():
            return {"type": "global_avg_pool2d"}
        case Add():
            return {"type": "add", **asdict(layer)}
        case Activation(name=name, omega=omega):
            return {"type": "activation", "name": name, **({} if omega == 1 else {"omega": omega})}
        case Dropout():
            return {"type": "dropout"}
        case Flatten():
            return {"type": "flatten"}
        case Linear():
            return {"type": "linear", **asdict(layer)}


def symmetries(network: Network) -> list[dict[str, Any]]:
    """Permutation groups in the form that storage/formats/symmetry.py reads: reordering them changes no logit.

    Those of code are not known: none.
    """
    if isinstance(network, CodeNetwork):
        return []
    return _of_list(network) if isinstance(network, Architecture) else _residual(network)


@dataclass(eq=False, slots=True)
class _Units:
    """Channels or units that are reordered together: the first layer that gives them, and the axes over them.

    Attributes:
        axes: (tensor, axis, its length) in the order of the layers.
        size: units; an axis that is longer has several neighbouring values per unit.
        fixed: they are the network's inputs or outputs, or have no common order.
    """

    name: str
    size: int
    axes: list[tuple[str, int, int]]
    fixed: bool = False
    merged: "_Units | None" = None

    @property
    def root(self) -> "_Units":
        return self if self.merged is None else self.merged.root


def _of_list(network: Architecture) -> list[dict[str, Any]]:
    """Outputs of a layer may be reordered if all that read them are reordered too; a residual sum joins its two sides.

    ``block`` is the number of neighbouring values of an axis that belong to one unit, more than one after a flatten
    layer.
    """
    parametric = {p.index: p for p in network.parametric}
    current = _Units("", network.in_channels, [], fixed=True)
    found: list[_Units] = []
    after: list[_Units] = []
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Conv2d | Linear):
            name = parametric[index].name
            inputs, outputs = (
                (layer.in_channels, layer.out_channels)
                if isinstance(layer, Conv2d)
                else (layer.in_features, layer.out_features)
            )
            current.root.axes.append((f"{name}.weight", 1, inputs))
            current = _Units(name, outputs, [(f"{name}.weight", 0, outputs), (f"{name}.bias", 0, outputs)])
            found.append(current)
        elif isinstance(layer, Add):
            current = _joined(after[layer.source].root, current.root)
        after.append(current)
    current.root.fixed = True
    return [
        {"name": g.name, "size": g.size, "axes": [_axis(tensor, axis, n // g.size) for tensor, axis, n in g.axes]}
        for g in found
        if g.merged is None and not g.fixed
    ]


def _joined(one: _Units, other: _Units) -> _Units:
    """Join two groups into one at the place of the earlier layer, with the units of the side that has fewer."""
    if one is other:
        return one
    few, many = sorted((one.size, other.size))
    one.axes += other.axes
    one.size = few
    one.fixed = one.fixed or other.fixed or many % few != 0
    other.merged = one
    return one


def _residual(network: ResNet18) -> list[dict[str, Any]]:
    """Channels of the residual stream of each stage, to which all its blocks add, and those inside each block.

    A group begins with the layer that computes its channels from those of an earlier group.
    """
    groups: list[dict[str, Any]] = []
    blocks: dict[str, dict[str, ConvUnit]] = {}
    for unit in network.units[1:]:
        prefix, _, name = unit.conv.partition(".conv") if ".conv" in unit.conv else unit.conv.partition(".downsample")
        blocks.setdefault(prefix, {})[name] = unit
    stream: dict[str, Any] = {
        "name": "conv1",
        "size": network.units[0].out_channels,
        "axes": _output_axes(network.units[0]),
    }
    groups.append(stream)
    for prefix, block in blocks.items():
        first, second, shortcut = block["1"], block["2"], block.get(".0")
        inside: dict[str, Any] = {"name": first.conv, "size": first.out_channels, "axes": _output_axes(first)}
        inside["axes"].append(_axis(f"{second.conv}.weight", 1))
        stream["axes"].append(_axis(f"{first.conv}.weight", 1))
        if shortcut is not None:
            stream["axes"].append(_axis(f"{shortcut.conv}.weight", 1))
            stream = {"name": prefix, "size": shortcut.out_channels, "axes": _output_axes(shortcut)}
            groups.append(stream)
        stream["axes"] += _output_axes(second)
        groups.append(inside)
    stream["axes"].append(_axis("fc.weight", 1))
    return groups


def _output_axes(unit: ConvUnit) -> list[dict[str, Any]]:
    """The axes that run over the outputs of a convolution with its normalisation, buffers included."""
    buffers = (f"{unit.norm}.running_mean", f"{unit.norm}.running_var")
    return [_axis(name, 0) for name in (f"{unit.conv}.weight", f"{unit.norm}.weight", f"{unit.norm}.bias", *buffers)]


def _axis(tensor: str, axis: int, block: int = 1) -> dict[str, Any]:
    return {"tensor": tensor, "axis": axis, "block": block}
