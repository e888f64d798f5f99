"""Shows statuses to people: as lines, or as one screen on a terminal."""

import time
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..quantities import dollars, duration
from .status import Status

COLOURS = {"waiting": "yellow", "live": "green", "stopped": "cyan", "finished": "blue", "failed": "red"}
SHOWN_PROBLEMS = 5


def lines(status: Status, now: float) -> list[str]:
    """A status as plain lines: state, progress, time and cost, problems with advice."""
    text = [f"{status.zoo}: {status.state}" + (f", {status.reason}" if status.reason else "")]
    text += [f"  {progress(status)}", f"  models: {models(status)}"]
    if status.started_by:
        text.append(f"  started by {status.started_by}")
    if status.published_by:
        text.append(f"  version {status.version} published by {status.published_by}")
    rest = [*times(status, now), *([cost(*status.dollars)] if status.dollars is not None else [])]
    if rest:
        text.append(f"  {', '.join(rest)}")
    if lost := losses(status):
        text.append(f"  so far: {lost}")
    text += [f"  {when(problem.time)}{problem.message} ({problem.advice})" for problem in status.problems]
    return text


def progress(status: Status) -> str:
    ratio = status.done / status.total if status.total else 0.0
    start, stop = status.request["models"]
    return (
        f"{status.stage} {status.done:,} of {status.total:,} model-epochs ({100 * ratio:.0f}%), "
        f"models {start:,}:{stop:,} to epoch {status.request['epochs']:,}"
    )


def models(status: Status) -> str:
    shown = [f"{status.models[state]:,} {state}" for state in ("done", "training", "waiting", "faulty")]
    return ", ".join(shown)


def times(status: Status, now: float) -> list[str]:
    """Rate, time left and age of the last commit, as far as they are known."""
    text = []
    if status.rate is not None:
        text.append(f"{status.rate:,.1f} model-epochs/s")
    if status.eta_seconds is not None:
        text.append(f"{span(*status.eta_seconds)} left")
    if status.last_commit is not None:
        text.append(f"last commit {duration(max(0.0, now - status.last_commit))} ago")
    return text


def cost(committed: float, wasted: float) -> str:
    return f"{dollars(committed)} for committed work, {dollars(wasted)} wasted"


def losses(status: Status) -> str:
    """``3 preemptions, 64 model-epochs lost``; empty without losses."""
    names = {
        "preemptions": "preemption{s}",
        "lost_epochs": "model-epoch{s} lost",
        "retries": "task{s} tried again",
        "store_retries": "store request{s} tried again",
    }
    shown = [(status.losses[key], name) for key, name in names.items() if status.losses[key]]
    return ", ".join(f"{count:,} {name.format(s='' if count == 1 else 's')}" for count, name in shown)


def span(low: float, high: float) -> str:
    """``4 to 6 min``: an interval, with its unit once if both ends have the same."""
    begin, end = duration(low), duration(high)
    if begin == end:
        return begin
    amount, _, unit = begin.partition(" ")
    return f"{amount} to {end}" if end.endswith(f" {unit}") else f"{begin} to {end}"


def when(seconds: float | None) -> str:
    """Hour and minute (UTC) of a problem; ``now`` for a condition that lasts."""
    return "now   " if seconds is None else time.strftime("%H:%M ", time.gmtime(seconds))


def screen(statuses: Sequence[Status], now: float) -> RenderableType:
    """One screen of 80 columns: a block per run with its bar, then the newest problems."""
    parts: list[RenderableType] = []
    for status in statuses:
        title = Text(status.zoo, style="bold")
        title.append(f"  {status.state}", style=COLOURS[status.state])
        title.append(f"  {status.reason}" if status.reason else "", style="not bold")
        parts += [title, Padding(_block(status, now), (0, 0, 1, 2))]
    problems = [(status.zoo, problem) for status in statuses for problem in status.problems]
    problems.sort(key=lambda item: (item[1].time is None, item[1].time or 0.0))
    if problems:
        parts.append(Text("Problems", style="bold"))
    for zoo, problem in problems[-SHOWN_PROBLEMS:]:
        parts.append(Padding(Text(f"{when(problem.time)}{zoo}: {problem.message}"), (0, 0, 0, 2)))
        parts.append(Padding(Text(problem.advice, style="dim"), (0, 0, 1, 8)))
    clock = time.strftime("%H:%M:%S UTC", time.gmtime(now))
    parts.append(Text(f"{clock}, from the store alone. Ctrl-C leaves this screen; the run continues.", style="dim"))
    return Group(*parts)


def _block(status: Status, now: float) -> Table:
    ratio = 100 * status.done / status.total if status.total else 0
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(
            total=max(status.total, 1),
            completed=status.done,
            width=30,
            complete_style=COLOURS[status.state],
            finished_style=COLOURS[status.state],
        ),
        Text(f"{ratio:.0f}%"),
        Text(f"{status.done:,} of {status.total:,} model-epochs"),
    )
    text = times(status, now)
    rows: list[tuple[str, RenderableType]] = [(status.stage, bar), ("models", Text(models(status)))]
    if text:
        rows.append(("pace", Text(", ".join(text))))
    if status.dollars is not None:
        rows.append(("cost", Text(cost(*status.dollars))))
    if lost := losses(status):
        rows.append(("so far", Text(lost)))
    if status.version is not None:
        by = f" by {status.published_by}" if status.published_by else ""
        rows.append(("published", Text(f"version {status.version}{by}")))
    block = Table.grid(padding=(0, 2))
    block.add_column(width=9, style="dim")
    for name, value in rows:
        block.add_row(name, value)
    return block


def watch(
    read: Callable[[], list[Status]],
    interval_seconds: float,
    stream: TextIO,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show what ``read`` returns until every run has ended. Without a terminal, print lines whenever they change.

    Args:
        read: returns the statuses as they are now.
    """
    if not stream.isatty():
        before: list[str] = []
        while True:
            statuses = read()
            text = [line for status in statuses for line in lines(status, clock())]
            if text != before:
                stream.write("\n".join(text) + "\n")
                stream.flush()
                before = text
            if _over(statuses):
                return
            sleep(interval_seconds)
    console = Console(file=stream)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            statuses = read()
            live.update(screen(statuses, clock()), refresh=True)
            if _over(statuses):
                return
            sleep(interval_seconds)


def _over(statuses: Sequence[Status]) -> bool:
    return all(status.state in ("finished", "stopped", "failed") for status in statuses)
