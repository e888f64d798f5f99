"""The small objects of a run besides its parts and claims: identity, pin, attempts, control, usage."""

import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..canonical import canonical_json, parse_json
from ..errors import FormatError, ObjectNotFound, PinMismatch, PreconditionFailed, SpecChanged, StorageError
from ..keys import (
    attempt_end_key,
    attempt_key,
    attempts_prefix,
    control_key,
    pin_key,
    run_key,
    usage_key,
    usage_prefix,
)
from ..stores.protocol import ObjectStore, create, get_or_none


def create_run(store: ObjectStore, run: str, content: Mapping[str, Any]) -> None:
    """Write ``run.json``, what the run id is the digest of. Raises SpecChanged if it exists and says something else."""
    if not create(store, run_key(run), canonical_json(dict(content))):
        raise SpecChanged(f"{store.url}: {run_key(run)} exists and differs; was it written by another version?")


def read_run(store: ObjectStore, run: str) -> dict[str, Any] | None:
    return read_json(store, run_key(run))


def pin_run(
    store: ObjectStore, run: str, pin: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> dict[str, Any]:
    """Fix what the run's numbers depend on, at the first start; later ones must say the same.

    Args:
        may_differ: top-level fields that need not be equal.

    Returns:
        The pin that holds, which is the first start's.

    Raises:
        PinMismatch: names the fields that differ, found and asked for.
    """
    value = dict(pin)
    if create(store, pin_key(run), canonical_json(value)):
        return value
    found = read_json(store, pin_key(run)) or {}
    names = sorted((set(found) | set(value)) - set(may_differ))
    differ = [name for name in names if found.get(name) != value.get(name)]
    if differ:
        shown = "; ".join(f"{n} is {_short(found.get(n))}, asked for {_short(value.get(n))}" for n in differ)
        raise PinMismatch(f"run {run[:8]} was started with other settings: {shown}")
    return found


def read_pin(store: ObjectStore, run: str) -> dict[str, Any] | None:
    return read_json(store, pin_key(run))


def start_attempt(store: ObjectStore, run: str, content: Mapping[str, Any], now_seconds: float | None = None) -> str:
    """Write the record of a driver's start and give its id: a UTC second and 4 hex digits."""
    for _ in range(16):
        second = time.gmtime(time.time() if now_seconds is None else now_seconds)
        attempt = f"{time.strftime('%Y%m%dT%H%M%SZ', second)}-{secrets.token_hex(2)}"
        try:
            store.put(attempt_key(run, attempt), canonical_json(dict(content)), if_absent=True)
        except PreconditionFailed:
            continue
        return attempt
    raise StorageError(f"{store.url}: no free attempt id for run {run[:8]}; try again")


def end_attempt(store: ObjectStore, run: str, attempt: str, content: Mapping[str, Any]) -> None:
    """Write how an attempt ended; the first word stands."""
    create(store, attempt_end_key(run, attempt), canonical_json(dict(content)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A driver's start, and its end if it reached one."""

    id: str
    start: dict[str, Any]
    end: dict[str, Any] | None


def read_attempts(store: ObjectStore, run: str) -> list[Attempt]:
    """All attempts, oldest first."""
    prefix = attempts_prefix(run)
    names = [stat.key[len(prefix) :].removesuffix(".json") for stat in store.list(prefix)]
    ends = {name.removesuffix(".end") for name in names if name.endswith(".end")}
    attempts = []
    for name in sorted(name for name in names if not name.endswith(".end")):
        end = read_json(store, attempt_end_key(run, name)) if name in ends else None
        attempts.append(Attempt(name, read_json(store, attempt_key(run, name)) or {}, end))
    return attempts


Wanted = Literal["run", "stopped"]


@dataclass(frozen=True, slots=True)
class Control:
    """What is wanted of a run, by whoever has the store; drivers read it at each commit."""

    wanted: Wanted
    reason: str = ""
    request: dict[str, Any] = field(default_factory=dict)


def read_control(store: ObjectStore, run: str) -> Control | None:
    value = read_json(store, control_key(run))
    return None if value is None else _control(value, control_key(run))


def write_control(store: ObjectStore, run: str, control: Control) -> None:
    """Replace what is wanted; of two writers at once the later one stands, and neither is lost half-way."""
    data = canonical_json({"wanted": control.wanted, "reason": control.reason, "request": control.request})
    for _ in range(64):
        found = get_or_none(store, control_key(run))
        if found is not None and found[0] == data:
            return
        try:
            if found is None:
                store.put(control_key(run), data, if_absent=True)
            else:
                store.put(control_key(run), data, if_match=found[1])
        except PreconditionFailed:
            continue
        return
    raise StorageError(f"{store.url}: {control_key(run)} keeps changing; try again")


def stop_run(store: ObjectStore, run: str, reason: str) -> None:
    """Say that the run shall stop and stay so. What was asked of it stays on record: progress is measured by that."""
    control = read_control(store, run)
    write_control(store, run, Control("stopped", reason, {} if control is None else control.request))


def _control(value: dict[str, Any], what: str) -> Control:
    if value.get("wanted") not in ("run", "stopped"):
        raise FormatError(f"{what}: `wanted` is {value.get('wanted')!r}, expected run or stopped")
    return Control(value["wanted"], str(value.get("reason", "")), dict(value.get("request") or {}))


def write_usage(store: ObjectStore, run: str, attempt: str, number: int, amounts: Mapping[str, float]) -> None:
    """What an attempt used since its previous record, by name: seconds of pods, dollars, retries, losses, bytes."""
    create(store, usage_key(run, attempt, number), canonical_json(dict(amounts)))


def add_usage(store: ObjectStore, run: str, attempt: str, amounts: Mapping[str, float]) -> None:
    """As ``write_usage``, behind the records that an attempt has already: for what is done when it has ended."""
    number = sum(1 for _ in store.list(f"{usage_prefix(run)}{attempt}"))
    write_usage(store, run, attempt, number, amounts)


def read_usage(store: ObjectStore, run: str, known: dict[str, dict[str, Any]] | None = None) -> dict[str, float]:
    """Sums over all usage records of the run, by name.

    Args:
        known: records by key that were read before, which no longer change; new ones are added to it. A run of weeks
            has thousands, so whoever looks again and again keeps them.
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
