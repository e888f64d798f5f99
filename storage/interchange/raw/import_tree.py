"""Publish a tree in the reference's format as a zoo. No code of the tree runs; every fault in it becomes a finding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...canonical import digest_of
from ...errors import FormatError, KeyFormatError, StorageUsageError
from ...formats.blocks import Digests, write_blocks
from ...formats.compression import Compression, CompressionName
from ...formats.labels import ROW_COLUMNS, column_values
from ...formats.layout import Layout
from ...formats.manifest import FieldEntry, Manifest, Parent, ShardEntry, group_rows, shard_shape
from ...formats.splits import SPLITS, SplitName, SplitRule
from ...formats.symmetry import chain_symmetries
from ...formats.tensors import tensor_name, unpack_mask
from ...keys import run_prefix, zoo_prefix
from ...publish.description import ZooDescription
from ...publish.head import read_head, read_manifest_bytes
from ...publish.seal import Version, assemble, seal
from ...publish.shards import write_shard
from ...publish.zoo_tables import write_tables
from ...stores.protocol import ObjectStore
from .architectures import SHARD_SHAPES, Network
from .findings import Findings
from .format import MAX_EPOCH, dataset_of, row_of
from .imported_configs import write_origin
from .labels import image_counts, label_values
from .lineage import Lineage
from .masks import num_pruned
from .split_file import record_splits
from .states import Fields, StateReader, read_network
from .tree import RawModel, RawTree, printable, read_tree

SOURCE = "a raw tree in the format of Schürholt et al. 2022, arXiv:2209.14764"
_DTYPES = {"": "F32", ".log_sigma2": "F32", ".mask": "U8", ".buffers": "F32", ".counters": "I64"}


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
    """Publish the models of ``root`` as zoo ``name``. An export of ours becomes the manifest that it was written from.

    Args:
        name: None: that of the zoo that was exported.
        dataset, source: for the card; None: guessed from the tree's path and configs, or those of the export.
        images: numbers of train, val and test images that accuracies are fractions of.
        split: the rule for a tree that is no export of ours.
        splits: recorded splits by the name of a model's folder, instead of a rule.
        parent: zoo of the same store whose models these were sparsified from: they share its splits.
        compression: of the shards; None: as in the exported zoo, else none.
        first_checkpoint: epoch of ``checkpoint_000000``, 0 or 1, where rows do not name checkpoints; None: as most
            models have it.
        progress: called with the number of states of each shard.

    Raises:
        StorageUsageError: no model here, no name, or another zoo has it; nothing was written.
        FormatError: no model can be read; nothing was written.
    """
    tree = read_tree(root, first_checkpoint)
    rows = _rows(tree)
    if parent is not None and tree.own is not None:
        raise StorageUsageError(f"{root}: the tree says itself where its models come from; leave --parent out")
    if splits is not None and (parent is not None or tree.own is not None):
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
        description, run = _description(tree, network, rows, name, dataset, source, split or SplitRule())
        if lineage is not None:
            description = lineage.apply(description)
    here = {(index, epoch) for index in rows for epoch in tree.models[index].checkpoints}
    _refuse_other_zoo(store, description.name, run, here)
    named = compression or description.compression
    packed = None if named is None else Compression.named(named)
    builder = _Shards(store, tree, rows, StateReader(network, tree.findings), description, packed)
    builder.build(progress)
    if not builder.lasts:
        raise FormatError(f"{root}: no state of any model can be read; {tree.findings.lines()[0]}")
    counts = image_counts(tree.models, description.dataset, images, tree.findings)
    twin = network.noisy_layout is not None
    labels = label_values(tree.models, builder.lasts, builder.faulty, builder.pruned, counts, twin, tree.findings)
    absent = {**description.absent, **tree.findings.absent}
    description = replace(description, absent={m: r for m, r in absent.items() if m not in builder.lasts})
    tables = write_tables(store, description, [labels], builder.lasts, twin)
    blocks = write_blocks(store, builder.digests, builder.shards)
    manifest = assemble(description, run, builder.lasts, builder.shards, builder.fields, tables, twin, packed, blocks)

    def build(base: Manifest | None) -> Manifest:
        if base is not None:
            _refuse_to_shrink(store, base, _states(manifest))
        return manifest

    version = seal(store, description, build)
    configs = {index: tree.models[index].config for index in builder.lasts}
    write_origin(store, version.zoo, version.number, configs)
    return Imported(version, tree.findings)


def _rows(tree: RawTree) -> dict[int, dict[str, Any]]:
    """Hyperparameters by model; a model without readable ones is left out."""
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
        names = {column.name for column in ROW_COLUMNS}
        by_model = {int(row["model"]): {name: row[name] for name in names} for row in rows}
        for column in ROW_COLUMNS:
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
        )
        tensors = {entry.name for entry in description.layout.entries}
        if any(set(names) != tensors for names in description.state_dict_names.values()):
            raise ValueError("state_dict_names are not those of the layout")
        run_prefix(str(own["run"]))
    except (KeyError, TypeError, ValueError, AttributeError, FormatError, KeyFormatError) as error:
        raise FormatError(f"{tree.root}: zooforge.json is not readable ({type(error).__name__}: {error})") from None
    zoo_prefix(description.name)
    return description, str(own["run"])


def _description(
    tree: RawTree,
    network: Network,
    rows: Mapping[int, Mapping[str, Any]],
    name: str,
    dataset: str | None,
    source: str | None,
    split: SplitRule,
) -> tuple[ZooDescription, str]:
    """The description of a zoo of the reference, and a run id made of its models."""
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


def _refuse_other_zoo(store: ObjectStore, name: str, run: str, here: set[tuple[int, int]]) -> None:
    head = read_head(store, name)
    if head is None:
        return
    number, data = read_manifest_bytes(store, name, head.number)
    base = Manifest.from_json(data, f"zoo {name!r}, version {number}")
    if base.run != run:
        raise StorageUsageError(f"{store.url}: zoo {name!r} is there already, with other models; --name gives another")
    _refuse_to_shrink(store, base, here)


def _refuse_to_shrink(store: ObjectStore, base: Manifest, here: set[tuple[int, int]]) -> None:
    """Refuse to seal a version that lacks a state of the current one."""
    lost = _states(base) - here
    if lost:
        model, epoch = min(lost)
        raise StorageUsageError(
            f"{store.url}: zoo {base.zoo!r} has {len(lost):,} states that the tree lacks, e.g. model {model} at "
            f"epoch {epoch}; --name gives another zoo"
        )


def _states(manifest: Manifest) -> set[tuple[int, int]]:
    return {
        (model, epoch)
        for shard in manifest.shards
        for epoch, models in shard.models_by_epoch().items()
        for model in models
    }


class _Shards:
    """Read the tree and write shards, one at a time; collect what labels and manifest need."""

    def __init__(
        self,
        store: ObjectStore,
        tree: RawTree,
        rows: Mapping[int, Mapping[str, Any]],
        reader: StateReader,
        description: ZooDescription,
        compression: Compression | None,
    ) -> None:
        self.store, self.tree, self.reader = store, tree, reader
        self.compression = compression
        self.shape = shard_shape(description.shard_shape, description.layout.size, compression is not None)
        self.models: list[RawModel] = [tree.models[index] for index in sorted(rows)]
        self.noisy = reader.network.noisy_layout
        self.shards: list[ShardEntry] = []
        self.digests: dict[str, Digests] = {}  # of the blocks, by SHA-256 of the shard
        self.fields: dict[str, FieldEntry] = {}
        self.lasts: dict[int, int] = {}
        self.faulty: dict[int, tuple[int, str]] = {}
        self.pruned: dict[tuple[int, int], tuple[int, int]] = {}

    def build(self, progress: Callable[[int], None] | None) -> None:
        num_models, num_epochs = self.shape
        blocks: dict[int, list[RawModel]] = {}
        for model in self.models:
            blocks.setdefault(model.index - model.index % num_models, []).append(model)
        for first_model, members in sorted(blocks.items()):
            for model in members:
                self._known_fault(model)
            starts = {epoch - epoch % num_epochs for model in members for epoch in model.checkpoints}
            for first_epoch in sorted(starts):
                self._shard(first_model, first_epoch, members, progress)
        for model in self.models:
            if model.index not in self.lasts:
                self.tree.findings.drop(model.index, "none of its checkpoints is readable")

    def _known_fault(self, model: RawModel) -> None:
        """Take the faulty epoch from an export of ours: its weights need not be in the tree."""
        for row in model.own.values():
            if row.get("faulty_epoch") is not None:
                self.faulty[model.index] = (int(row["faulty_epoch"]), str(row.get("faulty_reason", "nan")))

    def _shard(
        self, first_model: int, first_epoch: int, members: list[RawModel], progress: Callable[[int], None] | None
    ) -> None:
        here: dict[int, list[int]] = {}
        values: dict[tuple[str, int], list[Any]] = {}
        for model in members:
            for epoch in model.checkpoints:
                if first_epoch <= epoch < first_epoch + self.shape[1]:
                    state = self.reader.read(model, epoch)
                    if state is None or not self._accept(model, epoch, state):
                        continue
                    here.setdefault(epoch, []).append(model.index)
                    for name, array in state.items():
                        values.setdefault((name, epoch), []).append(array)
        if not here:
            return
        here = dict(sorted(here.items()))
        tensors = {tensor_name(epoch, name): np.stack(values[name, epoch]) for name, epoch in sorted(values)}
        for name, epoch in values:
            entry = FieldEntry(_DTYPES[name], values[name, epoch][0].size)
            self.fields.setdefault(name, entry)
        written = write_shard(self.store, tensors, self.compression, listed=self.shape != (1, 1))
        if written.digests is not None:
            self.digests[written.ref.sha256] = written.digests
        self.shards.append(ShardEntry(written.ref, first_model, first_epoch, group_rows(here), written.tensors))
        if progress is not None:
            progress(sum(len(models) for models in here.values()))

    def _accept(self, model: RawModel, epoch: int, state: Fields) -> bool:
        """Record what the labels need of the state. False, with a finding, if it contradicts an earlier state."""
        index = model.index
        finite = bool(np.isfinite(state[""]).all())
        fault = self.faulty.get(index)
        if finite and fault is not None and fault[0] <= epoch:
            self.tree.findings.add(
                index, f"epoch {epoch} is finite, epoch {fault[0]} was not: no weights of that epoch"
            )
            return False
        if not finite and fault is None:
            reason = "nan" if np.isnan(state[""]).any() else "inf"
            self.faulty[index] = (epoch, reason)
            self.tree.findings.add(
                index, f"weights are not finite ({reason}) from epoch {epoch} on; it stays, labelled"
            )
        if self.noisy is not None:
            self.pruned[index, epoch] = num_pruned(unpack_mask(state[".mask"], self.noisy.size), self.noisy)
        self.lasts[index] = model.last_epoch
        return True
