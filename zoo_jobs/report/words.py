"""Formats numbers and names for people. Pure."""

import math
from collections.abc import Iterable
from typing import Any

from ..quantities import dollars, duration, size

__all__ = [
    "NONE", "count", "decibels", "dollars", "duration", "in_order", "more_decibels", "name", "number", "percent",
    "points", "sentence", "signed_minus", "size", "value",
]  # fmt: skip

NAMES = {
    "activation": "Activation",
    "initializer": "Initializer",
    "optimizer": "Optimizer",
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "dropout_ratio": "Dropout",
    "train_fraction": "Train fraction",
    "label_noise": "Label noise",
    "initial_std": "Initial deviation",
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "seed": "Seed",
}
NONE = "–"


def name(hyperparameter: str) -> str:
    """``learning_rate`` is Learning rate."""
    return NAMES.get(hyperparameter, hyperparameter.replace("_", " ").capitalize())


def in_order(hyperparameters: Iterable[str]) -> list[str]:
    """The names in the order in which a report shows them."""
    order = list(NAMES)
    return sorted(hyperparameters, key=lambda one: order.index(one) if one in order else len(order))


def percent(ratio: float, digits: int = 1) -> str:
    """0.9123 is 91.2%; NaN is a dash."""
    if not math.isfinite(ratio):
        return NONE
    return signed_minus(f"{100 * ratio:.{digits}f}%")


def points(ratio: float, digits: int = 1) -> str:
    """A difference of two ratios in percentage points, with its sign."""
    if not math.isfinite(ratio):
        return NONE
    return signed_minus(f"{100 * ratio:+.{digits}f} pp")


def decibels(value: float) -> str:
    """31.26 is 31.3 dB; NaN is a dash."""
    return NONE if not math.isfinite(value) else signed_minus(f"{value:.1f} dB")


def more_decibels(value: float) -> str:
    """A difference in decibels, with its sign."""
    return NONE if not math.isfinite(value) else signed_minus(f"{value:+.1f} dB")


def signed_minus(text: str) -> str:
    return text.replace("-", "−")


def count(number: int, noun: str | None = None, plural: str | None = None) -> str:
    """2560 is 2,560; with a noun, 1 model and 2,560 models."""
    if noun is None:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def value(thing: Any) -> str:
    """A hyperparameter's value: 0.0001 rather than 1e-04, kaiming uniform rather than kaiming_uniform."""
    if isinstance(thing, bool):
        return "yes" if thing else "no"
    if isinstance(thing, float):
        text = f"{thing:.10f}".rstrip("0").rstrip(".") if 1e-6 <= abs(thing) < 1e7 or thing == 0 else f"{thing:g}"
        return signed_minus(text)
    return str(thing).replace("_", " ")


def number(amount: float, digits: int = 3) -> str:
    """A loss or a distance with ``digits`` significant digits."""
    if not math.isfinite(amount):
        return NONE
    if 10**digits <= abs(amount) < 1e9:
        return signed_minus(f"{amount:,.0f}")
    return signed_minus(f"{amount:.{digits}g}")


def sentence(parts: list[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
