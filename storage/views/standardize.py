"""Standardised weights: mean 0 and deviation 1 per tensor, fitted on train states alone. Pure numpy."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from ..canonical import parse_json
from ..errors import FormatError, StorageUsageError
from ..formats.layout import Layout
from ..formats.record import check_format
from ..read.reader import ZooReader
from ..read.selection import Selector
from ..read.state_reader import PIECE_BYTES

if TYPE_CHECKING:
    import torch

FORMAT = "zooforge.standardizer"
VERSION = 1


@dataclass(frozen=True)
class Standardizer:
    """Maps weights x to (x - mean) / deviation, with one mean and one deviation for all values of a tensor.

    Per tensor and not per value, so that it commutes with permutations of hidden units.

    Attributes:
        layout: of the vectors that it takes.
        means, deviations: one per tensor of ``layout``.
    """

    layout: Layout
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def __repr__(self) -> str:
        return f"<Standardizer of {len(self.layout)} tensors, {self.layout.size:,} values>"

    @classmethod
    def fit(cls, batches: Iterable[NDArray[np.float32]], layout: Layout) -> "Standardizer":
        """Fit the finite rows [N, D] of all batches, in float64, so that the sizes of the batches hardly matter.

        Raises:
            StorageUsageError: no row is finite.
        """
        count = 0
        means, squares = np.zeros(len(layout.entries)), np.zeros(len(layout.entries))
        for batch in batches:
            rows = batch[np.isfinite(batch).all(axis=1)].astype(np.float64)
            if not len(rows):
                continue
            total = count + len(rows)
            for number, entry in enumerate(layout.entries):
                values = rows[:, entry.offset : entry.stop]
                mean = values.mean()
                gap = mean - means[number]
                # Chan, Golub, LeVeque (1983): the moments of two sets together.
                squares[number] += ((values - mean) ** 2).mean() * len(rows) + gap**2 * count * len(rows) / total
                means[number] += gap * len(rows) / total
            count = total
        if count == 0:
            raise StorageUsageError(
                "standardize: the selection has no finite state of the train split to fit on; select models, epochs or "
                "`where` that have some, or pass a Standardizer that was fitted on others"
            )
        deviations = np.sqrt(squares / count)
        return cls(layout, tuple(means.tolist()), tuple(np.where(deviations > 0, deviations, 1.0).tolist()))

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """[D]"""
        return self._spread(self.means)

    @cached_property
    def deviation(self) -> NDArray[np.float64]:
        """[D]"""
        return self._spread(self.deviations)

    @overload
    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]: ...
    @overload
    def apply(self, values: "torch.Tensor") -> "torch.Tensor": ...
    def apply(self, values: Any) -> Any:
        """Standardised ``values`` [..., D]. A tensor gives a tensor, through which gradients flow."""
        if hasattr(values, "new_tensor"):
            return (values - values.new_tensor(self.mean)) / values.new_tensor(self.deviation)
        return ((values - self.mean) / self.deviation).astype(np.float32)

    @overload
    def invert(self, values: NDArray[Any]) -> NDArray[np.float32]: ...
    @overload
    def invert(self, values: "torch.Tensor") -> "torch.Tensor": ...
    def invert(self, values: Any) -> Any:
        """The weights [..., D] of standardised ``values``, an array or a tensor as ``apply`` takes it."""
        if hasattr(values, "new_tensor"):
            return values * values.new_tensor(self.deviation) + values.new_tensor(self.mean)
        return (values * self.deviation + self.mean).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this standardizer as JSON; ``load`` returns an equal one."""
        tensors = zip(self.layout.to_json(), self.means, self.deviations, strict=True)
        value = {
            "format": FORMAT,
            "version": VERSION,
            "tensors": [{**entry, "mean": mean, "deviation": deviation} for entry, mean, deviation in tensors],
        }
        Path(path).write_text(json.dumps(value, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Standardizer":
        """Read a file that ``save`` wrote. Raises FormatError, StorageUsageError."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise StorageUsageError(f"{path}: cannot be read ({error.strerror})") from None
        value = parse_json(data, str(path))
        check_format(value, FORMAT, VERSION, str(path))
        try:
            layout = Layout.from_json(value["tensors"])
            means, deviations = (tuple(float(entry[n]) for entry in value["tensors"]) for n in ("mean", "deviation"))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path}: not a standardizer ({type(error).__name__}: {error})") from None
        if not all(deviation > 0 for deviation in deviations):
            raise FormatError(f"{path}: not a standardizer (a deviation is not positive)")
        return cls(layout, means, deviations)

    def _spread(self, values: tuple[float, ...]) -> NDArray[Any]:
        return np.repeat(np.array(values, np.float64), [entry.size for entry in self.layout.entries])


def fit_standardizer(
    zoo: ZooReader,
    epochs: Selector = None,
    models: Selector = None,
    where: str | None = None,
    weight_threshold: float | None = None,
) -> Standardizer:
    """Fit the train states among those that ``zoo.weights`` selects for these arguments, in bounded memory.

    Neither alignment nor augmentation changes the result, since a tensor's moments do not depend on the order of units.
    """
    wanted = zoo.wanted(epochs, models, "train", where, weight_threshold)

    def batches() -> Iterator[NDArray[np.float32]]:
        size = max(1, PIECE_BYTES // (4 * max(1, zoo.layout.size)))
        for epoch, chosen in wanted.items():
            for start in range(0, len(chosen), size):
                yield zoo.read({epoch: chosen[start : start + size]}).values

    return Standardizer.fit(batches(), zoo.layout)
