"""The input and the output of a method. Pure.

Shape suffix: N = states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from ...errors import ZooError
from ..samples import Given

Kind = Literal["regression", "classification"]
Predict = Callable[[Given], NDArray[Any]]
"""The predictions [N] for N states. That for a state may not depend on the others."""


@dataclass(frozen=True, eq=False)
class Part:
    """States and the truth [N] about them: float64 for a regression, else objects."""

    given: Given
    truth: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """The data that a method is fitted on. ``val`` is for choices such as penalties and the end of training."""

    train: Part
    val: Part
    kind: Kind
    seed: int


Fit = Callable[[Problem], Predict]


class Unfit(ZooError):
    """A method that does not fit the networks of a zoo; its message says why, and the table shows it."""
