"""Reading a published zoo: from its manifest, by ranges, every byte checked, never listing.

numpy out; torch and Arrow where asked for. Neither Ray nor boto3 is imported until something needs it.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .errors import (
    EpochNotKept,
    EpochNotPresent,
    FormatError,
    ModelNotPresent,
    NotPublished,
    StorageUsageError,
)
from .gather import Gatherer
from .keys import version_prefix
from .labels import joined_columns, model_columns
from .layout import Layout
from .manifest import Manifest, to_ranges
from .object_store import ObjectStore, open_store
from .objects import get_object
from .selection import Selector, select
from .shard_reader import ShardReader
from .splits import SPLITS
from .states import States, columns_of, sub_layout
from .tables import decode_table
from .tensors import unpack_mask
from .where import rows_where
from .zoos import read_manifest_bytes, split_zoo_url

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


class Zoo:
    """One version of a published zoo."""

    def __init__(
        self, store: ObjectStore, manifest: Manifest, number: int, cache: "str | None", cache_bytes: "int | None"
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.version = number
        self._states = Gatherer(manifest, ShardReader(store, manifest, cache, cache_bytes))

    def __repr__(self) -> str:
        return f"<Zoo {self.name} version {self.version}: {self.manifest.describe()}>"

    @property
    def name(self) -> str:
        return self.manifest.zoo

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in a weight vector."""
        return self.manifest.layout

    @cached_property
    def models(self) -> list[int]:
        """Indices of the models that are here, ascending."""
        return [model for start, stop in self.manifest.models for model in range(start, stop)]

    @cached_property
    def epochs(self) -> list[int]:
        """Epochs whose weights are here, ascending."""
        return sorted(self._states.shards_by_epoch)

    def labels(
        self,
        *,
        columns: Sequence[str] | None = None,
        epochs: Selector = None,
        models: Selector = None,
        split: str | None = None,
        where: str | None = None,
    ) -> "pa.Table":
        """Labels as an Arrow table, one row per model and epoch, also of epochs whose weights were not kept."""
        table = self._select_rows(self._labels, epochs, models, split, where, range(self.manifest.num_epochs + 1))
        if columns is not None:
            unknown = [name for name in columns if name not in table.column_names]
            if unknown:
                raise StorageUsageError(f"no label column {unknown[0]!r}; there are {', '.join(table.column_names)}")
            table = table.select(list(columns))
        return table

    def model_table(self) -> "pa.Table":
        """One row per model: hyperparameters, seed, split, lineage, faulty epoch."""
        return self._model_table

    def weights(
        self,
        *,
        epochs: Selector = None,
        split: str | None = None,
        layers: Sequence[str] | None = None,
        models: Selector = None,
        where: str | None = None,
        masked: bool = True,
        align: Literal["canonical"] | None = None,
    ) -> States:
        """Weights of all states that fit, those of twins masked unless told otherwise.

        Args:
            epochs: 50, [0, 50], "21:26" (half-open); None: all that are kept.
            split: train, val or test.
            layers: names like ``conv1`` or ``conv1.weight``, in any order; None: all.
            models: as ``epochs``.
            where: predicate on the label columns of the same model and epoch.
            align: ``canonical`` puts the units of hidden layers into a canonical order; logits stay equal.

        Raises:
            EpochNotKept, EpochNotPresent, ModelNotPresent, PredicateError: nothing was read.
        """
        wanted = self.wanted(epochs, models, split, where)
        part = sub_layout(self.layout, layers)
        whole = part if align is None else None
        states = self._read(wanted, whole, masked)
        if align is not None:
            from .symmetry import align_canonical

            values = align_canonical(states.values, self.layout, self.manifest.symmetries)
            columns = columns_of(self.layout, part)
            values = values if columns is None else np.ascontiguousarray(values[:, columns])
            states = States(values, states.models, states.epochs, Layout.of([(e.name, e.shape) for e in part]))
        return states

    def field(
        self, name: str, *, epochs: Selector = None, split: str | None = None, models: Selector = None
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """Values, models and epochs of ``log_sigma2``, ``mask`` (bool), ``buffers`` or ``counters``."""
        suffix = f".{name.removeprefix('.')}"
        if suffix not in self.manifest.fields:
            names = ", ".join(sorted(f.removeprefix(".") for f in self.manifest.fields if f)) or "none besides weights"
            raise StorageUsageError(f"zoo {self.name!r} has no field {name!r}; it has {names}")
        wanted = self.wanted(epochs, models, split, None)
        values, model, epoch = self._states.gather(wanted, suffix)
        if suffix == ".mask":
            values = unpack_mask(values, self._noisy.size)
        return values, model, epoch

    @overload
    def state_dict(
        self, model: int, epoch: int, *, masked: bool = ..., torch: Literal[False] = ...
    ) -> dict[str, NDArray[Any]]: ...
    @overload
    def state_dict(
        self, model: int, epoch: int, *, masked: bool = ..., torch: Literal[True]
    ) -> "dict[str, torch.Tensor]": ...
    def state_dict(self, model: int, epoch: int, *, masked: bool = True, torch: bool = False) -> Any:
        """The state under the names of the torch module of this model, buffers included: loads with ``strict=True``."""
        vector = self._one(model, epoch, masked)
        found = self.to_state_dict(vector, model)
        if ".buffers" in self.manifest.fields:
            found.update(self._buffers(model, epoch))
        if not torch:
            return found
        import torch as torch_module

        return {name: torch_module.from_numpy(np.array(value)) for name, value in found.items()}

    def to_state_dict(self, vector: NDArray[np.float32], model: int) -> dict[str, NDArray[Any]]:
        """A weight vector [D] under the names that the torch module of ``model`` has, in layout order."""
        names = self.manifest.state_dict_names[self._variant(model)]
        return {names[name]: value for name, value in self.layout.unflatten(vector).items()}

    def dataset(
        self,
        split: str | None = None,
        epochs: Selector = None,
        *,
        layout: Literal["vector", "state_dict", "tokens", "graph"] = "vector",
        task: Literal["reconstruction", "sequence"] = "reconstruction",
        models: Selector = None,
        where: str | None = None,
        **options: Any,
    ) -> "torch.utils.data.Dataset[Any]":
        """A torch Dataset of (input, target, labels): see ``storage/torch_views.py``."""
        from .torch_views import make_dataset

        return make_dataset(self, split, epochs, layout=layout, task=task, models=models, where=where, **options)

    # Selecting.

    def wanted(self, epochs: Selector, models: Selector, split: str | None, where: str | None) -> dict[int, list[int]]:
        """Epoch to the ascending models that are wanted at it. Every named error is raised here, before reading."""
        chosen_epochs = select(epochs, self.epochs, "epochs")
        if chosen_epochs is None:
            chosen_epochs = self.epochs
        elif not chosen_epochs:
            raise EpochNotPresent(f"zoo {self.name!r}: no kept epoch in {epochs!r}; kept are {_spans(self.epochs)}")
        for epoch in chosen_epochs:
            self._check_epoch(epoch)
        chosen = self._chosen_models(models, split)
        allowed: dict[int, set[int]] | None = None
        if where is not None:
            rows = np.flatnonzero(rows_where(where, self._labels))
            model_of, epoch_of = self._labels["model"].to_numpy()[rows], self._labels["epoch"].to_numpy()[rows]
            allowed = {epoch: set(model_of[epoch_of == epoch].tolist()) for epoch in chosen_epochs}
        wanted = {}
        for epoch in chosen_epochs:
            here = self._states.models_at(epoch)
            if chosen is not None:
                here = [model for model in here if model in chosen]
            if allowed is not None:
                here = [model for model in here if model in allowed.get(epoch, ())]
            wanted[epoch] = here
        if models is not None and where is None and split is None and not any(wanted.values()):
            raise EpochNotPresent(f"zoo {self.name!r}: these models have no epoch in {_spans(chosen_epochs)}")
        return wanted

    def _chosen_models(self, models: Selector, split: str | None) -> set[int] | None:
        chosen = select(models, self.models, "models")
        if chosen is not None:
            absent = dict(self.manifest.absent)
            present = set(self.models)
            for model in chosen:
                if model not in present:
                    reason = f" ({absent[model]})" if model in absent else ""
                    raise ModelNotPresent(
                        f"zoo {self.name!r}: no model {model}{reason}; it has {self.manifest.describe()}"
                    )
        if split is None:
            return None if chosen is None else set(chosen)
        if split not in SPLITS:
            raise StorageUsageError(f"split {split!r}: expected train, val or test")
        table = self._model_table
        of_split = {
            m for m, s in zip(table["model"].to_pylist(), table["split"].to_pylist(), strict=True) if s == split
        }
        return of_split if chosen is None else of_split & set(chosen)

    def _check_epoch(self, epoch: int) -> None:
        if epoch in self._states.shards_by_epoch:
            return
        if epoch <= self.manifest.num_epochs:
            raise EpochNotKept(
                f"zoo {self.name!r}: epoch {epoch} was trained, its weights were not kept; kept are "
                f"{_spans(self.epochs)}; `zoo train {self.name} --refill {epoch}` makes them again, "
                f"`zoo plan {self.name} --epochs {epoch}` says at what price"
            )
        raise EpochNotPresent(f"zoo {self.name!r}: no epoch {epoch}; it has {self.manifest.describe()}")

    def _select_rows(
        self,
        table: Any,
        epochs: Selector,
        models: Selector,
        split: str | None,
        where: str | None,
        available: Iterable[int],
    ) -> Any:
        keep = np.ones(table.num_rows, np.bool_)
        chosen = select(epochs, available, "epochs")
        if chosen is not None:
            if any(epoch > self.manifest.num_epochs for epoch in chosen):
                raise EpochNotPresent(f"zoo {self.name!r}: no epoch {max(chosen)}; it has {self.manifest.describe()}")
            keep &= np.isin(table["epoch"].to_numpy(), chosen)
        picked = self._chosen_models(models, split)
        if picked is not None:
            keep &= np.isin(table["model"].to_numpy(), sorted(picked))
        if where is not None:
            keep &= rows_where(where, table)
        return table if keep.all() else table.take(np.flatnonzero(keep))

    # Reading.

    def _one(self, model: int, epoch: int, masked: bool) -> NDArray[np.float32]:
        """Weights [D] of one state, found without looking at any other."""
        vector = self._states.one(model, epoch, "")
        if vector is None:
            self.wanted(epoch, model, None, None)  # says what is wrong
            raise EpochNotPresent(f"zoo {self.name!r}: model {model} has no epoch {epoch}")
        if masked and ".mask" in self.manifest.fields:
            bits = self._states.one(model, epoch, ".mask")
            assert bits is not None  # the manifest's check holds that fields are there together
            vector = vector * self._full_mask(bits[None])[0]
        return vector

    def _read(self, wanted: dict[int, list[int]], part: "list[Any] | None", masked: bool) -> States:
        columns = None if part is None else columns_of(self.layout, part)
        layout = self.layout if part is None else Layout.of([(e.name, e.shape) for e in part])
        if masked and ".mask" in self.manifest.fields:
            values, models, epochs = self._states.gather(wanted, "")
            bits, _, _ = self._states.gather(wanted, ".mask")
            values = values * self._full_mask(bits)
            values = values if columns is None else np.ascontiguousarray(values[:, columns])
        else:
            values, models, epochs = self._states.gather(wanted, "", columns)
        return States(values, models, epochs, layout)

    @cached_property
    def _labels(self) -> "pa.Table":
        entry = self.manifest.labels
        data = get_object(self.store, entry.ref, f"zoo {self.name!r}, labels")
        table = decode_table(data, entry.ref.key, joined_columns(self.manifest.twin))
        if table.num_rows != entry.rows:
            raise FormatError(f"{entry.ref.key}: {table.num_rows} rows, the manifest says {entry.rows}")
        return table

    @cached_property
    def _model_table(self) -> "pa.Table":
        entry = self.manifest.model_table
        data = get_object(self.store, entry.ref, f"zoo {self.name!r}, models")
        table = decode_table(data, entry.ref.key, model_columns())
        if table["model"].to_pylist() != self.models:
            raise FormatError(f"{entry.ref.key}: other models than the manifest names")
        return table

    @cached_property
    def _dropout(self) -> dict[int, float]:
        table = self._model_table
        ratios = table["dropout_ratio"].to_pylist()
        return {m: r or 0.0 for m, r in zip(table["model"].to_pylist(), ratios, strict=True)}

    def _variant(self, model: int) -> str:
        names = self.manifest.state_dict_names
        if "dropout" in names and self._dropout[model] > 0:
            return "dropout"
        return "plain"

    @property
    def _noisy(self) -> Layout:
        if self.manifest.noisy_layout is None:
            raise FormatError(f"zoo {self.name!r}: masks without a layout")
        return self.manifest.noisy_layout

    def _full_mask(self, bits: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Masks [N, D]; values without a mask are always used."""
        full = np.ones((len(bits), self.layout.size), np.float32)
        columns = columns_of(
            self.layout, [e for e in self.layout.entries if e.name in {n.name for n in self._noisy.entries}]
        )
        full[:, slice(None) if columns is None else columns] = unpack_mask(bits, self._noisy.size)
        return full

    def _buffers(self, model: int, epoch: int) -> dict[str, NDArray[Any]]:
        wanted = {epoch: [model]}
        described = self.manifest.architecture
        values, _, _ = self._states.gather(wanted, ".buffers")
        found = dict(Layout.from_json(described["buffers_layout"]).unflatten(values[0]))
        if ".counters" in self.manifest.fields:
            counts, _, _ = self._states.gather(wanted, ".counters")
            found.update({n: np.asarray(c) for n, c in zip(described["counters"], counts[0], strict=True)})
        return found


def open_zoo(url: str, version: int | None = None, *, cache: str | None = None, cache_bytes: int | None = None) -> Zoo:
    """Open a published zoo: see ``zooforge.open_zoo``.

    Raises:
        StoreURLError: no zoo's address. NotPublished, FormatError, NewerFormat, and what the store says.
    """
    base, name, number = split_zoo_url(url)
    store = open_store(base)
    if number is not None and version is not None and number != version:
        raise StorageUsageError(f"{url}: names version {number}, asked for {version}")
    wanted = version if version is not None else number
    if wanted is not None and wanted < 1:
        raise NotPublished(f"zoo {name!r}: versions count from 1; asked for {wanted}")
    found, data = read_manifest_bytes(store, name, wanted)
    manifest = Manifest.from_json(data, f"{version_prefix(name, found)}manifest.json")
    if manifest.zoo != name:
        raise FormatError(f"{version_prefix(name, found)}manifest.json: belongs to zoo {manifest.zoo!r}")
    return Zoo(store, manifest, found, cache if cache is not None else os.environ.get("ZOOFORGE_CACHE"), cache_bytes)


def _spans(values: Iterable[int]) -> str:
    """ "0:3, 7" for 0, 1, 2, 7."""
    ranges = to_ranges(values)
    return ", ".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in ranges) or "none"
