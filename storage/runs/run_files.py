"""The small objects of a run besides its parts and claims: identity, pin, attempts, control, usage."""

import secrets
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..canonical import canonical_json, parse_json
from ..errors import FormatError, ObjectNotFound, PinMismatch, PreconditionFailed, SpecChanged, StorageError
from ..keys import (
    attempt_end_key,
    attempt_id,
    attempt_key,
    attempt_seconds,
    attempt_usage_prefix,
    attempts_prefix,
    chunk_key,
    code_key,
    control_key,
    parse_attempt_key,
    pin_key,
    run_key,
    usage_key,
    usage_prefix,
)
from ..stores.clock import store_now
from ..stores.protocol import ObjectStore, create, get_or_none


def create_run(store: ObjectStore, run: str, content: Mapping[str, Any]) -> None:
    """Write ``run.json``, whose digest is the run id. Raises SpecChanged if it exists with other content."""
    if not create(store, run_key(run), canonical_json(dict(content))):
        raise SpecChanged(f"{store.url}: {run_key(run)} exists and differs; was it written by another version?")


def put_code(store: ObjectStore, run: str, text: str) -> None:
    """Write ``code.py``, the text of a network that is code. Raises SpecChanged if it exists with another text."""
    if not create(store, code_key(run), text.encode()):
        raise SpecChanged(f"{store.url}: {code_key(run)} exists and differs; was it written by another version?")


