"""Hyperparameters that are drawn: distributions, and the value that a column has in a row. Pure.

A value is a function of (draw seed, row, name of the column). So rows may be appended, and adding or removing a column
does not change the values of other columns. The last digit of ``math.log`` differs between machines. If this could
change how a value is rounded to 9 digits, the value is computed in ``decimal`` instead.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Annotated, Any, Self

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema, model_validator

from ..closed import Closed, Number
from ..errors import nearest
from ..models.layers import ACTIVATIONS
from ..models.optimizers import OPTIMIZERS
from ..models.registry import INITIALIZERS
from .blocks import AXIS_ORDER
from .validation import one_line

DIGITS = 9
"""Significant digits of a drawn number. The numbers of a distribution may not have more."""
_FORMAT = f"%.{DIGITS}g"
_EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)
_ROUNDED = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)
_WORDS = struct.Struct(">QQ")
_TWO_PI = Decimal("6.2831853071795864769252867665590057683943387987502")

NAMES: dict[str, tuple[Any, ...]] = {
    "activation": tuple(ACTIVATIONS), "initializer": tuple(INITIALIZERS), "optimizer": tuple(OPTIMIZERS),
}  # fmt: skip

NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda number: number > 0, "a number above 0"),
    "weight_decay": (lambda number: number >= 0, "0 or more"),
    "initial_std": (lambda number: number > 0, "a number above 0"),
    "dropout_ratio": (lambda number: 0 <= number < 1, "0 or more, and below 1"),
    "label_noise": (lambda number: 0 <= number < 1, "0 or more, and below 1"),
    "train_fraction": (lambda number: 0 < number <= 1, "above 0, and at most 1"),
}
"""For each column a test of a number, and in words the numbers that it accepts."""

Pair = tuple[Number, Number]


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))


class Distribution(Closed):
    """The distribution of a column's values; exactly one field is set. A plain value is a choice with one value."""

    log_uniform: Pair | None = None
    """Lowest and highest number; the logarithm of the value is uniformly distributed."""
    uniform: Pair | None = None
    """Lowest and highest number; the value is uniformly distributed."""
    normal: Pair | None = None
    """Mean and standard deviation."""
    choice: Annotated[tuple[Number | str, ...], Field(min_length=1)] | None = None
    """Values that are equally likely."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "nothing"
            raise ValueError(f"give one of log_uniform, uniform, normal and choice; found {named}")
        pair = self.log_uniform or self.uniform or self.normal or ()
        for number in pair:
            if len(_decimal(number).normalize(_EXACT).as_tuple().digits) > DIGITS:
                raise ValueError(f"{number!r} has more than {DIGITS} significant digits, which drawn numbers have")
        if self.normal is not None:
            if self.normal[1] <= 0:
                raise ValueError(f"normal: the standard deviation {self.normal[1]!r} has to be above 0")
        elif pair and pair[0] >= pair[1]:
            raise ValueError(f"the range is empty: low {pair[0]!r} has to be below high {pair[1]!r}")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform begins above 0, got {self.log_uniform[0]!r}")
        if self.choice is not None and len(set(self.choice)) != len(self.choice):
            raise ValueError(f"a value is named twice in {list(self.choice)}")
        return self

    @property
    def values(self) -> tuple[Any, ...]:
        """The values of a choice; empty if numbers are drawn from a range or a normal distribution."""
        return self.choice or ()

    def __str__(self) -> str:
        if self.choice is not None:
            return ", ".join(map(str, self.choice))
        name = next(name for name in ("log_uniform", "uniform", "normal") if getattr(self, name) is not None)
        return f"{name} [{', '.join(f'{number:g}' for number in getattr(self, name))}]"


def _distribution(value: Any) -> Distribution:
    if isinstance(value, Distribution):
        return value
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        value = {"choice": [value]}
    if not isinstance(value, dict):
        raise ValueError(f"expected a value or a distribution such as {{uniform: [0, 0.5]}}, got {value!r}")
    try:
        return Distribution.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise ValueError(one_line(error, Distribution)) from None


def _distribution_json(distribution: Distribution) -> Any:
    return distribution.model_dump(mode="json", exclude_defaults=True)


Drawn = Annotated[
    Distribution,
    PlainValidator(_distribution),
    PlainSerializer(_distribution_json),
    WithJsonSchema({"anyOf": [{"type": ["number", "string"]}, Distribution.model_json_schema()]}),
]


def drawn(distribution: Distribution, seed: int, row: int, column: str) -> Any:
    """The value of ``column`` in ``row``: a float of 9 significant digits, or one of the choices."""
    choice = distribution.choice
    if choice is not None and len(choice) == 1:
        return choice[0]
    first, second = words(seed, row, column)
    if choice is not None:
        return choice[first * len(choice) >> 64]
    value, error = quick_value(distribution, first, second)
    text = _FORMAT % (value - error)
    if 1e-290 < abs(value) < 1e290 and text == _FORMAT % (value + error):
        return float(text)
    return exact_value(distribution, first, second)


def quick_value(distribution: Distribution, first: int, second: int) -> tuple[float, float]:
    """A value in floats and a bound of its error, at least ten times the error of correctly rounded operations."""
    unit = (2 * first + 1) / 2**65
    if distribution.uniform is not None:
        low, high = distribution.uniform
        return low + unit * (high - low), 1e-14 * (abs(low) + abs(high))
    if distribution.log_uniform is not None:
        low, high = map(math.log, distribution.log_uniform)
        value = math.exp(low + unit * (high - low))
        return value, 1e-14 * (1 + abs(low) + abs(high)) * value
    assert distribution.normal is not None
    mean, deviation = distribution.normal
    log = math.log(unit) if unit < 0.5 else math.log1p(-(2**65 - 2 * first - 1) / 2**65)
    value = mean + deviation * math.sqrt(-2 * log) * math.cos(2 * math.pi * ((2 * second + 1) / 2**65))
    return value, 1e-14 * (abs(mean) + 100 * deviation)


def exact_value(distribution: Distribution, first: int, second: int) -> float:
    """The value for two words, computed in decimal arithmetic. It takes 20 times as long as ``quick_value``."""
    with localcontext(_EXACT):
        if distribution.uniform is not None:
            low, high = map(_decimal, distribution.uniform)
            value = low + _unit(first) * (high - low)
        elif distribution.log_uniform is not None:
            low, high = (_decimal(end).ln() for end in distribution.log_uniform)
            value = (low + _unit(first) * (high - low)).exp()
        else:
            assert distribution.normal is not None
            mean, deviation = map(_decimal, distribution.normal)
            value = mean + deviation * (-2 * _unit(first).ln()).sqrt() * _cosine(_TWO_PI * _unit(second))  # Box, Muller
        return float(_ROUNDED.plus(value)) + 0.0


def words(seed: int, row: int, column: str) -> tuple[int, int]:
    """Two 64-bit words: the first 16 bytes, big-endian, of the SHA-256 of ``zooforge draw <seed> <row> <column>``."""
    digest = hashlib.sha256(f"zooforge draw {seed} {row} {column}".encode()).digest()
    first, second = _WORDS.unpack_from(digest)
    return first, second


def _unit(word: int) -> Decimal:
    """(word + 1/2) / 2**64, which is greater than 0 and less than 1."""
    return Decimal(2 * word + 1) / 2**65


def _cosine(angle: Decimal) -> Decimal:
    """Cosine by its power series, until the terms are below 1e-40: about 40 terms for angles up to 2 pi."""
    term, total, number = Decimal(1), Decimal(1), 0
    while abs(term) > Decimal("1e-40"):
        number += 2
        term *= -angle * angle / (number * (number - 1))
        total += term
    return total


class Draws(Closed):
    """Hyperparameters of each model, drawn by (seed, row, name of the column). All models share a plain value."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(examples=["1"])
    """Seed of the draws. Another seed makes another zoo."""
    num_models: Annotated[int, Field(gt=0, le=10_000_000)] = Field(examples=["1000"])
    """Rows of the zoo. The number may grow, and existing rows do not change."""
    activation: Drawn = Field(default=Distribution(choice=("identity",)), examples=["{choice: [tanh, relu]}"])
    """Required if the network has layers `activation`, whose function is the model's own."""
    dropout_ratio: Drawn = Field(default=Distribution(choice=(0.0,)), examples=["{uniform: [0, 0.5]}"])
    """Required if the network has dropout layers."""
    initializer: Drawn = Field(examples=["kaiming_uniform"])
    optimizer: Drawn = Field(examples=["{choice: [sgd, adam]}"])
    learning_rate: Drawn = Field(examples=["{log_uniform: [1e-4, 1e-1]}"])
    weight_decay: Drawn = Field(examples=["{log_uniform: [1e-6, 1e-2]}"])
    train_fraction: Drawn = Field(default=Distribution(choice=(1.0,)), examples=["{choice: [0.1, 0.25, 0.5, 1.0]}"])
    """Share of the training images that a model sees."""
    label_noise: Drawn = Field(default=Distribution(choice=(0.0,)), examples=["{uniform: [0, 0.5]}"])
    """Probability that a training image has a wrong label."""
    initial_std: Drawn = Field(default=Distribution(choice=(1.0,)), examples=["{log_uniform: [0.03, 0.7]}"])
    """Standard deviation of the initial weights of normal, and of truncated_normal before it is cut; with
    other initializers, which have their own, the column is 1."""

    @model_validator(mode="after")
    def _fits_columns(self) -> Self:
        for column in AXIS_ORDER:
            distribution: Distribution = getattr(self, column)
            if column in NAMES:
                if distribution.choice is None:
                    raise ValueError(f"{column} is a name: give one, or a choice of names")
                for name in distribution.choice:
                    if name not in NAMES[column]:
                        close = nearest(str(name), NAMES[column])
                        offer = f"did you mean {close!r}? " if close else ""
                        raise ValueError(f"{column} is {name!r}; {offer}accepted: {', '.join(NAMES[column])}")
                continue
            for number in distribution.choice or distribution.uniform or distribution.log_uniform or ():
                self.check_number(column, number)
        return self

    @staticmethod
    def check_number(column: str, number: Any) -> None:
        """Raises ValueError if the column cannot have this value."""
        if not isinstance(number, float):
            raise ValueError(f"{column} is {number!r}, expected a number or a distribution of numbers")
        accepted, expected = NUMBERS[column]
        if not accepted(number):
            raise ValueError(f"{column} {number!r} is not {expected}")


class DrawsLike(Closed):
    """In a spec's file: copies the draws of another zoo when it is read. Row i then has the same values in both."""

    like: str = Field(examples=["small-cnn-mnist"])
    """A zoo of the catalogue, or the path of a spec's file, relative to this file."""
    num_models: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    """Rows of this zoo; null: as many as the other zoo has."""


DRAWS_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [Draws.model_json_schema(), DrawsLike.model_json_schema(), {"type": "null"}]
}
DrawsField = Annotated[Draws | None, WithJsonSchema(DRAWS_JSON_SCHEMA)]
