"""`python -m zooforge.zoo_jobs.unattended run NAME --store URL`: `zoo run` as a scheduler's job.

What is asked of the zoo is in ``ZOO_REQUEST``, as `zoo cluster submit` writes it. A scheduler knows one thing about a
job that ended: whether to try it again. What must not be tried again (bad input, a stop, a cap, repeated failures)
ends with status 0, after `control.json` says why: read the truth there, not in the job's status. `pending` lists what
such jobs left unfinished in a store, `begun` the jobs that began at all, and `stop NAME` says that a zoo's run has to
end and stay stopped.
"""

import argparse
import contextlib
import json
import logging
import math
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from zooforge.storage.errors import NotSupported, StorageError, StoreAccessError
from zooforge.storage.keys import attempt_seconds, driver_claim, is_driver_claim, parts_prefix
from zooforge.storage.publish.head import list_zoos
from zooforge.storage.runs.claims import CLAIM_RENEW_SECONDS, Claims, read_claims
from zooforge.storage.runs.run_files import (
    Control,
    end_attempt,
    is_stop_asked,
    read_attempts,
    read_control,
    start_attempt,
    stop_run,
    want_run,
    write_control,
)
from zooforge.storage.stores.clock import store_now
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.probe import probe, require
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.stores.retries import STORE_AWAY

from . import cli
from .catalogue import in_store
from .errors import InputError, ZooError
from .job_output import output_copied
from .lives import NO_LIMITS, Limits, job_attempts, lives_of, reason_to_give_up
from .planning.units import request
from .spec.blocks import validated
from .spec.twins import TwinSpec, Zoo, twins_of
from .spec.zoo import ZooSpec
from .watching.facts import wanted_of
from .who import sentence, who

logger = logging.getLogger(__name__)

PREEMPTED = 75
T = TypeVar("T")


class Asked(BaseModel):
    """The request in ``ZOO_REQUEST``. Fields that concern only the cluster are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    models: str | None = None
    epochs: int | None = None
    twin_epochs: int | None = None
    no_twins: bool = False
    single_writer: bool = False
    max_dollars: float | None = None
    max_hours: float | None = None
    dollars_per_hour: float | None = None
    spec: str | None = None
    """The YAML of a zoo that the catalogue does not have."""

    @property
    def options(self) -> list[str]:
        """The options of `zoo run` that ask for the same."""
        options = []
        for name, value in self.model_dump(exclude={"spec"}, exclude_none=True).items():
            option = f"--{name.replace('_', '-')}"
            options += ([option] if value else []) if isinstance(value, bool) else [option, str(value)]
        return options


@dataclass(frozen=True)
class Job:
    """One job of a scheduler: the zoo, what is asked of it, and whose job it is."""

    zoo: ZooSpec
    twins: TwinSpec | None
    name: str
    request: dict[str, Any]
    """The request as it was submitted, for the record."""
    origin: str
    """Namespace and release that submitted it."""
    limits: Limits = NO_LIMITS

    @property
    def stages(self) -> list[Zoo]:
        return [self.zoo, *([self.twins] if self.twins else [])]


def num_parts(store: ObjectStore, stages: Sequence[Zoo]) -> int:
    """Parts committed so far, of all stages."""
    return sum(1 for stage in stages for _ in store.list(parts_prefix(stage.run_id)))


def stages_of(store: ObjectStore, zoo: ZooSpec) -> list[Zoo]:
    """The zoo and, if it has any, its twins, as the last request for the zoo wants them."""
    if zoo.sparsify is None:
        return [zoo]
    # Twins are made from the last epoch of the request, not of the zoo.
    asked = wanted_of(zoo, read_control(store, zoo.run_id))
    return [zoo, twins_of(zoo, source_epoch=asked.num_epochs)]


def run(name: str, store_url: str, slots: int | None, environment: Mapping[str, str]) -> int:
    """Run a zoo to its end. Returns 0 for everything that must not be tried again, else 1 or 75."""
    try:
        request = _read_request(environment)
        asked = validated(Asked, request, "ZOO_REQUEST")
        store = open_store(store_url, single_writer=asked.single_writer)
        with _spec_file(asked, name) as named:
            job = _patiently(lambda: _job(store, named, asked, request, environment))
            _patiently(lambda: require(probe(store), store.url, single_writer=asked.single_writer))
            attempt = _patiently(lambda: _start(store, job))
            if attempt is None:
                return 0
            with _claimed(store, job, attempt), output_copied(environment) as stderr:
                options = [*asked.options, *(["--slots", str(slots)] if slots is not None else [])]
                status = _registered(store, job) or _zoo_run(named, store_url, options)
    except InputError as error:
        return _say(f"bad input, not tried again: {error}", 0)
    except NotSupported as error:
        return _say(f"not tried again: {error}", 0)
    except StorageError as error:
        return _say(f"the store: {error}", 1)
    return _patiently(lambda: _end(store, job, attempt, status, stderr.last_line))


def _start(store: ObjectStore, job: Job) -> str | None:
    """Write the start of the job's attempt. Returns its id, or None if the run must not go on.

    A job that is new goes on from the stops that it sees here. A stop that comes later stands.
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
        _stay_stopped(store, job, stop)
        return None
    parts = num_parts(store, job.stages)
    if stop is None and (why := reason_to_give_up(known, parts)) is not None:
        _stop(store, job.stages, why)
        return None
    if stop is None and (why := job.limits.reason_to_stop(lives_of(known), store_now(store))) is not None:
        _stop(store, job.stages, f"{why}; {parts:,} parts are committed, and `zoo cluster submit` goes on")
        return None
    for stage, control in zip(job.stages, seen, strict=True):
        later = want_run(store, stage.run_id, job.request, control, job=job.name)
        if later is not None:
            _stay_stopped(store, job, later)
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


