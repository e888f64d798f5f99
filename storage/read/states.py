"""The result of a read: the weights of states in one array, and the part of the layout that they have."""

import html
import logging
import numbers
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, StorageUsageError, import_optional
from ..formats.drawing import histogram
from ..formats.layout import Layout
from .selection import Selection

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

logger = logging.getLogger(__name__)

HISTOGRAM_VALUES = 1_000_000  # a notebook's drawing uses at most this many


class LabelSource(Protocol):
    """The zoo that states come from, which gives their labels."""

    def labels_of(self, states: Selection, columns: Sequence[str] | None = None) -> "pa.Table":
        """Labels of these states, row by row, in the same order."""
        ...


@dataclass(frozen=True, eq=False)
class State:
    """Weights [D'] of one model at one epoch."""

    values: NDArray[np.float32]
    model: int
    epoch: int
    layout: Layout
    zoo: LabelSource | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<State of model {self.model} at epoch {self.epoch}: {self.layout.size:,} values>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{histogram(self.values)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self._as_states() == other._as_states()

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype) if not copy else np.array(self.values, dtype)

    def unflatten(self) -> dict[str, NDArray[np.float32]]:
        """Views of the values, one for each tensor of the layout, under the layout's names."""
        return self.layout.unflatten(self.values)

    def labels(self) -> dict[str, Any]:
        """Label columns of this state; None where one is null."""
        row: dict[str, Any] = self._as_states().labels().to_pylist()[0]
        return row

    def _as_states(self) -> "States":
        models, epochs = (np.array([number], np.int32) for number in (self.model, self.epoch))
        return States(self.values[None], models, epochs, self.layout, self.zoo)


