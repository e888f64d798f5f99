"""Reading a published zoo: from its manifest, by ranges, every byte checked, never listing.

numpy out; torch and Arrow where asked for. Neither Ray nor boto3 is imported until something needs it.
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, FormatError, StorageUsageError
from ..formats.layout import Layout
from ..formats.manifest import Manifest
from ..formats.symmetry import align_canonical, canonical_orders, permute
from ..formats.tensors import unpack_mask
from ..stores.protocol import ObjectStore
from .gather import Gatherer
from .label_tables import LabelTables
from .selection import Selector
from .shard_reader import shard_reader
from .state_selector import Chooser
from .states import States, columns_of, sub_layout

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


class ZooReader:
    """One version of a published zoo."""

    def __init__(
        self, store: ObjectStore, manifest: Manifest, number: int, cache: "str | None", cache_bytes: "int | None"
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.version = number
        self._cached_in = (cache, cache_bytes)
        self._states = Gatherer(manifest, shard_reader(store, manifest, cache, cache_bytes))
        self._tables = LabelTables(store, manifest)
        self._chooser = Chooser(manifest, self._states, self._tables)

    def __repr__(self) -> str:
        return f"<Zoo {self.name} version {self.version}: {self.manifest.describe()}>"

    @property
    def name(self) -> str:
        return self.manifest.zoo

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in a weight vector."""
        return self.manifest.layout

    @property
    def models(self) -> list[int]:
        """Indices of the models that are here, ascending."""
        return self._chooser.models

    @property
    def epochs(self) -> list[int]:
        """Epochs whose weights are here, ascending."""
        return self._chooser.epochs

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
        table = self._chooser.rows(
            self._tables.labels, epochs, models, split, where, range(self.manifest.num_epochs + 1)
        )
        if columns is not None:
            unknown = [name for name in columns if name not in table.column_names]
            if unknown:
                raise StorageUsageError(f"no label column {unknown[0]!r}; there are {', '.join(table.column_names)}")
            table = table.select(list(columns))
        return table

    def model_table(self) -> "pa.Table":
        """One row per model: hyperparameters, seed, split, lineage, faulty epoch."""
        return self._tables.models

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
        _check_align(align)
        if align is None:
            return self._read(wanted, part, masked)
        states = self.read(wanted, masked=masked)
        values = align_canonical(states.values, self.layout, self.symmetries)
        columns = columns_of(self.layout, part)
        values = values if columns is None else np.ascontiguousarray(values[:, columns])
        return States(values, states.models, states.epochs, Layout.of([(e.name, e.shape) for e in part]))

    def wanted(self, epochs: Selector, models: Selector, split: str | None, where: str | None) -> dict[int, list[int]]:
        """Epoch to the ascending models that are wanted at it. Every named error is raised here, before reading."""
        return self._chooser.wanted(epochs, models, split, where)

    def read(self, wanted: dict[int, list[int]], *, masked: bool = True) -> States:
        """Weights of states that are here: epoch to ascending models, as ``wanted`` gives them."""
        return self._read(wanted, list(self.layout.entries), masked)

    def field(
        self, name: str, *, epochs: Selector = None, split: str | None = None, models: Selector = None
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """Values, models and epochs of ``log_sigma2``, ``mask`` (bool), ``buffers`` or ``counters``."""
        suffix = f".{name.removeprefix('.')}"
        if suffix not in self.manifest.fields:
            names = ", ".join(sorted(f.removeprefix(".") for f in self.manifest.fields if f)) or "none besides weights"
            raise StorageUsageError(f"zoo {self.name!r} has no field {name!r}; it has {names}")
        return self.read_field(self.wanted(epochs, models, split, None), suffix)

    def read_field(
        self, wanted: dict[int, list[int]], suffix: str
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """As ``field``, of states that are here; ``suffix`` with its dot."""
        values, model, epoch = self._states.gather(wanted, suffix)
        if suffix == ".mask":
            values = unpack_mask(values, self._noisy.size)
        return values, model, epoch

    @overload
    def state_dict(
        self,
        model: int,
        epoch: int,
        *,
        masked: bool = ...,
        align: Literal["canonical"] | None = ...,
        torch: Literal[False] = ...,
    ) -> dict[str, NDArray[Any]]: ...
    @overload
    def state_dict(
        self,
        model: int,
        epoch: int,
        *,
        masked: bool = ...,
        align: Literal["canonical"] | None = ...,
        torch: Literal[True],
    ) -> "dict[str, torch.Tensor]": ...
    def state_dict(
        self,
        model: int,
        epoch: int,
        *,
        masked: bool = True,
        align: Literal["canonical"] | None = None,
        torch: bool = False,
    ) -> Any:
        """The state under the names of the torch module of this model, buffers included: loads with ``strict=True``."""
        vector = self._one(model, epoch, masked)[None]
        buffers = self._one_field(model, epoch, ".buffers")
        counters = self._one_field(model, epoch, ".counters")
        _check_align(align)
        if align is not None:
            orders = canonical_orders(vector, self.layout, self.symmetries)
            vector = permute(vector, self.layout, self.symmetries, orders)
            if buffers is not None:
                buffers = permute(buffers[None], self.buffers_layout, self.symmetries, orders)[0]
        found = self.to_state_dict(vector[0], model, buffers, counters)
        if not torch:
            return found
        import torch as torch_module

        return {name: torch_module.from_numpy(np.array(value)) for name, value in found.items()}

    def to_state_dict(
        self,
        vector: NDArray[np.float32],
        model: int,
        buffers: NDArray[np.float32] | None = None,
        counters: NDArray[np.int64] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """A weight vector [D] under the names that the torch module of ``model`` has, in layout order.

        Buffers and counters follow, where they are given.
        """
        names = self.manifest.state_dict_names[self._variant(model)]
        found = {names[name]: value for name, value in self.layout.unflatten(vector).items()}
        if buffers is not None:
            found.update(self.buffers_layout.unflatten(buffers))
        if counters is not None:
            described = self.manifest.architecture["counters"]
            found.update({name: np.asarray(count) for name, count in zip(described, counters, strict=True)})
        return found

    @cached_property
    def buffers_layout(self) -> Layout:
        """Where each buffer lies in field ``buffers``; empty for architectures without."""
        return Layout.from_json(self.manifest.architecture.get("buffers_layout", ()))

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

    def _variant(self, model: int) -> str:
        names = self.manifest.state_dict_names
        if "dropout" in names and self._tables.dropout[model] > 0:
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

    def _one_field(self, model: int, epoch: int, field: str) -> NDArray[Any] | None:
        return self._states.one(model, epoch, field) if field in self.manifest.fields else None

    @property
    def symmetries(self) -> list[dict[str, Any]]:
        """Permutation groups (storage/formats/symmetry.py). Raises StorageUsageError for a zoo that declares none."""
        groups = self.manifest.symmetries
        if not groups or any("axes" not in group for group in groups):
            raise StorageUsageError(
                f"zoo {self.name!r}: its manifest declares no permutation symmetries, so its models can "
                f"be neither aligned nor permuted; `zoo vectorize {self.name}` seals one that does, if there are any"
            )
        return groups

    @property
    def block_shape(self) -> tuple[int, int]:
        """Models and epochs of a shard: states of one shard are read together."""
        return self.manifest.shard_shape

    def reopened(self) -> "ZooReader":
        """The same version with connections of its own: for another process."""
        return type(self)(copy(self.store), self.manifest, self.version, *self._cached_in)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.manifest, self.version, *self._cached_in)


def _check_align(align: str | None) -> None:
    if align not in (None, "canonical"):
        raise StorageUsageError(f"align {align!r}: expected canonical or nothing")
