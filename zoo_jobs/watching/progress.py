"""Shows the progress of a run on stderr: bars on a terminal, plain lines elsewhere, JSON lines in pods."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .. import quantities
from ..events import Event, PartCommitted, Problem, Repriced, StageEnded, StageStarted
from ..logs import as_json_line, record

LINE_SECONDS = 10.0  # between two plain lines


def duration(seconds: float) -> str:
    """Seconds as a clock shows them: 95 is ``1:35``, 7322 is ``2:02:02``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressObserver:
    """An observer that shows, per stage, the model-epochs done, their rate and the time left."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stream = stream = stream or sys.stderr
        self._progress: Progress | None = None
        if stream.isatty():
            self._progress = Progress(
                TextColumn("{task.description:<32}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("model-epochs"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[rest]}"),
                console=Console(file=stream),
            )
        self._bar: TaskID | None = None
        self._stage: StageStarted | None = None
        self._done = self._fresh = self._faulty = 0
        self._started = self._said = 0.0
        self._accuracy = float("nan")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._stage, self._done, self._fresh, self._faulty = event, event.done, 0, 0
                self._started = self._said = self._clock()
                if self._progress is not None:
                    name = f"{event.stage} {event.zoo}"
                    self._bar = self._progress.add_task(name, total=event.total, completed=event.done, rest="")
                else:
                    models = f"{event.models:,} model{'s' if event.models != 1 else ''}"
                    self._say(
                        f"{event.stage} {event.zoo}: {models} to epoch {event.epochs} with "
                        f"{event.engine}; {event.done:,} of {event.total:,} model-epochs are in the store"
                    )
            case PartCommitted():
                count = len(event.models) * len(event.epochs)
                self._done += count
                self._fresh += count
                self._faulty += sum(event.num_faulty.values())
                if len(event.test_accuracy):
                    self._accuracy = float(np.median(event.test_accuracy))
                self._show()
            case Problem():
                self._say(f"{event.kind}: {event.message}")
            case Repriced():
                self._say(
                    f"{event.stage} {event.zoo}: by its first minute {quantities.duration(event.seconds)} in all, "
                    f"{event.ratio:.2f} times the plan"
                    + (f", {quantities.dollars(event.dollars)}" if event.dollars else "")
                )
            case StageEnded():
                self._show(last=True)

    def _show(self, last: bool = False) -> None:
        assert self._stage is not None
        now = self._clock()
        rate = self._fresh / max(now - self._started, 1e-9)
        left = max(self._stage.total - self._done, 0)
        rest = f"{rate:,.1f}/s"
        if left and rate > 0:
            rest += f", {duration(left / rate)} left"
        if self._faulty:
            rest += f", {self._faulty} faulty"
        if np.isfinite(self._accuracy):
            rest += f", test accuracy {self._accuracy:.2f}"
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=self._done, rest=rest)
        elif last or now - self._said >= LINE_SECONDS:
            self._said = now
            self._say(
                f"{self._stage.stage} {self._stage.zoo}: {self._done:,} of {self._stage.total:,} model-epochs, {rest}"
            )

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, highlight=False)
        elif not as_json_line(record(__name__, logging.INFO, line)):
            self._stream.write(f"{line}\n")
            self._stream.flush()