@dataclass(frozen=True, eq=False)
class States:
    """Weights of N states, model-major: ``values`` [N, D'], ``models`` [N], ``epochs`` [N].

    ``states[3]`` is a State; a slice, a list or a mask of N booleans gives States. Iterating gives one State after the
    other.

    Attributes:
        layout: the place of each tensor in a row: the zoo's layout, or the selected part of it.
        zoo: what the states were read from; ``labels`` needs it.
        left_out: how many states ``within``, or ``weight_threshold`` of the read, left out.
    """

    values: NDArray[np.float32]
    models: NDArray[np.int32]
    epochs: NDArray[np.int32]
    layout: Layout
    zoo: LabelSource | None = field(default=None, repr=False)
    left_out: int = field(default=0, repr=False)

    def __repr__(self) -> str:
        num_models, num_epochs = len(np.unique(self.models)), len(np.unique(self.epochs))
        models = f"{num_models:,} model{'s' * (num_models != 1)} at {num_epochs:,} epoch{'s' * (num_epochs != 1)}"
        return f"<States: {len(self):,} of {models}, {self.layout.size:,} values each>"

    def _repr_html_(self) -> str:
        step = -(-self.values.size // HISTOGRAM_VALUES) or 1
        sample = f", every {step:,}th" if step > 1 else ""
        return f"<p>{html.escape(repr(self)[1:-1])}{sample}</p>{histogram(self.values.reshape(-1)[::step])}"

    def __eq__(self, other: object) -> bool:
        """True if the same states with the same bits come in the same order."""
        return (
            isinstance(other, States)
            and self.layout == other.layout
            and np.array_equal(self.models, other.models)
            and np.array_equal(self.epochs, other.epochs)
            and self.values.tobytes() == other.values.tobytes()
        )

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> State: ...
    @overload
    def __getitem__(self, rows: "slice | Sequence[int] | NDArray[Any]") -> "States": ...
    def __getitem__(self, rows: Any) -> "State | States":
        if isinstance(rows, int | np.integer) and not isinstance(rows, bool):
            row = operator.index(rows)
            return State(self.values[row], int(self.models[row]), int(self.epochs[row]), self.layout, self.zoo)
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(chosen, np.ndarray) and chosen.ndim != 1:
            raise IndexError(f"states have one axis of rows; the index has {chosen.ndim} axes")
        return States(self.values[chosen], self.models[chosen], self.epochs[chosen], self.layout, self.zoo)

    def within(self, weight_threshold: float) -> "States":
        """The states whose values are all finite and at most ``weight_threshold`` in size, in the same order.

        The number of the others is logged as a warning, and stands in ``left_out``.
        Raises StorageUsageError: not a number above zero.
        """
        limit = checked_threshold(weight_threshold)
        fits = is_within(self.values, limit)
        num_out = warn_of_large_weights(fits, limit)
        kept = self if not num_out else self[fits]
        return replace(kept, left_out=self.left_out + num_out)

    def __iter__(self) -> Iterator[State]:
        return (self[row] for row in range(len(self)))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype) if not copy else np.array(self.values, dtype)

    def trajectories(self) -> NDArray[np.float32]:
        """[models, epochs, D'], a view. Raises EpochNotPresent unless all models have the same epochs."""
        again = (self.models[1:] != self.models[:1]) | (self.epochs[1:] == self.epochs[:1])
        num_epochs = int(np.argmax(again)) + 1 if again.any() else len(self)
        shape = (len(self) // num_epochs, num_epochs) if num_epochs else (0, 0)
        whole = shape[0] * shape[1] == len(self)
        if whole:
            models, epochs = self.models.reshape(shape), self.epochs.reshape(shape)
            whole = bool((models == models[:, :1]).all() and (epochs == epochs[:1]).all())
        if not whole:
            raise EpochNotPresent("these models do not have the same epochs; select models or epochs that all have")
        return self.values.reshape(*shape, self.values.shape[1])

    def unflatten(self) -> dict[str, NDArray[np.float32]]:
        """Views of the values, one [N, *shape] for each tensor of the layout, under the layout's names."""
        return self.layout.unflatten(self.values)

    def labels(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Label columns of these states as an Arrow table: row i belongs to state i.

        Raises StorageUsageError for an unknown column, or for States that were not read from a zoo.
        """
        if self.zoo is None:
            raise StorageUsageError("these states were not read from a zoo, so they have no labels")
        return self.zoo.labels_of(Selection(self.models.astype(np.int64), self.epochs.astype(np.int64)), columns)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each state, indexed by (model, epoch), and a column for each value, e.g. ``conv1.weight[0]``.

        ``states.labels().to_pandas()`` has the labels in the same order of rows.
        """
        pandas = import_optional("pandas")
        index = pandas.MultiIndex.from_arrays([self.models, self.epochs], names=["model", "epoch"])
        columns = [f"{entry.name}[{place}]" for entry in self.layout for place in range(entry.size)]
        frame: pd.DataFrame = pandas.DataFrame(self.values, index=index, columns=columns)
        return frame

    def arrow(self) -> "pa.Table":
        """Columns ``model``, ``epoch`` and ``weights``, a fixed-size list per state that shares the array's memory."""
        import pyarrow as pa

        flat = pa.array(self.values.reshape(-1))
        weights = pa.FixedSizeListArray.from_arrays(flat, self.values.shape[1])
        return pa.table({"model": self.models, "epoch": self.epochs, "weights": weights})

    def torch(self) -> "torch.Tensor":
        """The values as a tensor that shares their memory."""
        tensor: torch.Tensor = import_optional("torch").from_numpy(self.values)
        return tensor


def sub_layout(layout: Layout, layers: Sequence[str] | None) -> list[Any]:
    """Entries of the named layers or tensors, in layout order. Raises StorageUsageError for an unknown name."""
    if layers is None:
        return list(layout.entries)
    if isinstance(layers, str):
        layers = [layers]
    known = {entry.name for entry in layout.entries} | {entry.name.rpartition(".")[0] for entry in layout.entries}
    for name in layers:
        if name not in known:
            raise StorageUsageError(f"no layer {name!r}; there are {', '.join(sorted(known))}")
    chosen = set(layers)
    return [e for e in layout.entries if e.name in chosen or e.name.rpartition(".")[0] in chosen]


def columns_of(layout: Layout, entries: Sequence[Any]) -> NDArray[np.intp] | None:
    """Positions of ``entries`` in a vector; None if that is all of it."""
    if len(entries) == len(layout.entries):
        return None
    return np.concatenate([np.arange(e.offset, e.stop) for e in entries] or [np.zeros(0, np.intp)])


def is_within(values: NDArray[np.float32], limit: float) -> NDArray[np.bool_]:
    """[N]: whether all values of a row of ``values`` [N, D] are finite and at most ``limit`` in size."""
    with np.errstate(invalid="ignore"):
        largest = np.maximum(values.max(axis=1), -values.min(axis=1))
    fits: NDArray[np.bool_] = largest <= limit  # false for NaN
    return fits


def warn_of_large_weights(fits: NDArray[np.bool_], limit: float) -> int:
    """Log how many states [N] do not fit, if there are any. Returns their number."""
    num_out = int(len(fits) - fits.sum())
    if num_out:
        logger.warning(
            "weight_threshold %g: %s of %s states left out; a weight of each is larger, or not finite",
            limit,
            f"{num_out:,}",
            f"{len(fits):,}",
        )
    return num_out


def checked_threshold(weight_threshold: float) -> float:
    """The threshold as a float. Raises StorageUsageError: not a number above zero."""
    is_number = isinstance(weight_threshold, numbers.Real) and not isinstance(weight_threshold, bool)
    if not is_number or not weight_threshold > 0:
        raise StorageUsageError(f"weight_threshold {weight_threshold!r}: expected a number above zero")
    return float(weight_threshold)
