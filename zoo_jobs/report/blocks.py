"""Sections and the blocks that they consist of, as plain values; page.html.j2 turns them into escaped HTML. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        alt: a sentence that says what a person sees in the chart.
        draw: draws it into matplotlib axes.
        size: width and height in CSS pixels.
    """

    title: str
    alt: str
    draw: Callable[[Any], None]
    note: str = ""
    size: tuple[float, float] = (360, 250)


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        number: aligned at the right.
        wrap: long text may wrap.
        bar: a ratio, drawn as a bar instead of text.
        kind: class in page.css.
    """

    text: str = ""
    number: bool = False
    wrap: bool = False
    code: bool = False
    bar: float | None = None
    kind: str = ""

    @property
    def classes(self) -> str:
        names = ("n" if self.number else "", "wrap" if self.wrap or self.code else "", self.kind)
        return " ".join(filter(None, names))


Row = Sequence[str | Cell]


def number(text: str) -> Cell:
    return Cell(text, number=True)


@dataclass(frozen=True)
class Paragraph:
    type: ClassVar[str] = "paragraph"
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    type: ClassVar[str] = "bullets"
    lines: Sequence[str]


@dataclass(frozen=True)
class Key:
    """The key of charts with bands: median, middle half, 5 to 95 %."""

    type: ClassVar[str] = "key"


@dataclass(frozen=True)
class Table:
    """A table that scrolls by itself on a narrow screen.

    Attributes:
        head: titles of the columns; without them, the first cell of each row is the row's heading.
    """

    type: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Row]

    @property
    def cells(self) -> list[list[Cell]]:
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]

    @property
    def heading(self) -> list[tuple[str, bool]]:
        """(title, whether the column holds numbers, so that its title stands at the right too)."""
        return [(title, any(row[i].number for row in self.cells)) for i, title in enumerate(self.head)]


@dataclass(frozen=True)
class Code:
    """A listing with a heading."""

    type: ClassVar[str] = "code"
    heading: str
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are shown on demand."""

    type: ClassVar[str] = "details"
    summary: str
    blocks: Sequence["Block"]


Block = Paragraph | Bullets | Key | Table | Code | Details


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        name: its anchor in the page, and the name of its picture.
        before, after: blocks around the panels.
        large, small: whether the panels are wider, or narrower, than usual.
        columns: of panels in the picture.
    """

    name: str
    title: str
    before: Sequence[Block] = ()
    panels: Sequence[Panel] = ()
    after: Sequence[Block] = ()
    large: bool = False
    small: bool = False
    columns: int = 3
