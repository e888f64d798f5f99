"""The status of a run: its state, progress, cost and problems. Pure."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from ..quantities import duration
from ..spec.twins import TwinSpec
from ..who import sentence
from .eta import eta_seconds
from .totals import UNIT_STATES

if TYPE_CHECKING:
    from zooforge.storage.formats.manifest import Manifest
    from zooforge.storage.runs.run_files import Control

    from .facts import DriverStart, RunFacts

State = Literal["waiting", "live", "stopped", "finished", "failed"]

SHOWN_PROBLEMS = 5
RATE_SECONDS = 600.0
QUIET = 4.0  # a pause of more than this many times the longest one so far is a problem
LEAST_QUIET_SECONDS = 300.0
CLOCK_SECONDS = 60.0  # a larger difference of clocks is a problem

WHAT_TO_DO = {
    "preempted": "nothing: its models are taken up by another worker",
    "memory": "nothing yet: fewer models are trained at once; give the workers more memory if it happens again",
    "retried": "nothing yet: a task may fail three times before the run ends",
    "rival": "nothing: another driver works on the same run, which is safe",
    "store": "see that the store answers and has room: `zoo store ls`",
    "cap": "raise the cap, or leave it; everything done is in the store",
    "dearer": "the same command confirms the new price; everything done is in the store",
    "room": "see why no worker starts: `zoo cluster status`, or the load of this machine",
    "failed": "`zoo logs NAME --level error` says why; then run the same command again",
    "gone": "run the same command again; it continues from what the store has",
    "quiet": "see that its workers live: `zoo logs NAME --since 1h`",
    "clock": "set it (NTP): S3 refuses requests signed 15 minutes off; times shown here are the store's",
    "refused": "`zoo vectorize NAME` publishes what is trained, once the cause is gone",
    "faulty": "`zoo report NAME` lists them; a learning rate may be too high",
}
LOSSES = ("preemptions", "lost_epochs", "retries", "store_retries")
OTHERWISE = "`zoo logs NAME --since 1h` says more"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a run. ``time`` is Unix time in seconds, None for a condition that lasts."""

    time: float | None
    kind: str
    message: str
    advice: str


@dataclass(frozen=True)
class Status:
    """The status of one run.

    Attributes:
        reason: why the run is in this state, a sentence without a full stop; empty for a live run.
        started_by: who started the last driver, and where; empty if that is not known.
        published_by: who published the current version, and where; empty if that is not known.
        done, total: model-epochs committed and requested, epoch 0 included.
        rate: model-epochs per second over the last minutes, None unless the run is live.
        eta_seconds: (low, high), None unless the run is live and has enough commits for an estimate.
        dollars: (committed, wasted), None if no price is known.
        last_commit: Unix time, None before the first.
        models, units: their number by state.
        losses: number of preemptions, lost_epochs, retries (of tasks) and store_retries (of requests) so far.
    """

    zoo: str
    run: str
    stage: str
    state: State
    reason: str
    started_by: str
    published_by: str
    request: dict[str, Any]
    done: int
    total: int
    rate: float | None
    eta_seconds: tuple[float, float] | None
    dollars: tuple[float, float] | None
    last_commit: float | None
    models: dict[str, int]
    units: dict[str, int]
    losses: dict[str, int]
    version: int | None
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        value["eta_seconds"] = None if self.eta_seconds is None else list(self.eta_seconds)
        if self.dollars is not None:
            value["dollars"] = {"committed": self.dollars[0], "wasted": self.dollars[1]}
        else:
            value["dollars"] = {"committed": None, "wasted": None}
        value["problems"] = [asdict(problem) for problem in self.problems]
        return value


def status(facts: "RunFacts", now: float) -> Status:
    """The status at ``now``, Unix time in seconds."""
    counts = facts.totals.counts
    remaining = counts.remaining
    last = facts.starts[-1] if facts.starts else None
    state = state_of(remaining, facts.control, lambda: facts.driver_alive, lambda: None if last is None else last.state)
    live = state == "live"
    eta = None
    if live:
        began = facts.starts[-1].started if facts.starts else now
        recent = [commit for commit in facts.commits if commit[0] >= began]
        low, high = eta_seconds([(began, 0), *recent], remaining, now)
        eta = None if math.isnan(low) else (low, high)
    return Status(
        zoo=facts.zoo.name,
        run=facts.zoo.run_id,
        stage="sparsify" if isinstance(facts.zoo, TwinSpec) else "train",
        state=state,
        reason=_reason(facts, state),
        started_by="" if last is None else sentence(last.content),
        published_by=_published_by(facts),
        request={
            "models": [facts.wanted.models.start, facts.wanted.models.stop],
            "epochs": facts.wanted.num_epochs,
        },
        done=counts.wanted - remaining,
        total=counts.wanted,
        rate=_rate(facts, now) if live else None,
        eta_seconds=eta,
        dollars=facts.totals.dollars if "dollars" in facts.totals.usage else None,
        last_commit=facts.commits[-1][0] if facts.commits else None,
        models=counts.models,
        units=counts.num_units,
        losses={name: round(facts.totals.usage.get(name, 0)) for name in LOSSES},
        version=facts.version,
        problems=_problems(facts, state, now),
    )


def imported_status(manifest: "Manifest", version: int, num_faulty: int) -> Status:
    """The status of an imported zoo: it has a published version, but no run in this store."""
    models = manifest.num_models
    return Status(
        zoo=manifest.zoo,
        run=manifest.run,
        stage="sparsify" if manifest.twin else "train",
        state="finished",
        reason=f"imported as version {version}, nothing was grown in this store",
        started_by="",
        published_by="",
        request={"models": [0, models], "epochs": manifest.planned_epochs},
        done=manifest.num_states,
        total=manifest.num_states,
        rate=None,
        eta_seconds=None,
        dollars=None,
        last_commit=None,
        models={"waiting": 0, "training": 0, "done": models - num_faulty, "faulty": num_faulty},
        units=dict.fromkeys(UNIT_STATES, 0),
        losses=dict.fromkeys(LOSSES, 0),
        version=version,
        problems=(),
    )


