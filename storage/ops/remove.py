"""Removes a zoo from a store: its versions, its spec and the records of its run. `gc` then collects the objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..canonical import canonical_json
from ..errors import StorageError, StorageUsageError
from ..formats.manifest import Manifest
from ..keys import (
    RUNS_PREFIX,
    control_key,
    head_key,
    manifest_key,
    parse_run,
    run_key,
    run_prefix,
    spec_key,
    zoo_prefix,
)
from ..publish.head import list_zoos, read_head, read_spec
from ..quantities import human_bytes
from ..runs.claims import read_claims
from ..runs.run_files import stop_run
from ..stores.clock import StoreClock
from ..stores.open import require_existing
from ..stores.protocol import ObjectStore, get_or_none

MAX_ROUNDS = 8
REMOVING = "it is being removed"
REMOVAL_VOID_SECONDS = 600.0  # a removal without a spec whose control is older than this has crashed


@dataclass(frozen=True, slots=True)
class Removal:
    """The keys to delete, in this order.

    Attributes:
        run: None for an imported zoo.
        shared_with: other zoos that were grown by the same run. The run stays then.
    """

    zoo: str
    run: str | None
    shared_with: tuple[str, ...]
    keys: tuple[str, ...]
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        value = {"zoo": self.zoo, "run": self.run, "shared_with": list(self.shared_with)}
        return {**value, "keys": len(self.keys), "bytes": self.num_bytes}

    def line(self) -> str:
        run = "" if self.run is None or self.shared_with else f" and run {self.run[:8]}"
        kept = f"; run {self.run[:8]} stays for {', '.join(self.shared_with)}" if self.run and self.shared_with else ""
        return f"{self.zoo}{run}: {len(self.keys):,} keys, {human_bytes(self.num_bytes)}{kept}"


def plan_removal(store: ObjectStore, zoo: str) -> Removal:
    """Look at what ``remove`` would delete. Reads only.

    Raises:
        StorageUsageError: there is no such zoo, a driver works on its run, or another zoo or run descends from it.
    """
    require_existing(store)
    zoos = list_zoos(store)
    if zoo not in zoos:
        raise StorageUsageError(f"{store.url} has no zoo {zoo!r}; `zoo store ls` lists them")
    run = _run_of(store, zoo)
    shared = tuple(other for other in zoos if other != zoo and run is not None and _run_of(store, other) == run)
    if run is not None:
        _check_no_driver(store, zoo, run)
        if not shared:
            _check_no_descendants(store, zoo, run, zoos)
    sizes = _files(store, zoo, None if shared else run)
    return Removal(zoo, run, shared, tuple(sizes), sum(sizes.values()))


def remove(store: ObjectStore, zoo: str) -> Removal:
    """Delete the zoo's versions and spec, and the files and records of its run. Objects stay for `gc`.

    Readers that have the zoo open can read on for a day. A removal that was interrupted is finished by the next one.
    docs/format.md ("Removal") says why a run that begins at the same time loses nothing.

    Raises:
        StorageUsageError: as ``plan_removal``.
        StorageError: others go on writing files of the zoo or of its run.
    """
    planned = plan_removal(store, zoo)
    run = None if planned.shared_with else planned.run
    if run is not None:
        stop_run(store, run, REMOVING, removing=True)
        try:
            planned = plan_removal(store, zoo)  # includes everything that was written before the stop
        except StorageUsageError:
            stop_run(store, run, "it was to be removed", removing=False)
            raise
    last = _last_keys(zoo, run)
    rest: Sequence[str] = planned.keys
    for _ in range(MAX_ROUNDS):
        for key in rest:
            if key not in last:
                store.delete(key)
        # A driver that read the control before the stop may have written meanwhile.
        rest = [key for key in _files(store, zoo, run) if key not in last]
        if not rest:
            break
    else:
        raise StorageError(
            f"{store.url}: {rest[0]} was written while {zoo} was removed; end what writes there, and remove {zoo} again"
        )
    if run is not None:
        stop_run(store, run, REMOVING, removing=True)  # once more, because the deletions may have taken long
    for key in last:
        store.delete(key)
    return planned


def check_not_removed(store: ObjectStore, zoo: str, run: str) -> None:
    """Called after publishing a version. Raises StorageError: a removal that began before may have missed the version.

    A removal deletes ``run.json`` before it looks for the last time whether a version was written meanwhile.
    """
    if store.stat(run_key(run)) is None:
        raise StorageError(
            f"{store.url}: {zoo} was removed while this version was published; `zoo store rm {zoo}` removes the version"
        )


def _last_keys(zoo: str, run: str | None) -> list[str]:
    """The keys to delete last. While they exist, the removal can be repeated by name, and the run cannot be started."""
    return [spec_key(zoo), *([control_key(run)] if run is not None else [])]


def _files(store: ObjectStore, zoo: str, run: str | None) -> dict[str, int]:
    """Bytes by key of the files of a zoo and its run, in the order in which they are deleted."""
    there = {stat.key: stat.size for stat in store.list(zoo_prefix(zoo))}
    keys = [head_key(zoo), *sorted(there)]
    if run is not None:
        of_run = {stat.key: stat.size for stat in store.list(run_prefix(run))}
        # The newest parts are deleted first: an interrupted removal leaves a shorter run, not one with missing parts.
        keys += [*sorted(set(of_run) - {run_key(run)}, reverse=True), run_key(run)]
        there |= of_run
    last = _last_keys(zoo, run)
    ordered = [*(key for key in keys if key not in last), *last]
    return {key: there[key] for key in ordered if key in there}


def _run_of(store: ObjectStore, zoo: str) -> str | None:
    """The run that grew a zoo: by its spec, else by its current version if the store has that run."""
    spec = read_spec(store, zoo)
    if spec is not None and spec.content.get("run"):
        return str(spec.content["run"])
    manifest = _current(store, zoo)
    if manifest is not None and get_or_none(store, run_key(manifest.run)) is not None:
        return manifest.run
    return None


def _current(store: ObjectStore, zoo: str) -> Manifest | None:
    head = read_head(store, zoo)
    if head is None:
        return None
    key = manifest_key(zoo, head.number)
    content = get_or_none(store, key)
    return None if content is None else Manifest.from_json(content[0], key)


def _check_no_driver(store: ObjectStore, zoo: str, run: str) -> None:
    claims = read_claims(store, run, StoreClock(store).now())
    if claims:
        owner = next(iter(claims.values())).owner
        raise StorageUsageError(
            f"{zoo}: the driver of attempt {owner} works on its run; stop it first "
            "(if it was killed, its claim ends within two minutes)"
        )


def _check_no_descendants(store: ObjectStore, zoo: str, run: str, zoos: list[str]) -> None:
    """Refuse if a spec, a current version or a run names this run or zoo, as those of twins and fine-tuned zoos do."""
    own = canonical_json(zoo)
    for other in zoos:
        if other == zoo:
            continue
        spec = get_or_none(store, spec_key(other))
        manifest = _current(store, other)
        of_spec = spec is not None and (run.encode() in spec[0] or own in spec[0])
        if of_spec or (manifest is not None and manifest.parent is not None and manifest.parent.run == run):
            raise StorageUsageError(f"{other} descends from {zoo} and needs its weights; remove {other} first")
    for other_run in sorted({name for stat in store.list(RUNS_PREFIX) if (name := parse_run(stat.key)) is not None}):
        content = None if other_run == run else get_or_none(store, run_key(other_run))
        if content is not None and run.encode() in content[0]:
            raise StorageUsageError(f"run {other_run[:8]} descends from {zoo} and needs its weights")
