"""Publish models that were read from files of other programs: write shards, labels, splits and the manifest."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ...errors import FormatError, StorageUsageError
from ...formats.blocks import Digests, write_blocks
from ...formats.compression import Compression, CompressionName
from ...formats.manifest import FieldEntry, Manifest
from ...formats.norms import weight_norms
from ...formats.shards import ShardEntry, group_rows, shard_shape
from ...formats.tensors import tensor_name, unpack_mask
from ...publish.description import ZooDescription
from ...publish.head import read_head, read_manifest_bytes, require_publishing
from ...publish.seal import Version, assemble, seal
from ...publish.shards import write_shard
from ...publish.zoo_tables import write_tables
from ...stores.protocol import ObjectStore
from .architectures import Network
from .labels import image_counts, label_values
from .masks import num_pruned
from .states import Fields
from .tree import RawModel, RawTree, printable

_DTYPES = {"": "F32", ".log_sigma2": "F32", ".mask": "U8", ".buffers": "F32", ".counters": "I64"}


class ModelReader(Protocol):
    """Reads the states of a tree's models; ``network`` describes the network that they share."""

    network: Network

    def read(self, model: RawModel, epoch: int) -> Fields | None:
        """The fields of a state by suffix (``""``: weights); None, with a finding, if the state is not readable."""
        ...


def publish_models(
    store: ObjectStore,
    tree: RawTree,
    rows: Mapping[int, Mapping[str, Any]],
    reader: ModelReader,
    description: ZooDescription,
    run: str,
    images: tuple[int, int, int] | None,
    compression: CompressionName | None,
    progress: Callable[[int], None] | None,
) -> Version:
    """Publish the models of ``rows``. Findings are added to those of the tree.

    Raises:
        StorageUsageError: another zoo has the name, or the current version has states that the tree lacks. Nothing was
            written.
        FormatError: no state can be read.
    """
    here = {(index, epoch) for index in rows for epoch in tree.models[index].checkpoints}
    _refuse_other_zoo(store, description.name, run, here)
    named = compression or description.compression
    packed = None if named is None else Compression.named(named)
    require_publishing(store)

    def write() -> tuple[ZooDescription, Manifest]:
        builder = _Shards(store, tree, rows, reader, description, packed)
        builder.build(progress)
        if not builder.lasts:
            raise FormatError(f"{printable(tree.root)}: no state of any model can be read; {tree.findings.lines()[0]}")
        lasts = builder.lasts
        counts = image_counts(tree.models, description.dataset, images, tree.findings)
        twin = reader.network.noisy_layout is not None
        labels = label_values(
            tree.models, lasts, builder.faulty, builder.pruned, builder.norms, counts, twin, tree.findings
        )
        absent = {**description.absent, **tree.findings.absent}
        described = replace(description, absent={m: r for m, r in absent.items() if m not in lasts})
        tables = write_tables(store, described, [labels], lasts)
        blocks = write_blocks(store, builder.digests, builder.shards)
        data = None if described.data is None else dict(described.data)
        return described, assemble(
            described, run, lasts, builder.shards, builder.fields, tables, twin, packed, blocks, data
        )

    described, manifest = write()
    written = [manifest]

    def build(base: Manifest | None) -> Manifest:
        if base is not None:
            _refuse_to_shrink(store, base, _states(manifest))
        # A second call means that a collection may have deleted an object, so all are written again.
        return written.pop() if written else write()[1]

    return seal(store, described, build)


def _refuse_other_zoo(store: ObjectStore, name: str, run: str, here: set[tuple[int, int]]) -> None:
    head = read_head(store, name)
    if head is None:
        return
    number, data = read_manifest_bytes(store, name, head.number)
    base = Manifest.from_json(data, f"zoo {name!r}, version {number}")
    if base.run != run:
        raise StorageUsageError(f"{store.url}: zoo {name!r} exists already, with other models; --name gives another")
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
    """Reads the tree, writes one shard at a time, and collects the values that labels and manifest need."""

    def __init__(
        self,
        store: ObjectStore,
        tree: RawTree,
        rows: Mapping[int, Mapping[str, Any]],
        reader: ModelReader,
        description: ZooDescription,
        compression: Compression | None,
    ) -> None:
        self.store, self.tree, self.reader = store, tree, reader
        self.compression = compression
        self.shape = shard_shape(description.shard_shape, description.layout.size, compression is not None)
        self.models: list[RawModel] = [tree.models[index] for index in sorted(rows)]
        self.noisy = reader.network.noisy_layout
        self.shards: list[ShardEntry] = []
        self.digests: dict[str, Digests] = {}  # digests of blocks, by SHA-256 of the shard
        self.fields: dict[str, FieldEntry] = {}
        self.lasts: dict[int, int] = {}
        self.faulty: dict[int, tuple[int, str]] = {}
        self.pruned: dict[tuple[int, int], tuple[int, int]] = {}
        self.norms: dict[tuple[int, int], tuple[float, float]] = {}

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
        """Take the faulty epoch from rows of our export, because the tree may lack the weights of that epoch."""
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
        """Record the values that labels need. False, with a finding, if the state contradicts an earlier one."""
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
        if finite:
            norm, largest = weight_norms(state[""][None])
            self.norms[index, epoch] = float(norm[0]), float(largest[0])
        self.lasts[index] = model.last_epoch
        return True