def _spread_stop(store: ObjectStore, job: Job) -> bool:
    """If a stage is stopped, stop the others too. Returns whether one is."""
    while True:
        seen = [read_control(store, stage.run_id) for stage in job.stages]
        stop = next((control for control in seen if control is not None and control.wanted == "stopped"), None)
        if stop is None:
            return False
        wanted = [
            (stage, control)
            for stage, control in zip(job.stages, seen, strict=True)
            if control is None or control.wanted != "stopped"
        ]
        if all(
            write_control(
                store,
                stage.run_id,
                Control("stopped", stop.reason, {} if control is None else control.request, stop.job),
                control,
            )
            for stage, control in wanted
        ):
            return True


def _stay_stopped(store: ObjectStore, job: Job, stop: Control) -> None:
    _spread_stop(store, job)
    _say(f"{job.zoo.name} was stopped ({stop.reason or 'by hand'}) and stays so; submit it again to go on", 0)


def _end(store: ObjectStore, job: Job, attempt: str, status: int, last_line: str) -> int:
    """Write how the attempt ended. Returns the status for the scheduler."""
    run_id = job.zoo.run_id
    if read_control(store, run_id) is None:
        return _say(f"{job.zoo.name} was removed meanwhile, with its run", 0)
    end_attempt(store, run_id, attempt, {"state": "finished" if status == 0 else "failed", "status": status})
    if _spread_stop(store, job):
        return 0
    if status == 2:
        return _stop(store, job.stages, f"refused: {last_line.removeprefix('zoo: ')}")
    if status == 1:
        known = job_attempts(read_attempts(store, run_id))
        if (why := reason_to_give_up(known, num_parts(store, job.stages))) is not None:
            return _stop(store, job.stages, f"{why} (the last one: {last_line})")
    return status


def _registered(store: ObjectStore, job: Job) -> int:
    """Write the zoo's spec, which says that the run is there. Returns 0, or 2 for a spec that cannot be changed so.

    The claim is held by now: a removal that has not seen it is seen here, and then nothing is written.
    """
    try:
        if not _patiently(lambda: is_stop_asked(store, job.zoo.run_id)):
            _patiently(lambda: in_store.register(store, job.zoo))
    except InputError as error:
        return _say(str(error), 2)
    return 0


def _zoo_run(name: str, store_url: str, options: Sequence[str]) -> int:
    try:
        status = cli.main(["run", name, "--store", store_url, "--unattended", *options])
    except Exception:  # a defect of the program is a failed attempt like any other, and its traceback is shown
        traceback.print_exc()
        return 1
    return PREEMPTED if status == 130 else status


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


def stop(store_url: str, name: str, reason: str, *, single_writer: bool = False) -> None:
    """Stop the run of a zoo and that of its twins; they stay stopped. Raises InputError: the store has no such zoo.

    Args:
        single_writer: the store may do without atomic conditional writes, as for a run that was begun so.
    """
    store = open_store(store_url)
    zoo = in_store.resolve(name, store)
    if isinstance(zoo, TwinSpec):
        zoo = zoo.parent
    control = read_control(store, zoo.run_id)
    if single_writer or (control is not None and control.request.get("single_writer")):
        store = open_store(store_url, single_writer=True)
    _stop(store, stages_of(store, zoo), reason)


