"""Finds the states and label rows of a selection. Every reason to refuse one has its own exception, before any read."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotKept, EpochNotPresent, ModelNotPresent, StorageUsageError, training_advice
from ..formats.manifest import Manifest
from ..formats.shards import from_ranges, to_ranges
from ..formats.splits import SPLITS
from .gather import Gatherer
from .label_tables import LabelTables
from .selection import Selection, Selector, lists_numbers, select
from .where import rows_where

if TYPE_CHECKING:
    import pyarrow as pa


class StateSelector:
    """Selects states and label rows of one manifest."""

    def __init__(self, manifest: Manifest, states: Gatherer, tables: LabelTables) -> None:
        self._manifest, self._states, self._tables = manifest, states, tables
        self._name = manifest.zoo

    @cached_property
    def models(self) -> list[int]:
        """Indices of the models that are here, ascending."""
        return from_ranges(self._manifest.models)

    @cached_property
    def epochs(self) -> list[int]:
        """Epochs whose weights are here, ascending."""
        return sorted(self._states.shards_by_epoch)

    def epoch(self, epoch: Selector) -> int:
        """One epoch whose weights are here; negative ones count from the end.

        Raises EpochNotKept, EpochNotPresent, StorageUsageError.
        """
        chosen = select(epoch, self.epochs, "epochs")
        if chosen is None or len(chosen) != 1:
            raise StorageUsageError(f"epochs: {epoch!r} is not one epoch")
        self._check_epoch(chosen[0])
        return chosen[0]

    def states(self, epochs: Selector, models: Selector, split: str | None, where: str | None) -> Selection:
        """The states whose weights are here and fit.

        Raises:
            EpochNotKept, EpochNotPresent, ModelNotPresent, PredicateError, StorageUsageError: something named
                does not exist. If models and epochs are both listed, every pair must exist.
        """
        chosen_epochs = select(epochs, self.epochs, "epochs")
        if chosen_epochs is None:
            chosen_epochs = self.epochs
        elif not chosen_epochs and isinstance(epochs, str | slice):
            raise EpochNotPresent(f"zoo {self._name!r}: no kept epoch in {epochs!r}; kept are {_spans(self.epochs)}")
        for epoch in chosen_epochs:
            self._check_epoch(epoch)
        chosen_models = self.checked_models(models)
        here = np.zeros((len(chosen_models), len(chosen_epochs)), np.bool_)
        for place, epoch in enumerate(chosen_epochs):
            here[:, place] = np.isin(chosen_models, self._states.models_at(epoch))
        selection = self._select(
            chosen_models, chosen_epochs, here, split, where, lists_numbers(models) and lists_numbers(epochs)
        )
        if models is not None and where is None and split is None and len(chosen_models) and not here.any():
            raise EpochNotPresent(f"zoo {self._name!r}: these models have no epoch in {_spans(sorted(chosen_epochs))}")
        return selection

    def rows(self, epochs: Selector, models: Selector, split: str | None, where: str | None) -> "pa.Table":
        """Rows of the label table, also of epochs whose weights were not kept. Raises as ``states`` does."""
        table = self._tables.labels
        last = self._manifest.num_epochs
        chosen_epochs = select(epochs, range(last + 1), "epochs")
        if chosen_epochs is None:
            chosen_epochs = list(range(last + 1))
        elif beyond := [epoch for epoch in chosen_epochs if epoch > last]:
            raise EpochNotPresent(f"zoo {self._name!r}: no epoch {beyond[0]}; it has {self._manifest.describe()}")
        chosen_models = self.checked_models(models)
        here = np.array(chosen_epochs)[None] <= self._tables.last_epochs(chosen_models)[:, None]
        selection = self._select(
            chosen_models, chosen_epochs, here, split, where, lists_numbers(models) and lists_numbers(epochs)
        )
        rows = self._tables.rows_of(selection.models, selection.epochs)
        return table if np.array_equal(rows, np.arange(table.num_rows)) else table.take(rows)

    def _select(
        self,
        models: list[int],
        epochs: list[int],
        here: NDArray[np.bool_],
        split: str | None,
        where: str | None,
        all_of_them: bool,
    ) -> Selection:
        """The pairs [models, epochs] that are ``here`` and fit.

        ``all_of_them``: a pair that is not here is an error.
        """
        if split is not None and split not in SPLITS:
            raise StorageUsageError(f"split {split!r}: expected train, val or test")
        if all_of_them and not here.all():
            model, epoch = np.argwhere(~here)[0]
            raise EpochNotPresent(f"zoo {self._name!r}: model {models[model]} has no epoch {epochs[epoch]}")
        keep = here.copy()
        if split is not None:
            keep &= np.isin(models, sorted(self._tables.of_split(split)))[:, None]
        all_models, all_epochs = np.repeat(np.array(models, np.int64), len(epochs)), np.tile(epochs, len(models))
        rows = np.flatnonzero(keep)
        if where is not None:
            fits = rows_where(where, self._tables.labels)
            rows = rows[fits[self._tables.rows_of(all_models[rows], all_epochs[rows])]]
        return Selection(all_models[rows], all_epochs[rows].astype(np.int64))

    def checked_models(self, models: Selector) -> list[int]:
        """The selected models; all if ``models`` is None. Raises ModelNotPresent, StorageUsageError."""
        chosen = select(models, self.models, "models")
        if chosen is None:
            return self.models
        absent = dict(self._manifest.absent)
        present = set(self.models)
        for model in chosen:
            if model not in present:
                reason = f" ({absent[model]})" if model in absent else ""
                raise ModelNotPresent(
                    f"zoo {self._name!r}: no model {model}{reason}; it has {self._manifest.describe()}"
                )
        return chosen

    def _check_epoch(self, epoch: int) -> None:
        if epoch in self._states.shards_by_epoch:
            return
        if epoch <= self._manifest.num_epochs:
            again = f"`zoo train {self._name} --refill {epoch}` makes them again, "
            price = f"`zoo plan {self._name} --epochs {epoch}` says at what price"
            raise EpochNotKept(
                f"zoo {self._name!r}: epoch {epoch} was trained, its weights were not kept; kept are "
                f"{_spans(self.epochs)}{training_advice(again + price)}"
            )
        raise EpochNotPresent(f"zoo {self._name!r}: no epoch {epoch}; it has {self._manifest.describe()}")


def _spans(values: Sequence[int]) -> str:
    """Ascending numbers in words: "0:3, 7" for 0, 1, 2, 7."""
    ranges = to_ranges(values)
    return ", ".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in ranges) or "none"
