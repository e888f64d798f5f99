"""Selectors: the epochs or models that a reader asks for, as numbers, lists, masks or slices. Pure."""

import operator
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, StorageUsageError

Selector = SupportsIndex | str | slice | Iterable[SupportsIndex] | None


@dataclass(frozen=True, eq=False)
class Selection:
    """N states, row by row: ``models`` [N] and ``epochs`` [N], model-major, in the requested order."""

    models: NDArray[np.int64]
    epochs: NDArray[np.int64]

    @classmethod
    def of(cls, wanted: Mapping[int, Iterable[int]]) -> "Selection":
        """The states of epoch to models, by ascending model and epoch."""
        pairs = [(model, epoch) for epoch, models in wanted.items() for model in models]
        models, epochs = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        return cls(models, epochs)

    @property
    def keys(self) -> NDArray[np.int64]:
        """A number for each state, ascending with model and epoch."""
        return self.models << 32 | self.epochs

    def __len__(self) -> int:
        return len(self.models)

    def by_epoch(self) -> dict[int, list[int]]:
        """Epoch to the ascending models at it, each once."""
        order = np.lexsort((self.models, self.epochs))
        models, epochs = self.models[order], self.epochs[order]
        cuts = np.flatnonzero(np.diff(epochs)) + 1
        pieces = zip(np.split(epochs, cuts), np.split(models, cuts), strict=True) if len(epochs) else ()
        return {int(epoch[0]): np.unique(here).tolist() for epoch, here in pieces}


def select(selector: Selector, available: Sequence[int], what: str) -> list[int] | None:
    """The selected numbers, in the caller's order and as often as the caller names them; None if nothing is selected.

    A slice or a mask takes what is available; a number or a list is taken literally, available or not.

    Args:
        selector: 7, -1, "last", [7, 0, 7], range(0, 8), slice(0, 8), text of numbers and half-open slices such as
            "0,21:26,last", or a mask: one boolean for each available number. NumPy, pandas and Arrow values will do.
        available: ascending. Negative epochs count from its end; models are never counted from the end.
        what: "epochs" or "models", for messages.

    Raises:
        StorageUsageError: another form, a float, a mask of another length, or an empty slice.
    """
    if selector is None:
        return None
    if isinstance(selector, str):
        return [value for item in selector.split(",") for value in _text(item.strip(), available, what)]
    if isinstance(selector, slice):
        bounds = (selector.start, selector.stop, selector.step)
        start, stop, step = (None if bound is None else _integer(bound, what) for bound in bounds)
        return _slice(start, stop, step, available, what)
    if names_one(selector):
        return [_number(selector, available, what)]
    assert isinstance(selector, Iterable)
    convert = getattr(selector, "to_pylist", None)  # Arrow's scalars are no Python numbers
    values: list[Any] = list(selector if convert is None else convert())
    if any(_is_boolean(value) for value in values):
        return _mask(values, available, what)
    return [_number(value, available, what) for value in values]


def lists_numbers(selector: Selector) -> bool:
    """True if a selector lists numbers; a slice or a mask chooses among the available ones."""
    if selector is None or isinstance(selector, slice | range):
        return False
    if isinstance(selector, str):
        return ":" not in selector
    first: Any = next(iter(selector), None) if isinstance(selector, Sized) and isinstance(selector, Iterable) else None
    return not _is_boolean(first.as_py() if hasattr(first, "as_py") else first)


def names_one(selector: Selector) -> bool:
    """True if a selector is one number, and not a list, a slice or a mask."""
    if isinstance(selector, str):
        return not set(",:") & set(selector)
    if selector is None or isinstance(selector, slice):
        return False
    return not isinstance(selector, Iterable) or getattr(selector, "ndim", 1) == 0


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def _mask(values: list[Any], available: Sequence[int], what: str) -> list[int]:
    if len(values) != len(available):
        raise StorageUsageError(
            f"{what}: a mask of {len(values)} values, but there are {len(available)} {what}; a mask has one value for "
            f"each of zoo.{what}"
        )
    if not all(_is_boolean(value) for value in values):
        raise StorageUsageError(f"{what}: a mask must hold true or false only, without nulls or numbers")
    return [number for number, chosen in zip(available, values, strict=True) if chosen]


def _integer(value: Any, what: str) -> int:
    if not _is_boolean(value):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise StorageUsageError(f"{what}: {value!r} is not an integer; floats and text are never rounded or converted")


def _number(value: Any, available: Sequence[int], what: str) -> int:
    number = -1 if isinstance(value, str) and value.strip() == "last" else _integer(value, what)
    if number >= 0:
        return number
    if what != "epochs":
        raise StorageUsageError(f"{what}: {number} is not an index; only epochs count from the end")
    if -number > len(available):
        raise EpochNotPresent(f"{what}: {number} counts from the end, but there are only {len(available)} {what}")
    return available[number]


def _text(text: str, available: Sequence[int], what: str) -> list[int]:
    if text == "last":
        return [_number(text, available, what)]
    try:
        numbers = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0] is not None:
        return [_number(numbers[0], available, what)]
    if len(numbers) in (2, 3):
        return _slice(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None, available, what)
    raise StorageUsageError(f"{what}: {text!r} is no number or half-open slice; write e.g. 0,21:26,last")


def _slice(start: int | None, stop: int | None, step: int | None, available: Sequence[int], what: str) -> list[int]:
    if what != "epochs" and min(start or 0, stop or 0) < 0:
        raise StorageUsageError(f"{what}: the slice {start}:{stop} has negative bounds; only epochs count from the end")
    first = _bound(start or 0, available)
    last = None if stop is None else _bound(stop, available)
    every = 1 if step is None else step
    if every < 1 or (last is not None and last <= first):
        raise StorageUsageError(f"{what}: the slice {start}:{stop} is empty or goes backwards")
    return [v for v in available if v >= first and (last is None or v < last) and (v - first) % every == 0]


def _bound(value: int, available: Sequence[int]) -> int:
    """A negative bound is the number at that place from the end, or the first one as in Python."""
    if value >= 0 or not available:
        return max(value, 0)
    return available[max(value, -len(available))]