def _read_request(environment: Mapping[str, str]) -> dict[str, Any]:
    """The object in ``ZOO_REQUEST``; empty without one. Raises InputError: it is not a JSON object."""
    text = environment.get("ZOO_REQUEST") or "{}"
    try:
        request = json.loads(text)
    except ValueError as error:
        raise InputError(f"ZOO_REQUEST is not JSON ({error}): {text[:100]!r}") from None
    if not isinstance(request, dict):
        raise InputError(f"ZOO_REQUEST is not a JSON object: {text[:100]!r}")
    return request


def _job(store: ObjectStore, name: str, asked: Asked, submitted: dict[str, Any], environment: Mapping[str, str]) -> Job:
    zoo = in_store.resolve(name, store)
    if isinstance(zoo, TwinSpec):
        raise InputError(f"{zoo.name} are the twins of {zoo.parent.name}; submit {zoo.parent.name}")
    wanted = request(zoo, asked.models, asked.epochs)
    has_twins = zoo.sparsify is not None and not asked.no_twins
    return Job(
        zoo,
        twins_of(zoo, source_epoch=wanted.num_epochs) if has_twins else None,
        environment.get("ZOO_JOB", ""),
        submitted,
        environment.get("ZOO_ORIGIN", ""),
        Limits.read(environment),
    )


def _stop(store: ObjectStore, stages: Sequence[Zoo], reason: str) -> int:
    for stage in stages:
        stop_run(store, stage.run_id, reason)
    return _say(f"stopped, and stays so until it is submitted again: {reason}", 0)


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"zoo: {message}\n")
    return status


def _patiently(action: Callable[[], T]) -> T:
    """Do ``action``, again and again while the store does not let it."""

    def on_retry(error: StorageError) -> None:
        _say(f"waiting for the store: {error}", 0)

    def again(error: StorageError) -> bool:
        return isinstance(error, StoreAccessError) and not isinstance(error, NotSupported)

    return STORE_AWAY.call(action, again=again, on_retry=on_retry)


@contextlib.contextmanager
def _claimed(store: ObjectStore, job: Job, attempt: str) -> Iterator[None]:
    """Hold a driver's claim while the block runs: also while the zoo is published, when no driver runs.

    Where the run's time ends meanwhile, it is stopped; its workers then commit what they are training.
    """
    claims = Claims(store, job.zoo.run_id, attempt)
    name = driver_claim(attempt)
    done = threading.Event()
    deadline = math.inf
    if job.limits.hours is not None:
        first = lives_of(job_attempts(read_attempts(store, job.zoo.run_id)))[0]
        deadline = time.monotonic() + job.limits.seconds_left(attempt_seconds(first.id), store_now(store))

    def hold() -> None:
        stopped = False
        while not done.is_set():
            left = deadline - time.monotonic()
            with contextlib.suppress(StorageError):
                claims.hold(name)
                if left <= 0 and not stopped:
                    _stop(store, job.stages, f"{job.limits.time_is_over}; `zoo cluster submit` goes on")
                    stopped = True
            done.wait(min(CLAIM_RENEW_SECONDS, left) if left > 0 else CLAIM_RENEW_SECONDS)

    _patiently(lambda: claims.hold(name))
    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(StorageError):
            claims.release(name)


@contextlib.contextmanager
def _spec_file(asked: Asked, name: str) -> Iterator[str]:
    """The path of a file with the spec of the request; ``name`` itself where the request has none."""
    if asked.spec is None:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(asked.spec)
        yield str(path)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    texts = {
        "run": "run a zoo",
        "pending": "list unfinished runs",
        "begun": "list jobs that began",
        "stop": "stop a run",
    }
    for verb, text in texts.items():
        sub = verbs.add_parser(verb, help=text)
        if verb == "run":
            sub.add_argument("--slots", type=int, help="workers at once")
        if verb in ("run", "stop"):
            sub.add_argument("name")
        sub.add_argument("--store", required=True)
        if verb in ("pending", "begun"):
            sub.add_argument("--origin", required=True, help="cluster/namespace/release of the jobs")
        if verb == "stop":
            sub.add_argument("--reason", default=f"by {sentence(who(os.environ))}")
            sub.add_argument("--single-writer", action="store_true", help="conditional writes need not be atomic")
    known = parser.parse_args(arguments)
    try:
        if known.verb == "run":
            return run(known.name, known.store, known.slots, os.environ)
        if known.verb == "stop":
            stop(known.store, known.name, known.reason, single_writer=known.single_writer)
        else:
            listed = {"pending": pending, "begun": begun}[known.verb](open_store(known.store), known.origin)
            sys.stdout.write(json.dumps(listed) + "\n")
    except (ZooError, StorageError) as error:
        return _say(str(error), error.exit_status)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
