"""Lists for the supervisor, read from the store: runs that jobs left unfinished, and jobs that began."""

from typing import Any

from zooforge.storage.keys import is_driver_claim
from zooforge.storage.publish.head import list_zoos
from zooforge.storage.runs.claims import read_claims
from zooforge.storage.runs.run_files import (
    read_attempts,
    read_control,
)
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store
from ..spec.zoo import ZooSpec
from .life import num_parts
from .lives import job_attempts
from .stops import stages_of


def pending(store: ObjectStore, origin: str) -> list[dict[str, Any]]:
    """The runs that jobs of ``origin`` started, that are wanted and unfinished, and that no driver works on."""
    runs = []
    for name in list_zoos(store):
        zoo = in_store.stored(store, name)
        if not isinstance(zoo, ZooSpec):
            continue  # twins belong to the job of their parent
        attempts = job_attempts(read_attempts(store, zoo.run_id))
        known = [attempt for attempt in attempts if attempt.start.get("origin") == origin]
        control = read_control(store, zoo.run_id)
        if not known or control is None or control.wanted != "run":
            continue
        last = known[-1]
        if last.end is not None and last.end.get("status") == 0:
            continue
        if any(is_driver_claim(claim) for claim in read_claims(store, zoo.run_id)):
            continue
        parts = num_parts(store, stages_of(store, zoo))
        row = {"job": last.start["job"], "request": last.start["request"], "parts": parts}
        runs.append({"zoo": name, "run": zoo.run_id, **row})
    return runs


def begun(store: ObjectStore, origin: str) -> list[str]:
    """The jobs of ``origin`` that began at least one attempt."""
    jobs: set[str] = set()
    for name in list_zoos(store):
        zoo = in_store.stored(store, name)
        if isinstance(zoo, ZooSpec):
            attempts = job_attempts(read_attempts(store, zoo.run_id))
            jobs |= {attempt.start["job"] for attempt in attempts if attempt.start.get("origin") == origin}
    return sorted(jobs)
