"""Which states and rows fit what a reader asks for; whatever cannot be given has a name before anything is read."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import EpochNotKept, EpochNotPresent, ModelNotPresent, StorageUsageError
from ..formats.manifest import Manifest, from_ranges, to_ranges
from ..formats.splits import SPLITS
from .gather import Gatherer
from .label_tables import LabelTables
from .selection import Selector, select
from .where import rows_where


class Chooser:
    """Selects among what one manifest names."""

    def __init__(self, manifest: Manifest, states: Gatherer, tables: LabelTables) -> None:
        self._manifest, self._states, self._tables = manifest, states, tables
        self._name = manifest.zoo

    @cached_property
    def models(self) -> list[int]:
        """Ascending."""
        return from_ranges(self._manifest.models)

    @cached_property
    def epochs(self) -> list[int]:
        """Epochs whose weights are here, ascending."""
        return sorted(self._states.shards_by_epoch)

    def wanted(self, epochs: Selector, models: Selector, split: str | None, where: str | None) -> dict[int, list[int]]:
        """Epoch to the ascending models that are wanted at it. Every named error is raised here, before reading."""
        chosen_epochs = select(epochs, self.epochs, "epochs")
        if chosen_epochs is None:
            chosen_epochs = self.epochs
        elif not chosen_epochs:
            raise EpochNotPresent(f"zoo {self._name!r}: no kept epoch in {epochs!r}; kept are {_spans(self.epochs)}")
        for epoch in chosen_epochs:
            self._check_epoch(epoch)
        chosen = self._chosen_models(models, split)
        allowed: dict[int, set[int]] | None = None
        if where is not None:
            rows = np.flatnonzero(rows_where(where, self._tables.labels))
            model_of, epoch_of = (
                self._tables.labels["model"].to_numpy()[rows],
                self._tables.labels["epoch"].to_numpy()[rows],
            )
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
            raise EpochNotPresent(f"zoo {self._name!r}: these models have no epoch in {_spans(chosen_epochs)}")
        return wanted

    def _chosen_models(self, models: Selector, split: str | None) -> set[int] | None:
        chosen = select(models, self.models, "models")
        if chosen is not None:
            absent = dict(self._manifest.absent)
            present = set(self.models)
            for model in chosen:
                if model not in present:
                    reason = f" ({absent[model]})" if model in absent else ""
                    raise ModelNotPresent(
                        f"zoo {self._name!r}: no model {model}{reason}; it has {self._manifest.describe()}"
                    )
        if split is None:
            return None if chosen is None else set(chosen)
        if split not in SPLITS:
            raise StorageUsageError(f"split {split!r}: expected train, val or test")
        of_split = self._tables.of_split(split)
        return of_split if chosen is None else of_split & set(chosen)

    def _check_epoch(self, epoch: int) -> None:
        if epoch in self._states.shards_by_epoch:
            return
        if epoch <= self._manifest.num_epochs:
            raise EpochNotKept(
                f"zoo {self._name!r}: epoch {epoch} was trained, its weights were not kept; kept are "
                f"{_spans(self.epochs)}; `zoo train {self._name} --refill {epoch}` makes them again, "
                f"`zoo plan {self._name} --epochs {epoch}` says at what price"
            )
        raise EpochNotPresent(f"zoo {self._name!r}: no epoch {epoch}; it has {self._manifest.describe()}")

    def rows(
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
            if any(epoch > self._manifest.num_epochs for epoch in chosen):
                raise EpochNotPresent(f"zoo {self._name!r}: no epoch {max(chosen)}; it has {self._manifest.describe()}")
            keep &= np.isin(table["epoch"].to_numpy(), chosen)
        picked = self._chosen_models(models, split)
        if picked is not None:
            keep &= np.isin(table["model"].to_numpy(), sorted(picked))
        if where is not None:
            keep &= rows_where(where, table)
        return table if keep.all() else table.take(np.flatnonzero(keep))


def _spans(values: Iterable[int]) -> str:
    """ "0:3, 7" for 0, 1, 2, 7."""
    ranges = to_ranges(values)
    return ", ".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in ranges) or "none"
