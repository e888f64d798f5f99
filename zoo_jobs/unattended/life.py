"""One life of a job in the store: how its attempt begins, or why it must not, and how it ends."""

import os
from collections.abc import Sequence

from zooforge.storage.keys import parts_prefix
from zooforge.storage.runs.run_files import (
    end_attempt,
    read_attempts,
    read_control,
    start_attempt,
    want_run,
)
from zooforge.storage.stores.clock import store_now
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store
from ..spec.twins import Zoo
from ..who import who
from .lives import job_attempts, lives_of, reason_to_give_up
from .output import say
from .request import Job
from .stops import spread_stop, stay_stopped, stop_stages


def num_parts(store: ObjectStore, stages: Sequence[Zoo]) -> int:
    """Parts committed so far, of all stages."""
    return sum(1 for stage in stages for _ in store.list(parts_prefix(stage.run_id)))


def start_life(store: ObjectStore, job: Job) -> str | None:
    """Write the start of the job's attempt. Returns its id, or None if the run must not go on.

    A new job takes back the stops that it reads here. A later stop is obeyed.
    """
    in_store.check(store, job.zoo)
    in_store.send_images(store, job.zoo)
    known = job_attempts(read_attempts(store, job.zoo.run_id))
    seen = [read_control(store, stage.run_id) for stage in job.stages]
    for stage, control in zip(job.stages, seen, strict=True):
        in_store.check_not_removing(store, stage, control)
    stop = next((control for control in seen if control is not None and control.wanted == "stopped"), None)
    ours = any(attempt.start.get("job") == job.name for attempt in known)
    if stop is not None and (ours or (job.name and stop.job == job.name)):
        stay_stopped(store, job, stop)
        return None
    parts = num_parts(store, job.stages)
    if stop is None and (why := reason_to_give_up(known, parts)) is not None:
        stop_stages(store, job.stages, why)
        return None
    if stop is None and (why := job.limits.reason_to_stop(lives_of(known), store_now(store))) is not None:
        stop_stages(store, job.stages, f"{why}; {parts:,} parts are committed, and `zoo cluster submit` goes on")
        return None
    for stage, control in zip(job.stages, seen, strict=True):
        later = want_run(store, stage.run_id, job.request, control, job=job.name)
        if later is not None:
            stay_stopped(store, job, later)
            return None
    content = {
        "stage": "job",
        "zoo": job.zoo.name,
        "job": job.name,
        "origin": job.origin,
        "request": job.request,
        "parts": parts,
        "resumed": stop is not None,
        **who(os.environ),
    }
    return start_attempt(store, job.zoo.run_id, content)


def end_life(store: ObjectStore, job: Job, attempt: str, status: int, last_line: str) -> int:
    """Write how the attempt ended. Returns the status for the scheduler."""
    run_id = job.zoo.run_id
    if read_control(store, run_id) is None:
        return say(f"{job.zoo.name} was removed meanwhile, with its run", 0)
    end_attempt(store, run_id, attempt, {"state": "finished" if status == 0 else "failed", "status": status})
    if spread_stop(store, job):
        return 0
    if status == 2:
        return stop_stages(store, job.stages, f"refused: {last_line.removeprefix('zoo: ')}")
    if status == 1:
        known = job_attempts(read_attempts(store, run_id))
        if (why := reason_to_give_up(known, num_parts(store, job.stages))) is not None:
            return stop_stages(store, job.stages, f"{why} (the last one: {last_line})")
    return status
