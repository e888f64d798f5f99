"""The reading budget: limits on the cost of reading one thing from outside. Pure, except that it reads a clock.

Every parser of bytes that others wrote (JSON, pickles, checkpoints, HTTP replies, YAML) has one ``Budget`` here, and
counts what it reads with a ``Meter``. SECURITY.md shows this table.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import BudgetExceeded

MiB = 2**20
GiB = 2**30


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits for one thing that is read.

    Attributes:
        max_bytes: bytes of the input, and bytes that are allocated because the input says so.
        max_elements: values, tensors or nodes that are made.
        max_depth: levels of nesting.
        max_seconds: time from the first byte to the last.
    """

    max_bytes: int
    max_elements: int = 16_000_000
    max_depth: int = 64
    max_seconds: float = 600.0

    def meter(self, what: str, clock: Callable[[], float] = time.monotonic) -> "Meter":
        """A meter that starts now; ``what`` begins its error messages."""
        return Meter(self, what, clock)


class Meter:
    """Counts the cost of reading one thing. Each method raises BudgetExceeded when its limit is passed."""

    def __init__(self, budget: Budget, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self.num_bytes = 0
        self.num_elements = 0
        self._what = what
        self._clock = clock
        self._start = clock()

    def add(self, *, num_bytes: int = 0, num_elements: int = 0) -> None:
        """Count bytes and elements; call it before they are allocated."""
        self.num_bytes += num_bytes
        self.num_elements += num_elements
        self._check("bytes", self.num_bytes, self.budget.max_bytes)
        self._check("elements", self.num_elements, self.budget.max_elements)

    def check_depth(self, depth: int) -> None:
        self._check("levels of nesting", depth, self.budget.max_depth)

    def check_time(self) -> None:
        if self.seconds_left <= 0:
            raise BudgetExceeded(
                f"{self._what}: not read within {self.budget.max_seconds:g} seconds, which is the limit"
            )

    @property
    def seconds_left(self) -> float:
        return self._start + self.budget.max_seconds - self._clock()

    def _check(self, unit: str, count: int, limit: int) -> None:
        if count > limit:
            raise BudgetExceeded(f"{self._what}: {count:,} {unit}, the limit is {limit:,}")


JSON = Budget(max_bytes=256 * MiB)
WEB_REPLY = Budget(max_bytes=4 * GiB)
PICKLE = Budget(max_bytes=1 * GiB, max_elements=1_000_000)
CHECKPOINT = Budget(max_bytes=8 * GiB, max_elements=1_000_000)
IMAGES = Budget(max_bytes=4 * GiB, max_elements=16_000_000, max_seconds=3600.0)
DATA_SET_FILE = Budget(max_bytes=1 * GiB, max_elements=16_000_000)
TABLE = Budget(max_bytes=16 * GiB)