def state_of(
    remaining: int, control: "Control | None", driver_alive: Callable[[], bool], last_end: Callable[[], str | None]
) -> State:
    """The state of a run, by the first rule that applies.

    finished: everything requested is committed. live: a driver holds its claim. stopped: a person or a cap requested
    it. failed: the last driver recorded that it failed. waiting: for a driver.

    Args:
        remaining: model-epochs of the request that are not committed.
        driver_alive: whether a driver holds its claim; called only if needed.
        last_end: the state that the last driver recorded at its end; called only if needed.
    """
    if remaining == 0:
        return "finished"
    if driver_alive():
        return "live"
    if control is not None and control.wanted == "stopped":
        return "stopped"
    return "failed" if last_end() == "failed" else "waiting"


def _reason(facts: "RunFacts", state: State) -> str:
    last = facts.starts[-1] if facts.starts else None
    match state:
        case "finished":
            refused = facts.publication is not None and facts.publication.refused
            not_yet = "publishing it was refused" if refused else "not published yet"
            done = f"published as version {facts.version}" if facts.version else not_yet
            return f"everything requested is trained, {done}"
        case "live":
            return ""
        case "stopped":
            assert facts.control is not None
            return facts.control.reason or "by request"
        case "failed":
            errors = [logged.message for logged in facts.problems if logged.level in ("error", "critical")]
            return errors[-1] if errors else "the last driver ended with an error"
        case "waiting":
            if last is None:
                return "nobody has started it here"
            if last.state is None:
                return "its driver is gone and did not record why"
            endings = {"signal": "interrupted", "preempted": "preempted", "stopped": "told to stop"}
            return f"the last driver was {endings.get(last.state, last.state)}; the same command continues the run"


def _published_by(facts: "RunFacts") -> str:
    last = facts.publication
    return sentence(last.content) if last is not None and last.version == facts.version is not None else ""


def _rate(facts: "RunFacts", now: float) -> float | None:
    """Model-epochs per second over the last ten minutes, or since the start if that is later."""
    began = max(now - RATE_SECONDS, facts.starts[-1].started if facts.starts else 0.0)
    recent = sum(count for time, count in facts.commits if began <= time)
    return recent / (now - began) if recent and now > began else None


def _problems(facts: "RunFacts", state: State, now: float) -> tuple[Problem, ...]:
    """The newest ``SHOWN_PROBLEMS``, oldest first; conditions that last come at the end."""
    name = facts.zoo.name

    def problem(time: float | None, kind: str, message: str) -> Problem:
        return Problem(time, kind, message, WHAT_TO_DO.get(kind, OTHERWISE).replace("NAME", name))

    problems = [problem(logged.time, logged.kind or logged.level, logged.message) for logged in facts.problems]
    usage = facts.totals.usage
    for counter, kind, noun in (
        ("preemptions", "preempted", "workers left or lost"),
        ("retries", "retried", "tasks tried again"),
    ):
        if usage.get(counter) and not any(logged.kind == kind for logged in facts.problems):
            problems.append(problem(None, kind, f"{round(usage[counter]):,} {noun} so far"))
    faulty = sum(count for reason, count in facts.totals.faulty.items() if reason != "parent")
    started = facts.totals.counts.asked_M.sum()
    if faulty > facts.zoo.root.expected_faulty_ratio * started:
        problems.append(problem(None, "faulty", f"{faulty:,} of {int(started):,} models are faulty"))
    last = facts.starts[-1] if facts.starts else None
    if state == "waiting" and last is not None and last.state is None:
        problems.append(problem(None, "gone", _gone(last, facts, now)))
    if abs(facts.clock_ahead_seconds) > CLOCK_SECONDS:
        side = "behind" if facts.clock_ahead_seconds > 0 else "ahead of"
        off = duration(abs(facts.clock_ahead_seconds))
        problems.append(problem(None, "clock", f"this machine's clock is {off} {side} the store's"))
    silent = _silence(facts, now) if state == "live" else None
    if silent is not None:
        problems.append(problem(None, "quiet", f"no commit for {duration(silent)}"))
    last_publication = facts.publication
    if last_publication is not None and last_publication.refused:
        problems.append(problem(last_publication.seconds, "refused", f"not published: {last_publication.refused}"))
    if state == "failed":
        problems.append(problem(None, "failed", _reason(facts, state)))
    dated = sorted((p for p in problems if p.time is not None), key=lambda p: p.time or 0.0)
    return tuple([*dated, *(p for p in problems if p.time is None)][-SHOWN_PROBLEMS:])


def _gone(last: "DriverStart", facts: "RunFacts", now: float) -> str:
    seen = max([last.started, *(time for time, _ in facts.commits[-1:])])
    return f"the driver started {duration(max(0.0, now - last.started))} ago was last seen {duration(now - seen)} ago"


def _silence(facts: "RunFacts", now: float) -> float | None:
    """Seconds since the last commit, if that is several times the longest pause of this driver; else None."""
    began = facts.starts[-1].started if facts.starts else now
    times = [began, *(time for time, _ in facts.commits if time >= began)]
    pauses = [after - before for before, after in pairwise(times)]
    silent = now - times[-1]
    return silent if silent > max(LEAST_QUIET_SECONDS, QUIET * max(pauses, default=0.0)) else None
