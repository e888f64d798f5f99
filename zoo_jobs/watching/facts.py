"""Reads from a store everything about one run that `zoo status`, the report and the exporter show."""

from dataclasses import dataclass
from typing import Any

from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.keys import (
    attempt_end_key,
    attempt_key,
    attempt_seconds,
    attempts_prefix,
    is_driver_claim,
    parse_record_key,
    parts_prefix,
    zoo_url,
)
from zooforge.storage.publish.head import read_head
from zooforge.storage.runs.claims import read_claims
from zooforge.storage.runs.ledger import Ledger, read_ledger
from zooforge.storage.runs.publications import Publication, read_publication
from zooforge.storage.runs.run_files import Attempt, Control, read_attempts, read_control, read_usage
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import open_zoo

from ..planning.missing import unmade_twins
from ..planning.units import Request, request
from ..spec.epochs import part_epochs
from ..spec.twins import TwinSpec, Zoo
from .run_log import read_logs, seconds_of
from .totals import StoreTotals, store_totals

MAX_EPOCHS = 2**31 - 1  # counts of epochs are int32


@dataclass(frozen=True, slots=True)
class DriverStart:
    """One start of a driver. Times are Unix time by the store's clock.

    Attributes:
        ended, state: None until the driver has recorded how it ended.
        content: what it recorded about its start, such as its request and its plan.
    """

    attempt: str
    started: float
    ended: float | None
    state: str | None
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedProblem:
    """A warning or an error of the run's logs."""

    time: float
    level: str
    kind: str
    message: str


@dataclass(frozen=True)
class RunFacts:
    """Everything that a status depends on, as plain values that were read from the store.

    Attributes:
        commits: (Unix time by the store's clock, model-epochs) of every record, oldest first.
        driver_alive: a driver renewed its claim within the last two minutes.
        problems: warnings and errors of the logs, oldest first.
        version: the zoo's current published version, None before the first.
        publication: the newest note about a publication; None if there is none.
        clock_ahead_seconds: the store's clock minus this machine's; 0 while they agree.
        ledger: pass it to the next ``read_facts``, which then reads only what is new.
    """

    zoo: Zoo
    wanted: Request
    totals: StoreTotals
    control: Control | None
    starts: tuple[DriverStart, ...]
    driver_alive: bool
    commits: tuple[tuple[float, int], ...]
    problems: tuple[LoggedProblem, ...]
    version: int | None
    publication: Publication | None
    clock_ahead_seconds: float
    ledger: Ledger


def read_facts(store: ObjectStore, zoo: Zoo, known: Ledger | None = None) -> RunFacts:
    """Read the run of ``zoo``. A run that was never started gives empty facts."""
    run = zoo.run_id
    control = read_control(store, run)
    wanted = wanted_of(zoo, control)
    ledger = read_ledger(store, run, known)
    commits = _commits(store, ledger)
    totals = store_totals(
        zoo,
        wanted,
        ledger,
        read_usage(store, run),
        absent=unmade_twins(read_ledger(store, zoo.parent.run_id), zoo, wanted) if isinstance(zoo, TwinSpec) else (),
        last_commit=commits[-1][0] if commits else 0.0,
    )
    head = read_head(store, zoo.name)
    problems = tuple(
        LoggedProblem(seconds_of(event["time"]), event["level"], str(event.get("kind", "")), _text(event))
        for event in read_logs(store, run, level="warning")
    )
    return RunFacts(
        zoo=zoo,
        wanted=wanted,
        totals=totals,
        control=control,
        starts=_starts(store, run),
        driver_alive=driver_alive(store, run),
        commits=commits,
        problems=problems,
        version=None if head is None else head.number,
        publication=read_publication(store, run),
        clock_ahead_seconds=store.clock_ahead_seconds,
        ledger=ledger,
    )


def read_imported(store: ObjectStore, name: str) -> tuple[Manifest, int, int]:
    """Read the current version of a zoo that has no run in this store.

    Returns:
        (manifest, version, number of faulty models).

    Raises:
        NotPublished: the store has no published zoo of this name.
    """
    zoo = open_zoo(zoo_url(store.url, name))
    labels = zoo.labels(columns=["model", "faulty_epoch"])
    faulty = labels.filter(labels["faulty_epoch"].is_valid())["model"]
    return zoo.manifest, zoo.version, len(faulty.unique())


def driver_alive(store: ObjectStore, run: str) -> bool:
    """True if a driver renewed its claim within the last two minutes."""
    return any(is_driver_claim(name) for name in read_claims(store, run))


def last_end(store: ObjectStore, run: str) -> str | None:
    """The state that the last driver recorded at its end; None if there was no driver, or no such record."""
    attempts = read_attempts(store, run)
    return _end_state(attempts[-1]) if attempts else None


def wanted_of(zoo: Zoo, control: Control | None) -> Request:
    """The current request of the run; the whole zoo if ``control`` has none that can be read."""
    asked = control.request if control is not None else {}
    models, epochs = asked.get("models"), asked.get("epochs")
    if not (isinstance(models, list) and len(models) == 2 and isinstance(epochs, int) and 0 <= epochs < MAX_EPOCHS):
        return request(zoo)
    return request(zoo, f"{models[0]}:{models[1]}", epochs)


def _commits(store: ObjectStore, ledger: Ledger) -> tuple[tuple[float, int], ...]:
    commits = []
    for stat in store.list(parts_prefix(ledger.run)):
        key = parse_record_key(stat.key)
        if key is None or key.refill or key.folder not in ledger.folders:
            continue  # committed after the ledger was read
        members = ledger.folders[key.folder].members
        commits.append((stat.modified_seconds, len(members) * len(part_epochs(key.part, ledger.commit_every))))
    return tuple(sorted(commits))


def _starts(store: ObjectStore, run: str) -> tuple[DriverStart, ...]:
    modified = {stat.key: stat.modified_seconds for stat in store.list(attempts_prefix(run))}
    starts = []
    for attempt in read_attempts(store, run):
        ended = modified.get(attempt_end_key(run, attempt.id)) if attempt.end is not None else None
        started = modified.get(attempt_key(run, attempt.id), attempt_seconds(attempt.id))
        starts.append(DriverStart(attempt.id, started, ended, _end_state(attempt), attempt.start))
    return tuple(starts)


def _end_state(attempt: Attempt) -> str | None:
    return None if attempt.end is None else str(attempt.end.get("state", "ended"))


def _text(event: dict[str, Any]) -> str:
    error = event.get("error")
    return f"{event['message']}: {error}" if error else str(event["message"])
