"""Statuses for people: lines anywhere, one screen on a terminal."""

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


def lines(found: Status, now: float) -> list[str]:
    """A status as plain lines: state, progress, time and money, problems with what to do."""
    said = [f"{found.zoo}: {found.state}" + (f", {found.reason}" if found.reason else "")]
    said += [f"  {progress(found)}", f"  models: {models(found)}"]
    rest = [*times(found, now), *([cost(*found.dollars)] if found.dollars is not None else [])]
    if rest:
        said.append(f"  {', '.join(rest)}")
    if lost := losses(found):
        said.append(f"  so far: {lost}")
    said += [f"  {when(problem.time)}{problem.message} ({problem.advice})" for problem in found.problems]
    return said


def progress(found: Status) -> str:
    ratio = found.done / found.total if found.total else 0.0
    start, stop = found.request["models"]
    return (
        f"{found.stage} {found.done:,} of {found.total:,} model-epochs ({100 * ratio:.0f}%), models {start:,}:{stop:,} "
        f"to epoch {found.request['epochs']:,}"
    )


def models(found: Status) -> str:
    shown = [f"{found.models[state]:,} {state}" for state in ("done", "training", "waiting", "faulty")]
    return ", ".join(shown)


def times(found: Status, now: float) -> list[str]:
    """Rate, time left, age of the last commit: what is known of them."""
    said = []
    if found.rate is not None:
        said.append(f"{found.rate:,.1f} model-epochs/s")
    if found.eta_seconds is not None:
        said.append(f"{span(*found.eta_seconds)} left")
    if found.last_commit is not None:
        said.append(f"last commit {duration(max(0.0, now - found.last_commit))} ago")
    return said


def cost(committed: float, wasted: float) -> str:
    return f"{dollars(committed)} for what is committed, {dollars(wasted)} wasted"


def losses(found: Status) -> str:
    """``3 preemptions, 64 model-epochs lost``; empty while nothing went wrong."""
    names = {
        "preemptions": "preemption{s}",
        "lost_epochs": "model-epoch{s} lost",
        "retries": "task{s} tried again",
        "store_retries": "store request{s} tried again",
    }
    shown = [(found.losses[key], name) for key, name in names.items() if found.losses[key]]
    return ", ".join(f"{count:,} {name.format(s='' if count == 1 else 's')}" for count, name in shown)


def span(low: float, high: float) -> str:
    """``4 to 6 min``: an interval with its unit once, where both ends have the same."""
    begin, end = duration(low), duration(high)
    if begin == end:
        return begin
    amount, _, unit = begin.partition(" ")
    return f"{amount} to {end}" if end.endswith(f" {unit}") else f"{begin} to {end}"


def when(seconds: float | None) -> str:
    """Hour and minute, UTC, of a problem; ``now`` of one that still is the case."""
    return "now   " if seconds is None else time.strftime("%H:%M ", time.gmtime(seconds))


def screen(statuses: Sequence[Status], now: float) -> RenderableType:
    """All of it in one picture of 80 columns: a block per run with its bar, then the newest problems."""
    parts: list[RenderableType] = []
    for found in statuses:
        title = Text(found.zoo, style="bold")
        title.append(f"  {found.state}", style=COLOURS[found.state])
        title.append(f"  {found.reason}" if found.reason else "", style="not bold")
        parts += [title, Padding(_block(found, now), (0, 0, 1, 2))]
    problems = [(found.zoo, problem) for found in statuses for problem in found.problems]
    problems.sort(key=lambda item: (item[1].time is None, item[1].time or 0.0))
    if problems:
        parts.append(Text("Problems", style="bold"))
    for zoo, problem in problems[-SHOWN_PROBLEMS:]:
        parts.append(Padding(Text(f"{when(problem.time)}{zoo}: {problem.message}"), (0, 0, 0, 2)))
        parts.append(Padding(Text(problem.advice, style="dim"), (0, 0, 1, 8)))
    clock = time.strftime("%H:%M:%S UTC", time.gmtime(now))
    parts.append(Text(f"{clock}, from the store alone. Ctrl-C leaves this screen, the run goes on.", style="dim"))
    return Group(*parts)


def _block(found: Status, now: float) -> Table:
    ratio = 100 * found.done / found.total if found.total else 0
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(
            total=max(found.total, 1),
            completed=found.done,
            width=30,
            complete_style=COLOURS[found.state],
            finished_style=COLOURS[found.state],
        ),
        Text(f"{ratio:.0f}%"),
        Text(f"{found.done:,} of {found.total:,} model-epochs"),
    )
    said = times(found, now)
    rows: list[tuple[str, RenderableType]] = [(found.stage, bar), ("models", Text(models(found)))]
    if said:
        rows.append(("pace", Text(", ".join(said))))
    if found.dollars is not None:
        rows.append(("cost", Text(cost(*found.dollars))))
    if lost := losses(found):
        rows.append(("so far", Text(lost)))
    if found.version is not None:
        rows.append(("published", Text(f"version {found.version}")))
    block = Table.grid(padding=(0, 2))
    block.add_column(width=9, style="dim")
    for name, value in rows:
        block.add_row(name, value)
    return block


def watch(
    look: Callable[[], list[Status]],
    interval_seconds: float,
    stream: TextIO,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show what ``look`` gives until every run has ended; on no terminal, lines whenever something changed."""
    if not stream.isatty():
        before: list[str] = []
        while True:
            statuses = look()
            said = [line for found in statuses for line in lines(found, clock())]
            if said != before:
                stream.write("\n".join(said) + "\n")
                stream.flush()
                before = said
            if _over(statuses):
                return
            sleep(interval_seconds)
    console = Console(file=stream)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            statuses = look()
            live.update(screen(statuses, clock()), refresh=True)
            if _over(statuses):
                return
            sleep(interval_seconds)


def _over(statuses: Sequence[Status]) -> bool:
    return all(found.state in ("finished", "stopped", "failed") for found in statuses)
