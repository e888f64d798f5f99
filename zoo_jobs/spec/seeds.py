"""The seeds of a zoo: listed in the spec, or derived for each model. Pure."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

NUM_RANDOM_SEEDS = 1_000_000
"""The reference draws randint(0, 1,000,000) for every trial of a random-seed zoo."""
_RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class SeedRule:
    """The seeds of every cell, the slowest axis of the grid. If ``values`` is None, every model has its own."""

    values: tuple[int, ...] | None

    @classmethod
    def parse(cls, value: Any) -> "SeedRule":
        """Parse a half-open range such as ``"1:1001"``, a list of seeds, or ``"random"``. Raises ValueError."""
        if isinstance(value, SeedRule):
            return value
        if value == "random":
            return cls(None)
        if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
            start, stop = int(match[1]), int(match[2])
            if not start < stop <= 2**32 or stop - start > NUM_RANDOM_SEEDS:
                raise ValueError(f"{value!r} is empty, goes beyond 2**32, or has more than {NUM_RANDOM_SEEDS:,} seeds")
            return cls(tuple(range(start, stop)))
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"seeds are a range such as '1:11', a list, or 'random', got {value!r}")
        for seed in value:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
                raise ValueError(f"seed {seed!r} is not an integer in 0 .. 2**32 - 1")
        if len(set(value)) != len(value):
            raise ValueError("a seed is named twice")
        return cls(tuple(value))

    def to_json(self) -> str | list[int]:
        if self.values is None:
            return "random"
        first, last = self.values[0], self.values[-1]
        return f"{first}:{last + 1}" if self.values == tuple(range(first, last + 1)) else list(self.values)

    def __str__(self) -> str:
        return str(self.to_json())


SEEDS_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"const": "random"},
        {"type": "string", "pattern": r"^\d+:\d+$"},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**32}, "minItems": 1},
    ]
}


def derived_seed(seed_salt: int, index: int) -> int:
    """Seed of model ``index`` of a random-seed zoo, in [0, 1,000,000).

    The first 8 bytes, big-endian, of the SHA-256 of the ASCII text ``zooforge seed <salt> <index>``, modulo 1,000,000.
    Seeds may repeat, as the reference's draws do.
    """
    digest = hashlib.sha256(f"zooforge seed {seed_salt} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % NUM_RANDOM_SEEDS
