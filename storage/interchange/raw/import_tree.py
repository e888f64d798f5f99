"""Publish a tree in the reference's format as a zoo. No code of the tree runs; every fault in it becomes a finding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...canonical import digest_of
from ...errors import FormatError, KeyFormatError, StorageUsageError
from ...formats.compression import CompressionName
from ...formats.labels import column_values, row_columns
from ...formats.layout import Layout
from ...formats.manifest import Parent
from ...formats.splits import SPLITS, SplitName, SplitRule
from ...formats.symmetry import chain_symmetries
from ...keys import run_prefix, zoo_prefix
from ...publish.description import ZooDescription
from ...publish.seal import Version
from ...stores.protocol import ObjectStore
from .architectures import SHARD_SHAPES, Network
from .findings import Findings
from .format import MAX_EPOCH, dataset_of, row_of
from .imported_configs import write_origin
from .lineage import Lineage
from .publish_models import publish_models
from .split_file import record_splits
from .states import StateReader, read_network
from .tree import RawTree, printable, read_tree

SOURCE = "a raw tree in the format of Schürholt et al. 2022, arXiv:2209.14764"


@dataclass(frozen=True)
class Imported:
    """The version that was sealed, and the findings about the tree."""

    version: Version
    findings: Findings


def import_raw(
    root: Path,
    store: ObjectStore,
    name: str | None = None,
    *,
    dataset: str | None = None,
    source: str | None = None,
    images: tuple[int, int, int] | None = None,
    split: SplitRule | None = None,
    splits: Mapping[str, SplitName] | None = None,
    parent: str | None = None,
    compression: CompressionName | None = None,
    first_checkpoint: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Publish the models of ``root`` as zoo ``name``. If our export wrote the tree, the manifest is restored from it.

    Args:
        name: name of the zoo; None: the name of the zoo that was exported.
        dataset, source: the values for the card. None: the data set is guessed from the tree's path and configs, and
            the source is ``SOURCE``.
        images: numbers of train, val and test images, of which accuracies are fractions.
        split: the rule; None: ``SplitRule()``.
        splits: recorded splits by the name of a model's folder, instead of a rule.
        parent: the zoo, in the same store, whose models were sparsified. The imported models get its splits.
        compression: compression of the shards; None: that of the exported zoo, if it has one.
        first_checkpoint: epoch of ``checkpoint_000000``, 0 or 1, if rows do not name checkpoints; None: the majority of
            models decides.
        progress: called with the number of states of each shard.

    Raises:
        StorageUsageError: there is no model, the zoo has no name, another zoo has the name, or one of ``dataset``,
            ``source``, ``split``, ``splits``, ``parent`` and ``first_checkpoint`` is given although our export wrote
            the tree. Nothing was written.
        FormatError: no model can be read; nothing was written.
    """
    tree = read_tree(root, first_checkpoint)
    rows = _rows(tree)
    described = {"dataset": dataset, "source": source, "split-rule": split, "splits": splits, "parent": parent,
                 "first-checkpoint": first_checkpoint}  # fmt: skip
    ignored = [f"--{option}" for option, value in described.items() if value is not None]
    if ignored and tree.own is not None:
        raise StorageUsageError(f"{root}: its zooforge.json describes the zoo; leave {', '.join(ignored)} out")
    if splits is not None and parent is not None:
        raise StorageUsageError(f"{root}: its models have the splits of the zoo they come from; leave --splits out")
    if not rows:
        reason = next(iter(tree.findings.absent.values()))
        raise FormatError(f"{root}: none of {len(tree.findings.absent)} models can be imported: {reason}")
    network = read_network(tree, {index: bool(row["dropout_ratio"]) for index, row in rows.items()})
    if tree.own is not None:
        description, run = _own_description(tree, tree.own, rows, name)
        if description.layout != network.layout:
            raise FormatError(f"{root}: the checkpoints are not of the network that zooforge.json describes")
        network = replace(network, noisy_layout=description.noisy_layout)
    else:
        if name is None:
            raise StorageUsageError(f"{root}: the tree does not name its zoo; --name does")
        if splits is not None:
            record_splits(tree, rows, splits, name)
            split = SplitRule(kind="recorded")
        lineage = None if parent is None else Lineage.of(store, parent, tree, rows)
        description, run = describe(tree, network, rows, name, dataset, source, split or SplitRule())
        if lineage is not None:
            description = lineage.apply(description)
    reader = StateReader(network, tree.findings)
    version = publish_models(store, tree, rows, reader, description, run, images, compression, progress)
    configs = {index: tree.models[index].config for index in rows if index not in tree.findings.absent}
    write_origin(store, version.zoo, version.number, configs)
    return Imported(version, tree.findings)


def _rows(tree: RawTree) -> dict[int, dict[str, Any]]:
    """The hyperparameters of each model. A model whose hyperparameters are not readable is left out."""
    rows = {}
    own = _own_rows(tree.own) if tree.own is not None else {}
    for index, model in tree.models.items():
        try:
            rows[index] = own[index] if index in own else row_of(model.config)
        except FormatError as error:
            tree.findings.drop(index, str(error))
    return rows


