"""Machines that `zoo plan` knows: measured rates from rates.yaml, prices from prices.yaml. Reads these files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..closed import Closed
from ..errors import InputError, unknown
from ..spec.blocks import ArchitectureName, PrecisionName, validated
from ..spec.yaml_values import yaml_values

RATES = Path(__file__).with_name("rates.yaml")
PRICES = Path(__file__).with_name("prices.yaml")

Positive = Annotated[float, Field(gt=0)]


class Rate(Closed):
    """Samples per second of one slot, measured by benchmarks/rates.py."""

    engine: str
    architecture: ArchitectureName | Annotated[str, Field(pattern=r"^layers-[0-9a-f]{8}$")]
    """A name of the registry, or the name that a list of layers has in manifests."""
    channels: Annotated[int, Field(gt=0)]
    twins: bool
    """Variational dropout; other twins train as their parents do."""
    precision: PrecisionName = "float32"
    workers_per_gpu: Annotated[int, Field(gt=0)] = 1
    """Workers that shared the GPU when this rate of one of them was measured."""
    date: str
    """Date of the measurement."""
    train_samples_per_second: Positive
    eval_samples_per_second: Positive


class MachineRates(Closed):
    description: str
    slots: Annotated[int, Field(gt=0)]
    """Number of tasks that run at once without slowing each other down."""
    price: str
    """A key of prices.yaml."""
    rates: tuple[Rate, ...]
    peak_tflop_per_second: dict[str, Positive] = Field(default_factory=dict)
    """Peak of one slot, by precision, from the data sheet of its GPU; for estimates if nothing was measured.
    Machines without GPUs have none."""


class RateTable(Closed):
    default: str
    assumed_ratio: dict[str, Annotated[float, Field(gt=0, le=1)]]
    """Assumed share of the peak that a network reaches if it is not a layer list, by precision."""
    machines: dict[str, MachineRates]


class Price(Closed):
    dollars_per_hour: Positive
    per_core: bool = False
    date: str
    source: str


class PriceTable(Closed):
    currency: Literal["USD"]
    """Options, metrics and messages say dollars."""
    prices: dict[str, Price]


@dataclass(frozen=True, slots=True)
class Assumed:
    """The speed that a slot is assumed to have: a peak of its data sheet, and the share of it that is reached."""

    peak_tflop_per_second: float
    ratio: float

    @property
    def flop_per_second(self) -> float:
        return 1e12 * self.peak_tflop_per_second * self.ratio

    def __str__(self) -> str:
        return f"{self.ratio:.0%} of {self.peak_tflop_per_second:g} TFLOP/s"


@dataclass(frozen=True, slots=True)
class Machine:
    """``count`` machines of a kind. Dollars per hour are the price of all of them; None without a price."""

    name: str
    description: str
    count: int
    slots: int
    dollars_per_hour: float | None
    spot_dollars_per_hour: float | None
    rates: tuple[Rate, ...]
    assumed: Mapping[str, "Assumed"] = field(default_factory=dict)
    """By precision; empty for a machine whose peaks are not known."""

    def rate(
        self, architecture: str, channels: int, twins: bool, engine: str | None = None, precision: str = "float32"
    ) -> Rate | None:
        """The fastest measured rate, or that of ``engine``; None if it was not measured."""
        fitting = [
            rate
            for rate in self.rates
            if (rate.architecture, rate.channels, rate.twins, rate.precision)
            == (architecture, channels, twins, precision)
            and engine in (None, rate.engine)
        ]
        return max(fitting, key=lambda rate: rate.train_samples_per_second, default=None)


def machine(name: str | None = None, workers_per_gpu: int = 1) -> Machine:
    """The machine ``name``, or N of them if ``name`` is ``NAME:N``; None: the table's default.

    Args:
        workers_per_gpu: slots of each GPU. Machines without GPUs ignore it. A peak is divided among the slots.

    Raises:
        InputError: an unknown machine, or N is not a positive integer.
    """
    table = _rates()
    kind, _, count = (name or table.default).partition(":")
    if kind not in table.machines:
        raise unknown("machine", kind, table.machines)
    if count and not (count.isdecimal() and int(count) > 0):
        raise InputError(f"--on {name}: {count!r} is not a number of machines")
    number, rates = int(count or 1), table.machines[kind]
    shares = workers_per_gpu if rates.peak_tflop_per_second else 1
    slots = rates.slots * shares

    def dollars(key: str) -> float | None:
        price = _prices().get(key)
        return None if price is None else price.dollars_per_hour * (rates.slots if price.per_core else 1) * number

    prices = dollars(rates.price), dollars(f"{rates.price}-spot")
    peaks = rates.peak_tflop_per_second.items()
    assumed = {name: Assumed(peak / shares, table.assumed_ratio[name]) for name, peak in peaks}
    measured = tuple(rate for rate in rates.rates if rate.workers_per_gpu == shares)
    plain = Machine(kind, rates.description, 1, slots, *prices, measured, assumed)
    return plain if number == 1 else replace(plain, name=f"{kind}:{number}", count=number, slots=slots * number)


def machine_here(environment: Mapping[str, str], workers_per_gpu: int = 1) -> Machine | None:
    """The machine that ``ZOO_MACHINE`` names, without it the table's default; None for a name without rates."""
    name = environment.get("ZOO_MACHINE") or _rates().default
    return machine(name, workers_per_gpu) if name in _rates().machines else None


def slot_price(environment: Mapping[str, str], gpu_share: float = 1) -> float | None:
    """Dollars per hour of one slot on the machine that ``ZOO_MACHINE`` names; the chart sets it for workers.

    With ``ZOO_PRICE_CLASS=spot`` it is the price ``<price>-spot`` where the table has one. A name without rates is
    looked up in the price table and counts as one slot. None without a name or a price.

    Args:
        gpu_share: the part of a GPU that the slot takes; 1 where it takes a whole one, or none.
    """
    name = environment.get("ZOO_MACHINE", "")
    rates = _rates().machines.get(name)
    key, slots = (name, 1) if rates is None else (rates.price, rates.slots)
    spot = environment.get("ZOO_PRICE_CLASS") == "spot"
    price = (_prices().get(f"{key}-spot") if spot else None) or _prices().get(key)
    if price is None:
        return None
    return price.dollars_per_hour if price.per_core else gpu_share * price.dollars_per_hour / slots


@cache
def _rates() -> RateTable:
    return validated(RateTable, yaml_values(RATES.read_text(encoding="utf-8"), RATES.name), RATES.name)


@cache
def _prices() -> dict[str, Price]:
    return validated(PriceTable, yaml_values(PRICES.read_text(encoding="utf-8"), PRICES.name), PRICES.name).prices
