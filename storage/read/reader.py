"""Reads a published zoo: from its manifest on, by ranges, every byte checked, without listing the store.

Results are NumPy arrays, or Arrow and torch on request. Torch, Arrow and boto3 are imported when needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageUsageError, import_optional, training_advice
from ..formats.layout import Layout
from ..formats.manifest import Parent
from ..formats.symmetry import align_canonical, canonical_orders, permute
from .html import zoo_html
from .label_tables import with_columns
from .selection import Selector, names_one
from .state_reader import StateReader
from .states import (
    State,
    States,
    checked_threshold,
    columns_of,
    sub_layout,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


class ZooReader(StateReader):
    """One version of a published zoo."""

    def __repr__(self) -> str:
        return f"<Zoo {self.name} version {self.version}: {self.manifest.describe()}>"

    def _repr_html_(self) -> str:
        return zoo_html(self.manifest, repr(self), self._tables)

    @property
    def architecture(self) -> dict[str, Any]:
        """Name, input channels, image size and number of classes of the networks."""
        return dict(self.manifest.architecture)

    @property
    def parent(self) -> Parent | None:
        """Zoo, run and epoch that sparsified twins come from; None for other zoos."""
        return self.manifest.parent

    def __len__(self) -> int:
        """Number of models."""
        return self.manifest.num_models

    def __iter__(self) -> Iterator[States]:
        """The kept states of one model after the other, each model read when its turn comes."""
        return (self.weights(models=model) for model in self.models)

    @overload
    def __getitem__(self, key: tuple[SupportsIndex, SupportsIndex]) -> State: ...
    @overload
    def __getitem__(self, key: Any) -> States: ...
    def __getitem__(self, key: Any) -> State | States:
        """``zoo[5]``: all kept states of model 5. ``zoo[5, -1]``: its last one. Both also take lists and slices.

        Models are named by their index, not by their place in ``zoo.models``. Raises as ``weights`` does.
        """
        if not isinstance(key, tuple):
            return self.weights(models=key)
        models, epochs = key
        if not (names_one(models) and names_one(epochs)):
            return self.weights(models=models, epochs=epochs)
        model, epoch = self._model_and_epoch(models, epochs)
        return State(self._one(model, epoch, True), model, epoch, self.layout, self)

    def labels(
        self,
        columns: Sequence[str] | None = None,
        *,
        epochs: Selector = None,
        models: Selector = None,
        split: str | None = None,
        where: str | None = None,
    ) -> pa.Table:
        """Labels as an Arrow table, one row per model and epoch, also of epochs whose weights were not kept.

        Rows are in the order of ``weights`` for the same arguments.

        Args:
            columns: which label columns, in this order; None: all.
            epochs, models, split, where: as for ``weights``, among all epochs that were trained.

        Raises:
            EpochNotPresent, ModelNotPresent, PredicateError, StorageUsageError.
        """
        return with_columns(self._selector.rows(epochs, models, split, where), columns)

    def model_table(self) -> pa.Table:
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
        weight_threshold: float | None = None,
    ) -> States:
        """Weights of all states that fit. Rows are model-major, models and epochs each in the order of the arguments.

        Args:
            epochs: 50, -1 or "last" (of those that are kept), [0, 50], "21:26" (half-open), or a mask with one boolean
                for each of ``zoo.epochs``; None: all that are kept.
            split: train, val or test.
            layers: names like ``conv1`` or ``conv1.weight``, in any order; None: all.
            models: as ``epochs``, but none counts from the end; a mask has one boolean for each of ``zoo.models``.
                Order and duplicates are kept. Where models and epochs are both lists, all of their pairs must be here.
            where: predicate on the label columns of the same model and epoch.
            masked: whether pruned values of sparsified twins are zero.
            align: ``canonical`` puts the units of hidden layers into a canonical order; logits stay equal.
            weight_threshold: states with a weight of larger absolute value, or one that is not finite, are left out;
                all weights count, also where ``layers`` names some. A warning is logged that says how many, and the
                result has their number as ``left_out``.

        Raises:
            EpochNotKept, EpochNotPresent, ModelNotPresent, PredicateError, StorageUsageError: nothing was read.
        """
        selection = self.select(epochs, models, split, where)
        part = sub_layout(self.layout, layers)
        _check_align(align)
        if weight_threshold is not None:
            checked_threshold(weight_threshold)
        elif align is None:
            return self._read(selection, part, masked)
        states = self.read(selection, masked=masked)
        if weight_threshold is not None:
            states = states.within(weight_threshold)
        values = states.values
        if align is not None:
            groups = self.symmetries  # raises for a zoo without symmetries, even if no state is left to align
            values = align_canonical(values, self.layout, groups) if len(values) else values
        columns = columns_of(self.layout, part)
        values = values if columns is None else np.ascontiguousarray(values[:, columns])
        layout = Layout.of([(e.name, e.shape) for e in part])
        return States(values, states.models, states.epochs, layout, self, states.left_out)

    def field(
        self,
        name: str,
        *,
        epochs: Selector = None,
        split: str | None = None,
        models: Selector = None,
        where: str | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
        """Values, models and epochs of ``log_sigma2``, ``mask`` (bool), ``buffers`` or ``counters``.

        Rows and errors are those of ``weights`` for the same arguments.
        """
        suffix = f".{name.removeprefix('.')}"
        if suffix not in self.manifest.fields:
            names = ", ".join(sorted(f.removeprefix(".") for f in self.manifest.fields if f)) or "none besides weights"
            raise StorageUsageError(f"zoo {self.name!r} has no field {name!r}; it has {names}")
        return self.read_field(self.select(epochs, models, split, where), suffix)

    @overload
    def state_dict(
        self,
        model: SupportsIndex,
        epoch: SupportsIndex | str,
        *,
        masked: bool = ...,
        align: Literal["canonical"] | None = ...,
        torch: Literal[False] = ...,
    ) -> dict[str, NDArray[Any]]: ...
    @overload
    def state_dict(
        self,
        model: SupportsIndex,
        epoch: SupportsIndex | str,
        *,
        masked: bool = ...,
        align: Literal["canonical"] | None = ...,
        torch: Literal[True],
    ) -> dict[str, torch.Tensor]: ...
    def state_dict(
        self,
        model: SupportsIndex,
        epoch: SupportsIndex | str,
        *,
        masked: bool = True,
        align: Literal["canonical"] | None = None,
        torch: bool = False,
    ) -> Any:
        """The state under the names of the torch module of this model, buffers included: loads with ``strict=True``.

        Args:
            epoch: one whose weights are kept; -1 or "last" is the last of them.
            masked, align: as for ``weights``.
            torch: tensors instead of NumPy arrays.
        """
        model, epoch = self._model_and_epoch(model, epoch)
        vector = self._one(model, epoch, masked)[None]
        buffers = self._one_field(model, epoch, ".buffers")
        counters = self._one_field(model, epoch, ".counters")
        _check_align(align)
        if align is not None:
            orders = canonical_orders(vector, self.layout, self.symmetries)
            vector = permute(vector, self.layout, self.symmetries, orders)
            if buffers is not None:
                buffers = permute(buffers[None], self.buffers_layout, self.symmetries, orders)[0]
        named = self.to_state_dict(vector[0], model, buffers, counters)
        if not torch:
            return named
        torch_module = import_optional("torch")
        return {name: torch_module.from_numpy(np.array(value)) for name, value in named.items()}

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
        named = {names[name]: value for name, value in self.layout.unflatten(vector).items()}
        if buffers is not None:
            named.update(self.buffers_layout.unflatten(buffers))
        if counters is not None:
            described = self.manifest.architecture["counters"]
            named.update({name: np.asarray(count) for name, count in zip(described, counters, strict=True)})
        return named

    def row(self, model: int) -> dict[str, Any]:
        """Hyperparameters, seed, split and lineage of a model. Raises ModelNotPresent, StorageUsageError."""
        (index,) = self._selector.checked_models([model])
        row: dict[str, Any] = self._tables.models.slice(self.models.index(index), 1).to_pylist()[0]
        return row

    @cached_property
    def buffers_layout(self) -> Layout:
        """The place of each buffer in the field ``buffers``; empty for architectures without buffers."""
        return Layout.from_json(self.manifest.architecture.get("buffers_layout", ()))

    def _variant(self, model: int) -> str:
        names = self.manifest.state_dict_names
        if "dropout" in names and self._tables.dropout[model] > 0:
            return "dropout"
        return "plain"

    @property
    def symmetries(self) -> list[dict[str, Any]]:
        """Permutation groups (storage/formats/symmetry.py). Raises StorageUsageError for a zoo that declares none."""
        groups = self.manifest.symmetries
        if not groups or any("axes" not in group for group in groups):
            raise StorageUsageError(
                f"zoo {self.name!r}: its manifest declares no permutation symmetries, so its models can be neither "
                "aligned nor permuted"
                + training_advice(f"`zoo vectorize {self.name}` seals a version that does, if there are any")
            )
        return groups


def _check_align(align: str | None) -> None:
    if align not in (None, "canonical"):
        raise StorageUsageError(f"align {align!r}: expected canonical or nothing")
