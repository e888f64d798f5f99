"""`python -m zooforge.zoo_jobs.unattended run NAME ...`: `zoo run` where nobody watches, as a scheduler's job.

A scheduler knows one thing about a job that ended: try again or not. What must not be tried again (bad input, a stop, a
cap, a crash that repeats) therefore ends with 0 here, after `control.json` says why; the truth is read there.
`pending` lists what such jobs left unfinished in a store, `stop NAME` says that a zoo's run shall end and stay so.
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from zooforge.storage.errors import StorageError, StoreAccessError
from zooforge.storage.keys import driver_claim, is_driver_claim, parts_prefix
from zooforge.storage.publish.head import list_zoos
from zooforge.storage.runs.claims import CLAIM_RENEW_SECONDS, Claims, read_claims
from zooforge.storage.runs.run_files import (
    Attempt,
    Control,
    end_attempt,
    read_attempts,
    read_control,
    start_attempt,
    stop_run,
    want_run,
)
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

from . import cli
from .catalogue import in_store
from .errors import InputError, ZooError
from .planning.units import request
from .spec.twins import TwinSpec, Zoo, twins_of
from .spec.zoo import ZooSpec
from .watching.facts import wanted_of

logger = logging.getLogger(__name__)

MAX_FAILURES = 3  # ends with status 1 in a row, without a new part
MAX_KILLS = 10  # lives in a row that ended without a word, without a new part
STORE_DEADLINE_SECONDS = 900.0
PREEMPTED = 75
T = TypeVar("T")
POD_STDOUT = Path("/proc/1/fd/1")


@dataclass(frozen=True)
class Job:
    """A submission: which zoo, what of it, on behalf of which scheduler's job."""

    zoo: ZooSpec
    twins: TwinSpec | None
    name: str
    asked: dict[str, Any]
    origin: str

    @property
    def stages(self) -> list[Zoo]:
        return [self.zoo, *([self.twins] if self.twins else [])]


def num_parts(store: ObjectStore, job: Job) -> int:
    """Parts committed so far, of all stages."""
    return sum(1 for stage in job.stages for _ in store.list(parts_prefix(stage.run_id)))


