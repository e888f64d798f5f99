"""A section of the report, and what several of them say. Pure but for the charts that it holds."""

from dataclasses import dataclass, field

from . import words
from .contents import Contents
from .drawing import Panel


@dataclass(frozen=True)
class Section:
    """``before`` and ``after`` are markup around the panels; ``name`` is the anchor, and the PNG's name."""

    name: str
    title: str
    before: str = ""
    panels: tuple[Panel, ...] = ()
    after: str = ""
    large: bool = False
    columns: int = field(default=3)


def extent(contents: Contents) -> str:
    """How much of the zoo is here: ``32 of 2,560 models, 6 of 50 epochs``."""
    facts, here = contents.facts, contents.population
    last = int(here.epochs_E[-1])
    models = f"{words.count(here.num_models)} of {words.count(facts.num_models, 'model')}"
    if last > facts.num_epochs:
        return f"{models}, {words.count(last, 'epoch')}, {words.count(last - facts.num_epochs)} more than planned"
    return f"{models}, {words.count(last)} of {words.count(facts.num_epochs, 'epoch')}"
