"""The metric by which a report ranks models: test accuracy, or PSNR where models learn images. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from . import words


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric, its name and unit in charts, and how a value and a difference are written.

    Attributes:
        unit: ``%`` for a ratio, ``dB`` for decibels.
    """

    metric: str
    name: str
    unit: str
    show: Callable[[float], str]
    change: Callable[[float], str]

    @property
    def title(self) -> str:
        return self.name[0].upper() + self.name[1:]


ACCURACY = Measure("test_acc", "test accuracy", "%", words.percent, words.points)
PSNR = Measure("psnr", "PSNR", "dB", words.decibels, words.more_decibels)
