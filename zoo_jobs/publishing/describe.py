"""Describes a zoo to storage as plain data: layout, layer lists, names, symmetries, rows. Pure."""

import itertools
from dataclasses import asdict
from typing import Any

from zooforge.storage.formats.manifest import Parent
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.publish.description import ZooDescription

from ..engines.contract import noisy_layout
from ..models.layers import Activation, Architecture, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, Parametric
from ..models.registry import ARCHITECTURES, ResNet18
from ..models.resnet18 import ConvUnit
from ..spec.grid import ModelRow, rows
from ..spec.twins import TwinSpec, Zoo


def describe(zoo: Zoo) -> ZooDescription:
    """Everything that publishing needs to know about ``zoo``; equal specs give equal values."""
    spec = zoo.root
    plain, with_dropout = (spec.network(spec.axes.activation[0], dropout) for dropout in (False, True))
    variants = {"plain": plain}
    if isinstance(plain, Architecture) and with_dropout != plain:
        variants["dropout"] = with_dropout
    twins = isinstance(zoo, TwinSpec)
    table = rows(zoo)
    return ZooDescription(
        name=zoo.name,
        title=f"Sparsified twins of {spec.name}" if twins else spec.description,
        source=spec.source,
        dataset=spec.dataset,
        architecture=spec.architecture,
        in_channels=spec.in_channels,
        image_size=spec.image_size,
        num_classes=spec.num_classes,
        num_models=len(table),
        num_epochs=zoo.num_epochs,
        layout=plain.layout,
        rows={row.index: _row(row, zoo) for row in table},
        state_dict_names={name: variant.state_dict_names for name, variant in variants.items()},
        layers={
            name: [layer_json(layer) for layer in variant.layers]
            for name, variant in variants.items()
            if isinstance(variant, Architecture)
        },
        symmetries=symmetries(plain),
        noisy_layout=noisy_layout(plain) if twins and isinstance(plain, Architecture) else None,
        buffers_layout=plain.buffer_layout if isinstance(plain, ResNet18) else None,
        counters=plain.counter_names if isinstance(plain, ResNet18) else (),
        split=SplitRule(spec.split_rule.kind, group=spec.split_rule.group),
        root_zoo=spec.name,
        root_rows={row.index: _row(row, spec) for row in rows(spec)} if twins and spec.split_rule.group else None,
        num_root_models=len(rows(spec)),
        parent=Parent(zoo.parent.name, zoo.parent.run_id, zoo.source_epoch) if isinstance(zoo, TwinSpec) else None,
        notes=spec.conflicts,
        compression=spec.compression,
        shard_shape=ARCHITECTURES[spec.architecture].shard_shape,
    )


def _row(row: ModelRow, zoo: Zoo) -> dict[str, Any]:
    values = asdict(row)
    index = values.pop("index")
    parent = {}
    if isinstance(zoo, TwinSpec):
        parent = {"parent_zoo": zoo.parent.name, "parent_model": index, "parent_epoch": zoo.source_epoch}
    return {"row_digest": row.digest, **values, **parent}


def layer_json(layer: Layer) -> dict[str, Any]:
    """One layer as an entry of the manifest's layer list; its activation is a hyperparameter in the model's row."""
    match layer:
        case Conv2d():
            return {"type": "conv2d", **asdict(layer)}
        case MaxPool2d():
            return {"type": "max_pool2d", "kernel_size": 2}
        case Activation():
            return {"type": "activation"}
        case Dropout():
            return {"type": "dropout"}
        case Flatten():
            return {"type": "flatten"}
        case Linear():
            return {"type": "linear", **asdict(layer)}


def symmetries(network: Architecture | ResNet18) -> list[dict[str, Any]]:
    """Permutation groups in the form that storage/formats/symmetry.py reads: reordering them changes no logit."""
    return _chain(network) if isinstance(network, Architecture) else _residual(network)


def _chain(network: Architecture) -> list[dict[str, Any]]:
    """Hidden units of each layer but the last may be reordered if the inputs of the next layer are reordered too.

    ``block`` is the number of consecutive values of an axis that belong to one unit, more than one behind a flatten
    layer.
    """
    groups = []
    parametric = network.parametric
    for this, following in itertools.pairwise(parametric):
        units = _outputs(this)
        inputs = following.layer.in_channels if isinstance(following.layer, Conv2d) else following.layer.in_features
        axes = [
            _axis(f"{this.name}.weight", 0),
            _axis(f"{this.name}.bias", 0),
            _axis(f"{following.name}.weight", 1, inputs // units),
        ]
        groups.append({"name": this.name, "size": units, "axes": axes})
    return groups


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


def _outputs(parametric: Parametric) -> int:
    layer = parametric.layer
    return layer.out_channels if isinstance(layer, Conv2d) else layer.out_features
