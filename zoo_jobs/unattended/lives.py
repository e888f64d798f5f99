"""Decides from the recorded attempts of a run whether its job may begin again. Pure.

A life is one start of a scheduler's job: its attempt has the stage `job`. Heads and RayJobs are replaced, so only the
store can count the lives.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zooforge.storage.keys import attempt_seconds
from zooforge.storage.runs.run_files import Attempt

from ..errors import InputError

MAX_FAILURES = 3  # attempts that ended with status 1 and committed no new part
MAX_KILLS = 10  # attempts in a row that were killed and committed no new part


def job_attempts(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts of jobs, oldest first. The other attempts of a run are those of the jobs' drivers."""
    return [attempt for attempt in attempts if attempt.start.get("stage") == "job"]


def lives_of(known: Sequence[Attempt]) -> list[Attempt]:
    """The attempts since a person submitted the run: since its last stop or its last end, oldest first."""
    lives: list[Attempt] = []
    for attempt in reversed(known):
        if attempt.end is not None and attempt.end.get("status") == 0:
            break
        lives.append(attempt)
        if attempt.start.get("resumed"):
            break
    return lives[::-1]


def reason_to_give_up(known: Sequence[Attempt], parts_now: int) -> str | None:
    """The reason why another attempt would fail too; None if it may succeed.

    Args:
        known: attempts of the run's jobs, oldest first.
        parts_now: parts committed by now. An attempt's own parts are the difference to the next attempt's start.
    """
    failures = kills = 0
    killed_in_a_row = True
    parts_after = parts_now
    for attempt in reversed(known):
        parts_before = int(attempt.start.get("parts", 0))
        if parts_after > parts_before:
            break
        parts_after = parts_before
        status = None if attempt.end is None else attempt.end.get("status")
        failures += status == 1
        killed_in_a_row = killed_in_a_row and status is None
        kills += killed_in_a_row
        if failures >= MAX_FAILURES:
            return f"{MAX_FAILURES} attempts failed and none committed a new part; `zoo logs` says why"
        if kills >= MAX_KILLS:
            return f"{MAX_KILLS} attempts in a row were killed before a new part; is there enough memory?"
        if attempt.start.get("resumed") or status == 0:
            break
    return None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a run over all its lives, counted in the store since a person submitted it; None: no bound."""

    lives: int | None = None
    hours: float | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Limits":
        """``ZOO_MAX_LIVES`` and ``ZOO_MAX_RUN_HOURS``; 0 is no bound. Raises InputError: one is no number."""
        try:
            lives = int(environment.get("ZOO_MAX_LIVES") or 0)
            hours = float(environment.get("ZOO_MAX_RUN_HOURS") or 0)
        except ValueError as error:
            raise InputError(f"ZOO_MAX_LIVES and ZOO_MAX_RUN_HOURS have to be numbers: {error}") from None
        return cls(lives if lives > 0 else None, hours if hours > 0 else None)

    def seconds_left(self, began: float, now: float) -> float:
        return math.inf if self.hours is None else began + self.hours * 3600 - now

    def reason_to_stop(self, lives: Sequence[Attempt], now: float) -> str | None:
        """The reason why a run may not begin again after ``lives``; None if it may. ``now`` is Unix time, seconds."""
        if self.lives is not None and len(lives) >= self.lives:
            return f"it has begun {len(lives):,} times, and run.maxLives allows {self.lives:,}"
        if lives and self.seconds_left(attempt_seconds(lives[0].id), now) <= 0:
            return self.time_is_over
        return None

    @property
    def time_is_over(self) -> str:
        return f"it was begun more than {self.hours:,.6g} hours ago, which run.maxHours allows"


NO_LIMITS = Limits()
