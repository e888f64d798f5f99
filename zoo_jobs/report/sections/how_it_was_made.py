"""The section "How it was made": plan against actual, cost, attempts and problems. No other section contains times."""

from datetime import UTC, datetime

from matplotlib.axes import Axes

from .. import words
from ..blocks import Block, Bullets, Details, Panel, Paragraph, Row, Section, Table, number
from ..charts.drawing import BLUE, GREEN, INK, MUTED, OCHRE, VERMILION
from ..contents import Contents, RunAccount

ROWS = (
    ("wall_seconds", "Wall time"),
    ("compute_seconds", "Training time, all slots"),
    ("pod_seconds", "Pod time"),
    ("dollars", "Dollars"),
    ("wasted_dollars", "Dollars without a commit"),
    ("bytes", "Bytes written"),
    ("bytes_read", "Bytes read"),
    ("retries", "Tasks tried again"),
    ("store_retries", "Requests to the store tried again"),
    ("preemptions", "Preemptions"),
    ("lost_epochs", "Model-epochs lost"),
)
ENDINGS = {"finished": GREEN, "stopped": BLUE, "signal": BLUE, "preempted": OCHRE, "failed": VERMILION}
SHOWN_PROBLEMS = 50


def section(contents: Contents) -> Section | None:
    accounts = contents.accounts
    if not accounts:
        return None
    blocks: list[Block] = []
    for account in accounts:
        rows: list[Row] = []
        for key, name in ROWS:
            if key not in account.actual and key not in account.planned:
                continue
            planned, actual = account.planned.get(key), account.actual.get(key)
            off = words.NONE
            if planned and actual is not None:
                off = words.signed_minus(f"{100 * (actual / planned - 1):+.0f}%")
            cells = [number(_amount(key, planned)), number(_amount(key, actual)), number(off)]
            rows.append([name, *(cells if account.planned else cells[1:2])])
        if account.planned:
            blocks.append(Table(f"{account.zoo}: plan against actual", ["", "Planned", "Actual", "Off by"], rows))
        else:
            blocks.append(Table(f"{account.zoo}: what it took", ["", "Actual"], rows))
        if account.plan:
            blocks.append(Paragraph(account.plan, "muted"))
    problems = sorted(problem for account in accounts for problem in account.problems)
    shown = [f"{when(at)}: {kind}, {what}" for at, kind, what in problems[-SHOWN_PROBLEMS:]]
    after = [Details(f"Problems ({words.count(len(problems))})", [Bullets(shown)])] if shown else []
    panels = [_timeline(account) for account in accounts if account.attempts]
    return Section("how-it-was-made", "How it was made", blocks, panels, after, large=True, columns=1)


def _timeline(account: RunAccount) -> Panel:
    begin = min(start for start, _, _ in account.attempts)
    ends = [end if end is not None else start for start, end, _ in account.attempts]
    last = max([*ends, *(at for at, _, _ in account.problems)])
    unit, name = (
        (3600.0, "hours") if last - begin > 7200 else (60.0, "minutes") if last - begin > 120 else (1.0, "seconds")
    )

    def draw(axes: Axes) -> None:
        for row, (start, end, ending) in enumerate(account.attempts):
            left, right = (start - begin) / unit, ((end if end is not None else last) - begin) / unit
            axes.barh(
                row, max(right - left, 0.003 * (last - begin) / unit), 0.5, left, color=ENDINGS.get(ending, MUTED)
            )
            axes.annotate(ending, (left, row - 0.42), va="bottom", fontsize=10, color=MUTED)
        for at, _, _ in account.problems:
            axes.plot(
                (at - begin) / unit, len(account.attempts) - 0.2, "^", color=VERMILION, markersize=6, clip_on=False
            )
        axes.set_yticks(range(len(account.attempts)), [f"start {n}" for n in range(1, len(account.attempts) + 1)])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(account.attempts), -0.8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{name} since the first start")

    starts, problems = words.count(len(account.attempts), "driver start"), words.count(len(account.problems), "problem")
    alt = f"Timeline of {account.zoo}: {starts} and {problems}."
    height = 110 + 34 * len(account.attempts)
    return Panel(account.zoo, alt, draw, f"from {when(begin)}; a triangle is a problem", (420, height))


def _amount(key: str, amount: float | None) -> str:
    if amount is None:
        return words.NONE
    if key.endswith("seconds"):
        return words.duration(amount)
    if key.endswith("dollars"):
        return words.dollars(amount)
    if key in ("bytes", "bytes_read"):
        return words.size(amount)
    return words.count(round(amount))


def when(seconds: float) -> str:
    """Unix time as a person reads it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
