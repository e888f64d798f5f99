"""Formats quantities for people. Pure."""

from collections.abc import Sequence

KiB = 1024
GiB = 1024**3


def duration(seconds: float | None) -> str:
    """``41 s``, ``12 min``, ``9.3 h``, ``3.2 d``; None is ``not measured``."""
    if seconds is None:
        return "not measured"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def size(num_bytes: float) -> str:
    """``512 B``, ``3.1 MiB``, ``2.4 TiB``."""
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    value = float(num_bytes)
    for unit in units:
        if value < 1000 or unit == units[-1]:
            break
        value /= KiB
    return f"{_short(value)} {unit}"


def flop(count: float) -> str:
    """``2.7 PFLOP``."""
    value = float(count)
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"):
        if value < 1000 or unit == "EFLOP":
            break
        value /= 1000
    return f"{_short(value)} {unit}"


def dollars(amount: float | None) -> str:
    """``$0.84``, ``$1,200``; None is ``not known``."""
    if amount is None:
        return "not known"
    if 0 < amount < 0.01:
        return "under $0.01"
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:.2f}"


def table(rows: list[list[str]], align: str) -> list[str]:
    """Lines of aligned columns; ``align`` has ``<`` or ``>`` for each."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(align))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in rows
    ]


def markdown_table(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Lines of a Markdown table, the head first; ``align`` has ``<`` or ``>`` for each column."""
    head, *others = rows
    marks = ["--:" if side == ">" else "--" for side in align]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *others)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