def lives(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The lives of jobs among a run's attempts, oldest first; the others are their drivers."""
    return [attempt for attempt in attempts if attempt.start.get("stage") == "job"]


def broken(known: Sequence[Attempt], parts_now: int) -> str | None:
    """Why trying again would only burn money; None where it would not.

    Args:
        known: lives of the run's jobs, oldest first.
        parts_now: parts committed by now. A life's own are the difference to the next one's start.
    """
    failures = kills = 0
    killed_in_a_row = True
    parts_after = parts_now
    for life in reversed(known):
        parts_before = int(life.start.get("parts", 0))
        if parts_after > parts_before:
            break
        parts_after = parts_before
        status = None if life.end is None else life.end.get("status")
        failures += status == 1
        killed_in_a_row = killed_in_a_row and status is None
        kills += killed_in_a_row
        if failures >= MAX_FAILURES:
            return f"{MAX_FAILURES} attempts failed and none committed a new part; `zoo logs` says why"
        if kills >= MAX_KILLS:
            return f"{MAX_KILLS} attempts in a row were killed before a new part; is there enough memory?"
        if life.start.get("resumed") or status == 0:
            break
    return None


def run(name: str, store_url: str, options: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a zoo to its end. Returns 0 for everything that must not be tried again, else 1 or 75."""
    store = open_store(store_url)
    try:
        job = _patiently(lambda: _job(store, name, options, environment))
        attempt = _patiently(lambda: _enter(store, job))
    except InputError as error:
        return _say(f"bad input, not tried again: {error}", 0)
    except StorageError as error:
        return _say(f"the store: {error}", 1)
    if attempt is None:
        return 0
    with _claimed(store, job, attempt), _heard() as heard:
        status = _zoo_run(name, store_url, options)
    return _patiently(lambda: _leave(store, job, attempt, status, heard.last_line))


def _enter(store: ObjectStore, job: Job) -> str | None:
    """Write the start of a life, a job's attempt. Returns its id, or None if the run must not go on.

    A job that is new goes on from the stops that it sees here. A stop that comes later stands.
    """
    in_store.register(store, job.zoo)
    known = lives(read_attempts(store, job.zoo.run_id))
    seen = [read_control(store, stage.run_id) for stage in job.stages]
    stop = next((control for control in seen if control is not None and control.wanted == "stopped"), None)
    ours = any(life.start.get("job") == job.name for life in known)
    if stop is not None and (ours or (job.name and stop.job == job.name)):
        _stay_stopped(store, job, stop)
        return None
    parts = num_parts(store, job)
    if stop is None and (why := broken(known, parts)) is not None:
        _stop(store, job.stages, why)
        return None
    for stage, control in zip(job.stages, seen, strict=True):
        later = want_run(store, stage.run_id, job.asked, control, job=job.name)
        if later is not None:
            _stay_stopped(store, job, later)
            return None
    content = {
        "stage": "job",
        "zoo": job.zoo.name,
        "job": job.name,
        "origin": job.origin,
        "request": job.asked,
        "parts": parts,
        "resumed": stop is not None,
    }
    return start_attempt(store, job.zoo.run_id, content)


def _stay_stopped(store: ObjectStore, job: Job, stop: Control) -> None:
    """Stop all stages, whichever was stopped."""
    for stage in job.stages:
        stop_run(store, stage.run_id, stop.reason)
    _say(f"{job.zoo.name} was stopped ({stop.reason or 'by hand'}) and stays so; submit it again to go on", 0)


def _leave(store: ObjectStore, job: Job, attempt: str, status: int, last_line: str) -> int:
    """Write down how a life ended, and decide what the scheduler sees."""
    run_id = job.zoo.run_id
    end_attempt(store, run_id, attempt, {"state": "finished" if status == 0 else "failed", "status": status})
    controls = [read_control(store, stage.run_id) for stage in job.stages]
    stopped = [control for control in controls if control is not None and control.wanted == "stopped"]
    if stopped:
        for stage in job.stages:
            stop_run(store, stage.run_id, stopped[0].reason)
        return 0
    if status == 2:
        return _stop(store, job.stages, f"bad input: {last_line}")
    if status == 1 and (why := broken(lives(read_attempts(store, run_id)), num_parts(store, job))) is not None:
        return _stop(store, job.stages, f"{why} (the last one: {last_line})")
    return status


def _zoo_run(name: str, store_url: str, options: Sequence[str]) -> int:
    try:
        status = cli.main(["run", name, "--store", store_url, "--unattended", *options])
    except Exception:  # the edge of a life: a defect is a failed attempt like any other, and is shown
        traceback.print_exc()
        return 1
    return PREEMPTED if status == 130 else status


def pending(store: ObjectStore, origin: str) -> list[dict[str, Any]]:
    """What jobs of ``origin`` began, is still wanted, has not ended, and is in nobody's hands."""
    found = []
    for name in list_zoos(store):
        zoo = in_store.stored(store, name)
        if not isinstance(zoo, ZooSpec):
            continue  # twins belong to the job of their parent
        known = [life for life in lives(read_attempts(store, zoo.run_id)) if life.start.get("origin") == origin]
        control = read_control(store, zoo.run_id)
        if not known or control is None or control.wanted != "run":
            continue
        last = known[-1]
        if last.end is not None and last.end.get("status") == 0:
            continue
        if any(is_driver_claim(claim) for claim in read_claims(store, zoo.run_id)):
            continue
        found.append({"zoo": name, "run": zoo.run_id, "job": last.start["job"], "request": last.start["request"]})
    return found


def stop(store: ObjectStore, name: str, reason: str) -> None:
    """Say that the zoo's run, and that of its twins, shall end and stay so. Raises InputError: no such zoo there."""
    zoo = in_store.resolve(name, store)
    if isinstance(zoo, TwinSpec):
        zoo = zoo.parent
    stages: list[Zoo] = [zoo]
    if zoo.sparsify is not None:  # made from the last epoch that was asked for, not of the zoo
        asked = wanted_of(zoo, read_control(store, zoo.run_id))
        stages.append(twins_of(zoo, source_epoch=asked.num_epochs))
    _stop(store, stages, reason)


def _job(store: ObjectStore, name: str, options: Sequence[str], environment: Mapping[str, str]) -> Job:
    zoo = in_store.resolve(name, store)
    if isinstance(zoo, TwinSpec):
        raise InputError(f"{zoo.name} are the twins of {zoo.parent.name}; submit {zoo.parent.name}")
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--models")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--no-twins", action="store_true")
    known, _ = parser.parse_known_args(options)
    wanted = request(zoo, known.models, known.epochs)
    has_twins = zoo.sparsify is not None and not known.no_twins
    return Job(
        zoo,
        twins_of(zoo, source_epoch=wanted.num_epochs) if has_twins else None,
        environment.get("ZOO_JOB", ""),
        json.loads(environment.get("ZOO_REQUEST", "{}")),
        environment.get("ZOO_ORIGIN", ""),
    )


def _stop(store: ObjectStore, stages: Sequence[Zoo], reason: str) -> int:
    for stage in stages:
        stop_run(store, stage.run_id, reason)
    return _say(f"stopped, and stays so until it is submitted again: {reason}", 0)


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"zoo: {message}\n")
    return status


