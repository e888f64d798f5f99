"""Sets of epochs, and the parts in which epochs are committed. Pure."""

import re
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

MAX_EPOCH = 1_000_000
_SLICE = re.compile(r"(\d+):(\d+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class EpochSet:
    """A set of epochs: sorted, disjoint, half-open ``spans``. None means every epoch."""

    spans: tuple[tuple[int, int], ...] | None

    def __contains__(self, epoch: int) -> bool:
        return self.spans is None or any(start <= epoch < stop for start, stop in self.spans)

    def with_epoch_0(self) -> "EpochSet":
        return self if 0 in self else EpochSet.parse([0, *self.to_json()])

    def below(self, stop: int) -> tuple[int, ...]:
        """Epochs of the set in ``[0, stop)``, ascending."""
        return tuple(epoch for epoch in range(stop) if epoch in self)

    @classmethod
    def parse(cls, value: Any) -> "EpochSet":
        """Parse ``"all"``, or a list of epochs and half-open slices such as ``[0:3, 21:26, 50]`` or ``["0:51:10"]``.

        Raises:
            ValueError: ``value`` is anything else, or has an empty slice or an epoch above a million.
        """
        if isinstance(value, EpochSet):
            return value
        if value == "all":
            return cls(None)
        if not isinstance(value, list | tuple):
            raise ValueError(f"epochs are 'all' or a list such as [0:3, 21:26, 50], got {value!r}")
        spans: list[tuple[int, int]] = []
        for item in value:
            spans += _spans(item)
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return cls(tuple(merged))

    def to_json(self) -> str | list[int | str]:
        """The shortest JSON that ``parse`` reads back. Equal sets give equal JSON."""
        if self.spans is None:
            return "all"
        return [start if stop == start + 1 else f"{start}:{stop}" for start, stop in self.spans]

    def __str__(self) -> str:
        return "all" if self.spans is None else "[" + ", ".join(str(item) for item in self.to_json()) + "]"


EPOCHS_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"const": "all"},
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string", "pattern": r"^\d+:\d+(:\d+)?$"},
                ]
            },
        },
    ]
}


def _spans(item: Any) -> list[tuple[int, int]]:
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise ValueError(f"{item!r} is neither an epoch nor a slice such as 21:26")
    if isinstance(item, int):
        start, stop, step = item, item + 1, 1
    else:
        match = _SLICE.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not a slice such as 21:26 or 0:51:10")
        start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if not 0 <= start < stop <= MAX_EPOCH or step < 1:
        raise ValueError(f"{item!r} holds no epoch, or one below 0 or beyond {MAX_EPOCH:,}")
    return [(start, stop)] if step == 1 else [(epoch, epoch + 1) for epoch in range(start, stop, step)]


def part_of(epoch: int, commit_every: int) -> int:
    """The part that holds ``epoch``: part 0 is epoch 0, part p the epochs ((p - 1) * c, p * c] of c = commit_every."""
    return -(-epoch // commit_every)


def part_epochs(part: int, commit_every: int) -> range:
    """Epochs of a part, ascending."""
    return range(1) if part == 0 else range((part - 1) * commit_every + 1, part * commit_every + 1)


def last_part(num_epochs: int, commit_every: int) -> int:
    """The part whose last epoch is ``num_epochs``.

    Raises:
        InputError: no part ends at ``num_epochs``.
    """
    if num_epochs % commit_every:
        below = num_epochs - num_epochs % commit_every
        raise InputError(
            f"--epochs {num_epochs} is not a multiple of commit_every {commit_every}; "
            f"the nearest are {below} and {below + commit_every}"
        )
    return num_epochs // commit_every
