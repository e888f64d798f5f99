"""Best and worst models."""

from collections.abc import Iterable

from .. import words
from ..blocks import Row, Section, Table, number
from ..contents import Contents
from ..population import Population
from ..statistics import ranked

SHOWN = 5


def section(contents: Contents) -> Section | None:
    population = contents.population
    order = ranked(population)
    if not len(order):
        return None
    count = words.count(min(SHOWN, len(order)), "model")
    best = _table(f"The best {count}", population, order[:SHOWN])
    if len(order) <= SHOWN:
        return Section("best-and-worst", "Best models", [best])
    worst = _table(f"The worst {count}", population, order[::-1][:SHOWN])
    return Section("best-and-worst", "Best and worst models", [best, worst])


def _table(caption: str, population: Population, rows: Iterable[int]) -> Table:
    names = words.in_order(population.varying())
    lines: list[Row] = [
        [
            number(str(population.models_N[row])), number(words.percent(float(population.final("test_acc")[row]))),
            number(words.points(float(population.final("ggap")[row]))),
            *(words.value(population.hyperparameters[name].tolist()[row]) for name in names),
            number(str(population.seeds_N[row])),
        ]
        for row in rows
    ]  # fmt: skip
    return Table(caption, ["Model", "Test", "Gap", *map(words.name, names), "Seed"], lines)
