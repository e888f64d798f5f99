"""One life of a job, from its request to the status that its scheduler gets."""

import contextlib
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from zooforge.storage.errors import NotSupported, StorageError, StoreAccessError
from zooforge.storage.keys import attempt_seconds, driver_claim
from zooforge.storage.runs.claims import CLAIM_RENEW_SECONDS, Claims
from zooforge.storage.runs.run_files import (
    is_stop_asked,
    read_attempts,
)
from zooforge.storage.stores.clock import store_now
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.probe import probe, require
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.stores.retries import STORE_AWAY

from .. import cli
from ..catalogue import in_store
from ..errors import InputError
from ..spec.blocks import validated
from .life import end_life, start_life
from .lives import job_attempts, lives_of
from .output import output_copied, say
from .request import Asked, Job, job_of, read_request, spec_file
from .stops import stop_stages

PREEMPTED = 75
T = TypeVar("T")


def run(name: str, store_url: str, slots: int | None, environment: Mapping[str, str]) -> int:
    """Run a zoo to its end. Returns 0 for everything that must not be tried again, else 1 or 75."""
    try:
        request = read_request(environment)
        asked = validated(Asked, request, "ZOO_REQUEST")
        store = open_store(store_url, single_writer=asked.single_writer)
        with spec_file(asked, name) as named:
            job = patiently(lambda: job_of(store, named, asked, request, environment))
            patiently(lambda: require(probe(store), store.url, single_writer=asked.single_writer))
            attempt = patiently(lambda: start_life(store, job))
            if attempt is None:
                return 0
            with _claimed(store, job, attempt), output_copied(environment) as stderr:
                options = [*asked.options, *(["--slots", str(slots)] if slots is not None else [])]
                status = _registered(store, job) or _zoo_run(named, store_url, options)
    except InputError as error:
        return say(f"bad input, not tried again: {error}", 0)
    except NotSupported as error:
        return say(f"not tried again: {error}", 0)
    except StorageError as error:
        return say(f"the store: {error}", 1)
    return patiently(lambda: end_life(store, job, attempt, status, stderr.last_line))


def _registered(store: ObjectStore, job: Job) -> int:
    """Write the zoo's spec, which shows that the run exists. Returns 0, or 2 if the spec cannot be changed in this way.

    The driver's claim exists already. A removal that did not see the claim is noticed here; then nothing is written.
    """
    try:
        if not patiently(lambda: is_stop_asked(store, job.zoo.run_id)):
            patiently(lambda: in_store.register(store, job.zoo))
    except InputError as error:
        return say(str(error), 2)
    return 0


def _zoo_run(name: str, store_url: str, options: Sequence[str]) -> int:
    try:
        status = cli.main(["run", name, "--store", store_url, "--unattended", *options])
    except Exception:  # a defect of the program is a failed attempt like any other, and its traceback is shown
        traceback.print_exc()
        return 1
    return PREEMPTED if status == 130 else status


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
                    stop_stages(store, job.stages, f"{job.limits.time_is_over}; `zoo cluster submit` goes on")
                    stopped = True
            done.wait(min(CLAIM_RENEW_SECONDS, left) if left > 0 else CLAIM_RENEW_SECONDS)

    patiently(lambda: claims.hold(name))
    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(StorageError):
            claims.release(name)


def patiently(action: Callable[[], T]) -> T:
    """Repeat ``action`` until the store allows it."""

    def on_retry(error: StorageError) -> None:
        say(f"waiting for the store: {error}", 0)

    def again(error: StorageError) -> bool:
        return isinstance(error, StoreAccessError) and not isinstance(error, NotSupported)

    return STORE_AWAY.call(action, again=again, on_retry=on_retry)
