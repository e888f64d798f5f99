"""Machines that `zoo plan` knows: measured rates from rates.yaml, prices from prices.yaml. Reads these files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..closed import Closed
from ..errors import InputError, unknown
from ..spec.blocks import ArchitectureName, validated
from ..spec.yaml_values import yaml_values

RATES = Path(__file__).with_name("rates.yaml")
PRICES = Path(__file__).with_name("prices.yaml")

Positive = Annotated[float, Field(gt=0)]


class Rate(Closed):
    """What one slot of a machine does, as benchmarks/rates.py measured it."""

    engine: str
    architecture: ArchitectureName
    channels: Annotated[int, Field(gt=0)]
    twins: bool
    """Variational dropout; other twins train as their parents do."""
    date: str
    """Of the measurement."""
    train_samples_per_second: Positive
    eval_samples_per_second: Positive


class MachineRates(Closed):
    description: str
    slots: Annotated[int, Field(gt=0)]
    """Tasks that run at once, without slowing each other."""
    price: str
    """A key of prices.yaml."""
    rates: tuple[Rate, ...]


class RateTable(Closed):
    default: str
    machines: dict[str, MachineRates]


class Price(Closed):
    dollars_per_hour: Positive
    per_core: bool = False
    date: str
    source: str


class PriceTable(Closed):
    currency: str
    prices: dict[str, Price]


@dataclass(frozen=True, slots=True)
class Machine:
    """``count`` machines of a kind. Dollars per hour are of all of them, on demand and spot; None without a price."""

    name: str
    description: str
    count: int
    slots: int
    dollars_per_hour: float | None
    spot_dollars_per_hour: float | None
    rates: tuple[Rate, ...]

    def rate(self, architecture: str, channels: int, twins: bool, engine: str | None = None) -> Rate | None:
        """The fastest measured rate, of ``engine`` if it is named; None where that was not measured."""
        fitting = [
            rate
            for rate in self.rates
            if (rate.architecture, rate.channels, rate.twins) == (architecture, channels, twins)
            and engine in (None, rate.engine)
        ]
        return max(fitting, key=lambda rate: rate.train_samples_per_second, default=None)


def machine(name: str | None = None) -> Machine:
    """The machine called ``name``, or ``N`` of them as ``name:N``; None: the table's default.

    Raises:
        InputError: an unknown machine, or a count that is none.
    """
    table = _rates()
    kind, _, count = (name or table.default).partition(":")
    if kind not in table.machines:
        raise unknown("machine", kind, table.machines)
    if count and not (count.isdecimal() and int(count) > 0):
        raise InputError(f"--on {name}: {count!r} is no number of machines")
    number, found = int(count or 1), table.machines[kind]

    def dollars(key: str) -> float | None:
        price = _prices().get(key)
        return None if price is None else price.dollars_per_hour * (found.slots if price.per_core else 1) * number

    prices = dollars(found.price), dollars(f"{found.price}-spot")
    plain = Machine(kind, found.description, 1, found.slots, *prices, found.rates)
    return plain if number == 1 else replace(plain, name=f"{kind}:{number}", count=number, slots=found.slots * number)


def machine_here(environment: Mapping[str, str]) -> Machine | None:
    """The machine that ``ZOO_MACHINE`` names, without it the table's default; None for a name without rates."""
    name = environment.get("ZOO_MACHINE") or _rates().default
    return machine(name) if name in _rates().machines else None


def slot_price(environment: Mapping[str, str]) -> float | None:
    """Dollars per hour of one slot on the machine that ``ZOO_MACHINE`` names, as the chart says it to its workers.

    ``ZOO_PRICE_CLASS`` spot takes the price called ``<price>-spot`` where the table has one. A machine without rates
    is looked up among the prices themselves and counts as one slot. None where there is no name or no price.
    """
    name = environment.get("ZOO_MACHINE", "")
    found = _rates().machines.get(name)
    key, slots = (name, 1) if found is None else (found.price, found.slots)
    spot = environment.get("ZOO_PRICE_CLASS") == "spot"
    price = (_prices().get(f"{key}-spot") if spot else None) or _prices().get(key)
    if price is None:
        return None
    return price.dollars_per_hour if price.per_core else price.dollars_per_hour / slots


@cache
def _rates() -> RateTable:
    return validated(RateTable, yaml_values(RATES.read_text(encoding="utf-8"), RATES.name), RATES.name)


@cache
def _prices() -> dict[str, Price]:
    return validated(PriceTable, yaml_values(PRICES.read_text(encoding="utf-8"), PRICES.name), PRICES.name).prices