def _patiently(action: Callable[[], T]) -> T:
    """Do it, and while the store does not answer do it again, up to a deadline."""
    deadline = time.monotonic() + STORE_DEADLINE_SECONDS
    pause = 1.0
    while True:
        try:
            return action()
        except StoreAccessError as error:
            if time.monotonic() + pause > deadline:
                raise
            _say(f"waiting for the store: {error}", 0)
        time.sleep(pause)
        pause = min(30.0, 2 * pause)


@contextlib.contextmanager
def _claimed(store: ObjectStore, job: Job, attempt: str) -> Iterator[None]:
    """Hold a driver's claim while the block runs: also while it publishes, when no engine holds one."""
    claims = Claims(store, job.zoo.run_id, attempt)
    name = driver_claim(attempt)
    done = threading.Event()

    def hold() -> None:
        while not done.is_set():
            with contextlib.suppress(StorageError):
                claims.hold(name)
            done.wait(CLAIM_RENEW_SECONDS)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(StorageError):
            claims.release(name)


class Ear:
    """A text stream that writes to others as well, and remembers the last line."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams
        self.last_line = ""

    def write(self, text: str) -> int:
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.write(text)
                stream.flush()
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self.last_line = " ".join(lines[-1].split())[:300]
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams[0], name)


@contextlib.contextmanager
def _heard() -> Iterator[Ear]:
    """Copy stdout and stderr to the pod's own log, where `kubectl logs` finds them, and listen to stderr."""
    with contextlib.ExitStack() as stack:
        pod: list[TextIO] = []
        if os.environ.get("ZOO_JOB") and os.getpid() != 1:
            with contextlib.suppress(OSError):
                pod.append(stack.enter_context(POD_STDOUT.open("w")))
        ear = Ear(sys.stderr, *pod)
        stack.enter_context(contextlib.redirect_stdout(Ear(sys.stdout, *pod)))
        stack.enter_context(contextlib.redirect_stderr(ear))
        yield ear


@contextlib.contextmanager
def _spec_file(environment: Mapping[str, str], name: str) -> Iterator[str]:
    """The path of the spec that travelled in the request; ``name`` itself where none did."""
    text = json.loads(environment.get("ZOO_REQUEST", "{}")).get("spec")
    if text is None:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text)
        yield str(path)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, what in (("run", "run a zoo"), ("pending", "list what is unfinished"), ("stop", "stop a zoo's run")):
        sub = verbs.add_parser(verb, help=what)
        if verb != "pending":
            sub.add_argument("name")
        sub.add_argument("--store", required=True)
        if verb == "pending":
            sub.add_argument("--origin", required=True, help="namespace/release of the jobs")
        if verb == "stop":
            sub.add_argument("--reason", default="by hand")
    known, options = parser.parse_known_args(arguments)
    if options and known.verb != "run":
        parser.error(f"unknown: {' '.join(options)}")
    try:
        if known.verb == "run":
            with _spec_file(os.environ, known.name) as name:
                return run(name, known.store, options, os.environ)
        store = open_store(known.store)
        if known.verb == "stop":
            stop(store, known.name, known.reason)
        else:
            sys.stdout.write(json.dumps(pending(store, known.origin)) + "\n")
    except (ZooError, StorageError) as error:
        return _say(str(error), error.exit_status)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