def pin_run(
    store: ObjectStore, run: str, pin: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> dict[str, Any]:
    """Fix what the run's numbers depend on. The first start decides; later starts must say the same.

    Args:
        may_differ: top-level fields that need not be equal.

    Returns:
        The pin of the first start.

    Raises:
        PinMismatch: names the fields that differ, with both values.
    """
    value = dict(pin)
    if create(store, pin_key(run), canonical_json(value)):
        return value
    pinned = read_json(store, pin_key(run)) or {}
    names = sorted((set(pinned) | set(value)) - set(may_differ))
    differ = [name for name in names if pinned.get(name) != value.get(name)]
    if differ:
        shown = "; ".join(f"{n} is {_short(pinned.get(n))}, requested {_short(value.get(n))}" for n in differ)
        raise PinMismatch(f"run {run[:8]} was started with other settings: {shown}")
    return pinned


def read_pin(store: ObjectStore, run: str) -> dict[str, Any] | None:
    return read_json(store, pin_key(run))


def start_attempt(store: ObjectStore, run: str, content: Mapping[str, Any], now_seconds: float | None = None) -> str:
    """Write the record of a driver's start and return its id: a UTC second and 4 hex digits.

    The id sorts after the ids of all existing attempts: a node whose clock is behind takes a later second.
    """
    now = int(store_now(store) if now_seconds is None else now_seconds)
    for _ in range(16):
        seconds = [int(attempt_seconds(name)) for name, _ in _attempt_names(store, run)]
        attempt = attempt_id(max(now, max(seconds, default=0) + 1), secrets.token_hex(2))
        try:
            store.put(attempt_key(run, attempt), canonical_json(dict(content)), if_absent=True)
        except PreconditionFailed:
            continue
        return attempt
    raise StorageError(f"{store.url}: no free attempt id for run {run[:8]}; try again")


def end_attempt(store: ObjectStore, run: str, attempt: str, content: Mapping[str, Any]) -> None:
    """Write how an attempt ended. A second call changes nothing."""
    create(store, attempt_end_key(run, attempt), canonical_json(dict(content)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A driver's start, and its end if it reached one."""

    id: str
    start: dict[str, Any]
    end: dict[str, Any] | None


def read_attempts(store: ObjectStore, run: str) -> list[Attempt]:
    """All attempts, oldest first."""
    names = _attempt_names(store, run)
    attempts = []
    for name in sorted(name for name, is_end in names if not is_end):
        end = read_json(store, attempt_end_key(run, name)) if (name, True) in names else None
        attempts.append(Attempt(name, read_json(store, attempt_key(run, name)) or {}, end))
    return attempts


def _attempt_names(store: ObjectStore, run: str) -> set[tuple[str, bool]]:
    """(attempt, whether it is the record of its end) of all records."""
    parsed = [parse_attempt_key(stat.key) for stat in store.list(attempts_prefix(run))]
    return {pair for pair in parsed if pair is not None}


Wanted = Literal["run", "stopped"]


@dataclass(frozen=True, slots=True)
class Control:
    """True if a run is wanted. Everyone who may write to the store can change this; drivers read it at each commit.

    Attributes:
        request: what was asked of the run. A stop keeps it: progress is measured against it.
        job: the scheduler's job that wanted the run last, "" for a person. A stop keeps it.
        removing: its zoo is being removed. Nobody may start the run until that is done; a stop keeps it.
        etag: of the object that this was read from.
    """

    wanted: Wanted
    reason: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    removing: bool = False
    etag: str = field(default="", compare=False, repr=False)


def read_control(store: ObjectStore, run: str) -> Control | None:
    """The run's control, or None if there is none yet. Raises FormatError."""
    content = get_or_none(store, control_key(run))
    if content is None:
        return None
    value = parse_json(content[0], control_key(run))
    if not isinstance(value, dict) or value.get("wanted") not in ("run", "stopped"):
        wanted = value.get("wanted") if isinstance(value, dict) else value
        raise FormatError(f"{control_key(run)}: `wanted` is {wanted!r}, expected run or stopped")
    request = dict(value.get("request") or {})
    removing = value["wanted"] == "stopped" and value.get("removing") is True
    return Control(
        value["wanted"], str(value.get("reason", "")), request, str(value.get("job", "")), removing, content[1]
    )


def is_stop_asked(store: ObjectStore, run: str) -> bool:
    """True if a running driver has to stop. This is also true if the control does not exist: the run was removed."""
    control = read_control(store, run)
    return control is None or control.wanted == "stopped"


def write_control(store: ObjectStore, run: str, control: Control, seen: Control | None) -> bool:
    """Replace ``seen``, the control that the decision was made on; None: there was none.

    Returns:
        False, with nothing written, if the control changed after ``seen`` was read. Read it and decide again.
    """
    if control == seen and control.wanted == "run":
        return True  # nothing to say; a stop is written again, since a start may be about to take back the one before
    value: dict[str, Any] = {"wanted": control.wanted, "reason": control.reason, "request": control.request}
    value |= {"job": control.job} if control.job else {}
    value |= {"removing": True} if control.removing else {}
    # Different at every write: where a store derives the etag from the content, an old etag would match again.
    data = canonical_json({**value, "write": secrets.token_hex(8)})
    try:
        if seen is None:
            store.put(control_key(run), data, if_absent=True)
        else:
            store.put(control_key(run), data, if_match=seen.etag)
    except PreconditionFailed:
        content = get_or_none(store, control_key(run))
        return content is not None and content[0] == data  # our own put, whose reply was lost
    return True


def want_run(
    store: ObjectStore, run: str, request: Mapping[str, Any], seen: Control | None, *, job: str = ""
) -> Control | None:
    """Write that the run is wanted, even if ``seen`` is a stop.

    Returns:
        None, or the stop that was written after ``seen`` was read: it stands.
    """
    for _ in range(64):
        if write_control(store, run, Control("run", "", dict(request), job), seen):
            return None
        seen = read_control(store, run)
        if seen is not None and seen.wanted == "stopped":
            return seen
    raise StorageError(f"{store.url}: {control_key(run)} keeps changing; try again")


def stop_run(store: ObjectStore, run: str, reason: str, *, removing: bool | None = None) -> None:
    """Write that the run must stop and stay stopped. The control keeps the request and the job.

    Args:
        removing: whether its zoo is being removed; None: as before.
    """
    for _ in range(64):
        seen = read_control(store, run) or Control("stopped")
        stop = replace(seen, wanted="stopped", reason=reason, removing=seen.removing if removing is None else removing)
        if write_control(store, run, stop, seen if seen.etag else None):
            return
    raise StorageError(f"{store.url}: {control_key(run)} keeps changing; try again")


def write_chunk(store: ObjectStore, run: str, engine: str, num_models: int) -> None:
    """Remember how many models at once fit into the memory of a worker of ``engine``. The last writer wins."""
    store.put(chunk_key(run, engine), canonical_json({"chunk_models": num_models}))


def read_chunk(store: ObjectStore, run: str, engine: str) -> int | None:
    """The number that ``write_chunk`` wrote last; None if no worker ran out of memory."""
    value = read_json(store, chunk_key(run, engine))
    chunk = None if value is None else value.get("chunk_models")
    if value is not None and (type(chunk) is not int or chunk < 1):
        raise FormatError(f"{chunk_key(run, engine)}: `chunk_models` is {chunk!r}, expected a positive integer")
    return chunk


class UsageWriter:
    """Writes an attempt's usage records: seconds of pods, dollars, retries, losses, bytes, by name.

    Each amount is counted once, also where a reply is lost, a call is made again, or another writer took the number.

    Args:
        number: of the first record; later ones follow.
    """

    def __init__(self, store: ObjectStore, run: str, attempt: str, number: int = 0) -> None:
        self._store, self._run, self._attempt, self._number = store, run, attempt, number
        self._unwritten: deque[bytes] = deque()

    def write(self, amounts: Mapping[str, float]) -> None:
        """Write what was used since the previous record.

        Raises:
            StorageError: the store does not answer. The record is kept; ``flush`` or the next ``write`` writes it.
        """
        # Different at every write, so that equal amounts of two writers differ from a lost reply.
        self._unwritten.append(canonical_json({**amounts, "write": secrets.token_hex(8)}))
        self.flush()

    def flush(self) -> None:
        """Write the records that an earlier call could not write."""
        while self._unwritten:
            if create(self._store, usage_key(self._run, self._attempt, self._number), self._unwritten[0]):
                self._unwritten.popleft()
            self._number += 1


def add_usage(store: ObjectStore, run: str, attempt: str, amounts: Mapping[str, float]) -> None:
    """Write one more usage record of an attempt, for work that is done after its end."""
    number = sum(1 for _ in store.list(attempt_usage_prefix(run, attempt)))
    UsageWriter(store, run, attempt, number).write(amounts)


def read_usage(store: ObjectStore, run: str, known: dict[str, dict[str, Any]] | None = None) -> dict[str, float]:
    """Sums over all usage records of the run, by name.

    Args:
        known: records by key that were read before; new ones are added to it. Records never change, and a run of weeks
            has thousands: callers that read the usage repeatedly keep them.
    """
    records = {} if known is None else known
    sums: dict[str, float] = {}
    for stat in store.list(usage_prefix(run)):
        if stat.key not in records:
            records[stat.key] = read_json(store, stat.key) or {}
        for name, amount in records[stat.key].items():
            if isinstance(amount, int | float) and not isinstance(amount, bool):
                sums[name] = sums.get(name, 0) + amount
    return sums


def read_json(store: ObjectStore, key: str) -> dict[str, Any] | None:
    """The JSON object under ``key``, or None where there is none. Raises FormatError for anything else."""
    try:
        data, _ = store.get(key)
    except ObjectNotFound:
        return None
    value = parse_json(data, key)
    if not isinstance(value, dict):
        raise FormatError(f"{key}: expected a JSON object")
    return value


def _short(value: Any) -> str:
    text = canonical_json(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
