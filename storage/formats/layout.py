"""Layout: the ordered table (name, shape, offset) that maps a model's tensors to one vector and back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drawing import table


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a layout. ``offset`` counts values, not bytes."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def layer(self) -> str:
        """The name before the last dot: ``conv1`` for ``conv1.weight``."""
        return self.name.rpartition(".")[0]

    @property
    def is_bias(self) -> bool:
        return self.name.endswith(".bias")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors in order, without gaps: the vector of a model is their row-major values, one after the other."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> "Layout":
        entries, offset = [], 0
        for name, shape in shapes:
            entries.append(Entry(name, shape, offset))
            offset = entries[-1].stop
        return cls(tuple(entries))

    def __repr__(self) -> str:
        return f"<Layout: {len(self)} tensors, {self.size:,} values>"

    def _repr_html_(self) -> str:
        rows = [(e.name, e.shape, f"{e.offset:,}", f"{e.size:,}") for e in self.entries]
        return table(rows, ("tensor", "shape", "offset", "values"))

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return any(entry.name == name for entry in self.entries)

    def __getitem__(self, key: int | str) -> Entry:
        """A tensor by its name or by its place. Raises KeyError, IndexError."""
        if isinstance(key, str):
            for entry in self.entries:
                if entry.name == key:
                    return entry
            raise KeyError(f"no tensor {key!r}; there are {', '.join(entry.name for entry in self.entries)}")
        return self.entries[key]

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.entries[-1].stop if self.entries else 0

    def is_linear(self, entry: Entry) -> bool:
        """True if ``entry`` belongs to a linear layer, whose weight has two axes, not to a convolution."""
        weights = (other for other in self.entries if other.layer == entry.layer and not other.is_bias)
        return all(len(weight.shape) == 2 for weight in weights)

    def maskable(self) -> "Layout":
        """The values of sparsified twins that have a noise variance and a mask: all but the biases of linear layers.

        The reference declares a variance of linear biases (``log_sigma2_bias``) and never uses it.
        """
        return Layout.of([(e.name, e.shape) for e in self.entries if not (e.is_bias and self.is_linear(e))])

    def flatten(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Vectors [..., size] of ``tensors`` [..., *shape] with the same first axes: the inverse of ``unflatten``.

        Raises ValueError where a tensor is missing, unknown or of another shape.
        """
        names = [entry.name for entry in self.entries]
        if set(names) != set(tensors):
            raise ValueError(f"tensors are {sorted(tensors)}, the layout has {sorted(names)}")
        first = self.entries[0]
        lead = tensors[first.name].shape[: tensors[first.name].ndim - len(first.shape)]
        vector = np.empty((*lead, self.size), np.float32)
        for entry in self.entries:
            shape = tensors[entry.name].shape
            if shape != (*lead, *entry.shape):
                raise ValueError(f"{entry.name} has shape {shape}, the layout says {(*lead, *entry.shape)}")
            vector[..., entry.offset : entry.stop] = tensors[entry.name].reshape(*lead, entry.size)
        return vector

    def unflatten(self, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Views of ``vector`` [..., size], one per tensor, of shape [..., *shape]."""
        if vector.shape[-1] != self.size:
            raise ValueError(f"the vector has {vector.shape[-1]} values, the layout {self.size}")
        lead = vector.shape[:-1]
        return {e.name: vector[..., e.offset : e.stop].reshape(*lead, *e.shape) for e in self.entries}

    def to_json(self) -> list[dict[str, Any]]:
        return [{"name": e.name, "shape": list(e.shape), "offset": e.offset} for e in self.entries]

    @classmethod
    def from_json(cls, items: Sequence[Mapping[str, Any]]) -> "Layout":
        """Read back what ``to_json`` wrote. Raises ValueError unless the entries are contiguous and named once."""
        layout = cls.of([(str(i["name"]), tuple(_axis(n) for n in i["shape"])) for i in items])
        if [e.offset for e in layout.entries] != [i["offset"] for i in items]:
            raise ValueError("layout offsets are not contiguous")
        if len({e.name for e in layout.entries}) != len(items):
            raise ValueError("a layout names a tensor twice")
        return layout


def _axis(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{str(value)[:40]!r} is not the length of an axis")
    return value