def _own_rows(own: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    try:
        columns = list(own["row_columns"])
        rows = [dict(zip(columns, row, strict=True)) for row in own["rows"]]
        kept = row_columns(columns)
        names = {column.name for column in kept}
        by_model = {int(row["model"]): {name: row[name] for name in names} for row in rows}
        for column in kept:
            values = np.empty(len(rows), object)
            values[:] = [row[column.name] for row in rows]
            column_values(column, values, len(rows))
        if own["parent"] is not None:
            for row in by_model.values():
                row["root_model"] = row["parent_model"]
        for model, split in own.get("splits", {}).items():
            if split not in SPLITS:
                raise ValueError(f"split {split!r} of model {model}")
            by_model[int(model)]["split"] = split
        return by_model
    except (KeyError, TypeError, ValueError, OverflowError, FormatError) as error:
        raise FormatError(f"zooforge.json: its rows are not readable ({type(error).__name__}: {error})") from None


def _own_description(
    tree: RawTree, own: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]], name: str | None
) -> tuple[ZooDescription, str]:
    """The description and the run that ``zooforge.json`` gives."""
    try:
        described = own["architecture"]
        buffers = described.get("buffers_layout")
        noisy, parent = own["noisy_layout"], own["parent"]
        description = ZooDescription(
            name=name or str(own["zoo"]),
            title=str(own["title"]),
            source=str(own["source"]),
            dataset=str(own["dataset"]),
            architecture=str(described["name"]),
            in_channels=int(described["in_channels"]),
            image_size=int(described["image_size"]),
            num_classes=int(described["num_classes"]),
            num_models=int(own["planned"]["models"]),
            num_epochs=int(own["planned"]["epochs"]),
            layout=Layout.from_json(own["layout"]),
            rows={**_own_rows(own), **rows},
            state_dict_names=own["state_dict_names"],
            layers=own["layers"],
            symmetries=own["symmetries"],
            noisy_layout=None if noisy is None else Layout.from_json(noisy),
            buffers_layout=None if buffers is None else Layout.from_json(buffers),
            counters=tuple(described.get("counters", ())),
            split=SplitRule.from_json(own["split"]),
            root_zoo=str(own["root_zoo"]),
            num_root_models=int(own["planned"]["models"]),
            parent=None if parent is None else Parent(parent["zoo"], parent["run"], parent["epoch"]),
            absent={int(model): str(reason) for model, reason in own["absent"]},
            compression="delta-zstd" if own.get("compression") else None,
            shard_shape=SHARD_SHAPES.get(str(described["name"])),
            notes=tuple(str(note) for note in own.get("notes", ())),
            data=None if own.get("data") is None else dict(own["data"]),
        )
        tensors = {entry.name for entry in description.layout.entries}
        if any(set(names) != tensors for names in description.state_dict_names.values()):
            raise ValueError("state_dict_names are not those of the layout")
        run_prefix(str(own["run"]))
    except (KeyError, TypeError, ValueError, AttributeError, FormatError, KeyFormatError) as error:
        raise FormatError(f"{tree.root}: zooforge.json is not readable ({type(error).__name__}: {error})") from None
    zoo_prefix(description.name)
    return description, str(own["run"])


def describe(
    tree: RawTree,
    network: Network,
    rows: Mapping[int, Mapping[str, Any]],
    name: str,
    dataset: str | None,
    source: str | None,
    split: SplitRule,
) -> tuple[ZooDescription, str]:
    """The description of a zoo of the reference, and a run id that is derived from its models."""
    zoo_prefix(name)
    configs = [model.config for model in tree.models.values()]
    planned = [config.get("training::epochs_train") for config in configs]
    num_epochs = max(
        [n for n in planned if type(n) is int and n <= MAX_EPOCH] + [m.last_epoch for m in tree.models.values()]
    )
    absent = {i: "no folder in the tree" for i in range(tree.num_models) if i not in rows}
    try:
        symmetries = chain_symmetries(network.layout) if network.buffers_layout is None else []
    except FormatError:
        symmetries = []
    identity = {
        "imported": [[index, row["row_digest"]] for index, row in rows.items()],
        "layout": network.layout.to_json(),
        "last_epochs": [model.last_epoch for model in tree.models.values()],
    }
    description = ZooDescription(
        name=name,
        title=f"Imported: {printable(tree.root.resolve().name)}",
        source=source or SOURCE,
        dataset=dataset or dataset_of(tree.root.resolve().name, str(configs[0].get("dataset::dump", ""))),
        architecture=network.name,
        in_channels=network.in_channels,
        image_size=network.image_size,
        num_classes=network.num_classes,
        num_models=tree.num_models,
        num_epochs=num_epochs,
        layout=network.layout,
        rows=rows,
        state_dict_names=network.state_dict_names,
        layers=network.layers,
        symmetries=symmetries,
        noisy_layout=network.noisy_layout,
        buffers_layout=network.buffers_layout,
        counters=network.counters,
        split=split,
        absent=absent,
        shard_shape=SHARD_SHAPES.get(network.name),
    )
    return description, digest_of(identity)[:32]
