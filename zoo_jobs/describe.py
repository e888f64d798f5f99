"""A zoo as plain data for storage: layout, layer lists, names, symmetries, rows. Pure."""

import itertools
from dataclasses import asdict
from typing import Any

from storage.description import ZooDescription
from storage.manifest import Parent

from .grid import ModelRow, rows
from .models import ResNet18, architecture
from .models.layers import (
    Activation,
    Architecture,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    Parametric,
)
from .population.contract import noisy_layout
from .twin import TwinSpec, Zoo


def describe(zoo: Zoo) -> ZooDescription:
    """All of ``zoo`` that publishing needs; equal specs give equal values."""
    spec = zoo.root

    def network(dropout: bool) -> Architecture | ResNet18:
        return architecture(
            spec.architecture,
            spec.in_channels,
            spec.axes.activation[0],
            dropout,
            num_classes=spec.num_classes,
            image_size=spec.image_size,
        )

    plain = network(False)
    variants = {"plain": plain}
    if isinstance(plain, Architecture) and network(True) != plain:
        variants["dropout"] = network(True)
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
        symmetries=symmetries(plain) if isinstance(plain, Architecture) else [],
        noisy_layout=noisy_layout(plain) if twins and isinstance(plain, Architecture) else None,
        buffers_layout=plain.buffer_layout if isinstance(plain, ResNet18) else None,
        counters=plain.counter_names if isinstance(plain, ResNet18) else (),
        root_zoo=spec.name,
        num_root_models=len(rows(spec)),
        parent=Parent(zoo.parent.name, zoo.parent.run_id, zoo.source_epoch) if isinstance(zoo, TwinSpec) else None,
        notes=spec.conflicts,
    )


def _row(row: ModelRow, zoo: Zoo) -> dict[str, Any]:
    values = asdict(row)
    index = values.pop("index")
    parent = {}
    if isinstance(zoo, TwinSpec):
        parent = {"parent_zoo": zoo.parent.name, "parent_model": index, "parent_epoch": zoo.source_epoch}
    return {"row_digest": row.digest, **values, **parent}


def layer_json(layer: Layer) -> dict[str, Any]:
    """One layer as the manifest's layer list has it; the activation is a hyperparameter of the model's row."""
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


def symmetries(network: Architecture) -> list[dict[str, Any]]:
    """Permutation groups: hidden units of each layer but the last may be reordered, if the next layer follows.

    Each group names the tensors and axes that move together; ``block`` is the number of consecutive values of the
    axis that belong to one unit, more than one behind a flatten layer.
    """
    found = []
    parametric = network.parametric
    for this, following in itertools.pairwise(parametric):
        units = _outputs(this)
        inputs = following.layer.in_channels if isinstance(following.layer, Conv2d) else following.layer.in_features
        members = [
            {"tensor": f"{this.name}.weight", "axis": 0, "block": 1},
            {"tensor": f"{this.name}.bias", "axis": 0, "block": 1},
            {"tensor": f"{following.name}.weight", "axis": 1, "block": inputs // units},
        ]
        found.append({"name": this.name, "size": units, "members": members})
    return found


def _outputs(parametric: Parametric) -> int:
    layer = parametric.layer
    return layer.out_channels if isinstance(layer, Conv2d) else layer.out_features
