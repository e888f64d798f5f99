"""The published models that the models of a family begin with: checked, pinned, and read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.canonical import sha256_hex
from zooforge.storage.errors import NotPublished
from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.keys import manifest_key
from zooforge.storage.publish.head import read_current, read_manifest_bytes, states_of
from zooforge.storage.runs.run_files import read_pin
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo as PublishedZoo

from ..engines.contract import StateArrays
from ..errors import InputError
from ..spec.grid import ModelRow, rows
from ..spec.zoo import ZooSpec

SHOWN = 5


def check_parents(store: ObjectStore, zoo: ZooSpec, models: Collection[int]) -> None:
    """Check that the parents of ``models`` are published in ``store``.

    Raises:
        InputError: they are not published, or differ from those with which the zoo began.
    """
    if zoo.start is None or not models:
        return
    start, table = zoo.start, rows(zoo)
    manifest = _current(store, zoo)[1]
    _check_pin(store, zoo, manifest)
    there = states_of(manifest).get(start.epoch, set())
    wanted = sorted({model for index in models if (model := table[index].parent_model) is not None})
    missing = [model for model in wanted if model not in there]
    if missing:
        listed = ", ".join(map(str, missing[:SHOWN])) + (f" and {len(missing) - SHOWN} more" * (len(missing) > SHOWN))
        raise InputError(
            f"{zoo.name}: start: {start.zoo} in {store.url} has no published weights of models {listed} after epoch "
            f"{start.epoch}; `zoo run {start.zoo} --models {wanted[0]}:{wanted[-1] + 1}` comes first"
        )


def parent_pin(store: ObjectStore, zoo: ZooSpec) -> dict[str, Any]:
    """The parents in the pin of a run: version and SHA-256 of the manifest with which the run began.

    Later versions of a run hold all states of earlier ones, so models that are appended may come from them.
    """
    pinned = _pinned(store, zoo)
    if pinned is not None:
        return pinned
    number, _ = _current(store, zoo)
    return {"version": number, "manifest": sha256_hex(read_manifest_bytes(store, _parent(zoo).name, number)[1])}


@dataclass(frozen=True, slots=True)
class Parents:
    """Weights [P, D] in the parents' layout, and their ``buffers`` [P, B] and ``counters`` [P, C], if any."""

    layout: Layout
    weights_PD: NDArray[np.float32]
    others: StateArrays

    @property
    def finite_P(self) -> NDArray[np.bool_]:
        """[P]: whether all numbers of a parent are finite."""
        arrays = [self.weights_PD, *(array for name, array in self.others.items() if name == "buffers")]
        finite: NDArray[np.bool_] = np.all([np.isfinite(array).all(axis=1) for array in arrays], axis=0)
        return finite


def read_parents(store: ObjectStore, zoo: ZooSpec, chosen: Sequence[ModelRow]) -> Parents:
    """The parents of these rows, from their published weights. Raises InputError as ``check_parents`` does."""
    number, manifest = _current(store, zoo)
    _check_pin(store, zoo, manifest)
    published = PublishedZoo(store, manifest, number, progress=False)
    models, epochs = [row.parent_model for row in chosen if row.parent_model is not None], chosen[0].parent_epoch
    weights = published.weights(models=models, epochs=epochs).values
    others = {
        name: published.field(name, models=models, epochs=epochs)[0]
        for name in ("buffers", "counters")
        if f".{name}" in manifest.fields
    }
    return Parents(published.layout, weights, others)


def _parent(zoo: ZooSpec) -> ZooSpec:
    if zoo.start is None:
        raise ValueError(f"{zoo.name} has no parents")
    return zoo.start.spec


def _current(store: ObjectStore, zoo: ZooSpec) -> tuple[int, Manifest]:
    """Number and manifest of the current version of the parents' zoo. Raises InputError."""
    parent = _parent(zoo)
    head, manifest = read_current(store, parent.name)
    if head is None or manifest is None:
        raise InputError(
            f"{zoo.name}: start: {parent.name} is not published in {store.url}; `zoo run {parent.name}` comes first, "
            "or `zoo store pull` brings it here"
        )
    if manifest.run != parent.run_id:
        raise InputError(
            f"{zoo.name}: start: {parent.name} in {store.url} is of run {manifest.run[:8]}, this spec wants run "
            f"{parent.run_id[:8]}"
        )
    return head.number, manifest


def _pinned(store: ObjectStore, zoo: ZooSpec) -> dict[str, Any] | None:
    return (read_pin(store, zoo.run_id) or {}).get("parent")


def _check_pin(store: ObjectStore, zoo: ZooSpec, manifest: Manifest) -> None:
    """Raises InputError: the parents' zoo was removed and made again since the run began."""
    pinned = _pinned(store, zoo)
    if pinned is None:
        return
    name = manifest.zoo
    try:
        _, data = read_manifest_bytes(store, name, pinned["version"])
    except NotPublished:
        data = b""
    if sha256_hex(data) != pinned["manifest"]:
        raise InputError(
            f"{zoo.name}: it began with {manifest_key(name, pinned['version'])} of the SHA-256 "
            f"{pinned['manifest'][:12]}, which {store.url} does not have any more: its parents were made again; "
            "--new-lineage begins this zoo again too, once it is removed"
        )
