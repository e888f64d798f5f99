"""Pieces of HTML: escaped text in, markup out. Pure."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

Row = Sequence["str | Cell"]


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, or markup that is already escaped."""

    text: str
    number: bool = False
    wrap: bool = False
    markup: bool = False
    kind: str = ""


def number(text: str) -> Cell:
    return Cell(text, number=True)


def bar(ratio: float, width: int = 120) -> Cell:
    """A bar as long as the ratio; the number beside it says the same."""
    return Cell(f'<span class="bar" style="width:{max(1, round(width * ratio))}px"></span>', markup=True)


def code(text: str) -> Cell:
    return Cell(f"<code>{html.escape(text)}</code>", markup=True, wrap=True)


def escape(text: str) -> str:
    return html.escape(text, quote=True)


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(lines: Sequence[str], kind: str) -> str:
    return f'<ul class="{kind}">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def table(caption: str, head: Sequence[str], rows: Sequence[Row]) -> str:
    """A table that scrolls by itself where the page is narrow. A column of numbers has its heading at the right too."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    aligned = [any(row[column].number for row in cells) for column in range(len(head))]
    heading = "".join(
        f'<th scope="col"{_class("n" if right else "")}>{escape(title)}</th>'
        for title, right in zip(head, aligned, strict=True)
    )
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>\n" for row in cells)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heading}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def pairs(caption: str, rows: Sequence[tuple[str, str | Cell]]) -> str:
    """A table of names and values."""
    body = ""
    for name, value in rows:
        cell = value if isinstance(value, Cell) else Cell(value, wrap=True)
        body += f'<tr><th scope="row">{escape(name)}</th>{_cell(cell)}</tr>\n'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>\n<tbody>\n{body}</tbody></table></div>"
    )


def details(summary: str, inner: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n{inner}\n</details>"


def _cell(cell: Cell) -> str:
    kinds = " ".join(kind for kind, on in (("n", cell.number), ("wrap", cell.wrap)) if on)
    kinds = f"{kinds} {cell.kind}".strip()
    return f"<td{_class(kinds)}>{cell.text if cell.markup else escape(cell.text)}</td>"


def _class(kinds: str) -> str:
    return f' class="{kinds}"' if kinds else ""
