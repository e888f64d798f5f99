"""The actors of the simulation, and the checks of the store after them."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any

from zooforge.cluster.spec import Release, Target
from zooforge.storage.canonical import parse_json, sha256_hex
from zooforge.storage.errors import ObjectMissing, StorageError, StorageUsageError, StoreUnreachable, Superseded
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.keys import control_key, driver_claim, manifest_key, task_claim
from zooforge.storage.ops import gc, pull, remove
from zooforge.storage.ops.remove import check_not_removed
from zooforge.storage.publish import head, seal
from zooforge.storage.publish.head import create_spec, read_current, read_manifest_bytes, states_of
from zooforge.storage.runs import claims, ledger, marks, run_files
from zooforge.storage.runs.claims import CLAIM_VOID_SECONDS, Claims
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import (
    UsageWriter,
    create_run,
    is_stop_asked,
    read_attempts,
    read_control,
    read_usage,
    stop_run,
)
from zooforge.storage.stores import clock
from zooforge.storage.stores.clock import StoreClock
from zooforge.storage.stores.objects import get_object
from zooforge.zoo_jobs.catalogue import in_store
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.unattended import listing
from zooforge.zoo_jobs.unattended.life import end_life, start_life
from zooforge.zoo_jobs.unattended.request import Job

from .model import LAST_PART, MODELS, PIECES, QUIET_SHA256, RUN, ZOO, FakeZoo, part_of, publish, train_part
from .world import Actor, QuietStore, Schedule, SimStore, Violation, World

DAY = 24 * 3600.0
MIRROR = "mirror/"


@dataclass
class Truth:
    """The events that really happened. The store is compared with them."""

    used_at_least: float = 0.0
    used_at_most: float = 0.0
    starts: list[tuple[float, float, str]] = field(default_factory=list)
    """(before, after, attempt) of each start of an attempt."""
    must_be_stopped: bool = False
    at_work: set[str] = field(default_factory=set)
    """Attempts whose drivers have their claim and have read afterwards that the run is wanted."""
    is_removing: bool = False
    """The removal has deleted files of the zoo that somebody may have read before."""
    removed: bool = False
    refused: bool = False
    """A publisher was told that the zoo is being removed."""


class Scene(World):
    """A world with one zoo and a mirror, into which the zoo is pulled."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.truth = Truth()
        self.watch = self._check_write
        self.num_tokens = 0
        self.judge: Callable[[Scene], None] = check

    def add(self, name: str, work: Callable[["Scene", Actor], None], **options: Any) -> None:
        self.actors.append(Actor(name, partial(work, self), **options))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, actor: Actor, seconds: float) -> None:
        if actor in self.actors:
            super().sleep(actor, seconds)
        else:  # an observer
            self.now += seconds

    def _check_write(self, actor: Actor, verb: str, key: str, data: bytes | None) -> None:
        prefix, _, rest = key.rpartition(MIRROR)
        if rest.endswith("/HEAD") and data is not None:
            self._check_head(prefix + MIRROR if prefix or key != rest else "", key, data)
        elif "/claims/" in rest and "/claims/driver-" not in rest:
            self._check_claim(actor, key, data)
        elif actor.name == "remover" and data is None:
            self._check_removal(key)

    def _check_removal(self, key: str) -> None:
        """Nothing that a driver works on may be deleted, except the control: so the driver learns of the removal."""
        if self.truth.at_work and key.startswith(("runs/", "zoos/")) and key != control_key(RUN):
            raise Violation(f"{key} is removed while {min(self.truth.at_work)} works on the run")
        self.truth.is_removing |= key.startswith("zoos/")
        if "/usage/" in key:
            self.truth.used_at_least = 0.0

    def _check_head(self, prefix: str, key: str, data: bytes) -> None:
        if self.truth.is_removing and manifest_key(ZOO, json.loads(data)["number"]) not in self.objects:
            return  # the publisher is told, and the next removal deletes this version
        new = self._manifest(prefix, data)
        missing = [ref.key for ref in new.refs if prefix + ref.key not in self.objects]
        if missing:
            raise Violation(f"{key} moves to a version without {missing[0]}")
        if key in self.objects:
            old = self._manifest(prefix, self.objects[key][0])
            if old.run != new.run:
                raise Violation(f"{key} moves from run {old.run} to run {new.run}")
            here = states_of(new)
            if any(models - here.get(epoch, set()) for epoch, models in states_of(old).items()):
                raise Violation(f"{key} shrinks from {old.num_states} to {new.num_states} states")

    def _manifest(self, prefix: str, data: bytes) -> Manifest:
        value = json.loads(data)
        content = self.objects[prefix + manifest_key(ZOO, value["number"])][0]
        if sha256_hex(content) != value["manifest_sha256"]:
            raise Violation(f"{prefix}HEAD names a manifest that is not there")
        return Manifest.from_json(content, "manifest")

    def _check_claim(self, actor: Actor, key: str, data: bytes | None) -> None:
        """Nobody may write or delete a claim that another driver has and that is not void."""
        if key not in self.objects:
            return
        content, _, modified = self.objects[key]
        owner = parse_json(content, key)["attempt"]
        by = actor.attempt if data is None else parse_json(data, key).get("by", "")
        if owner not in ("", by) and self.now - modified < CLAIM_VOID_SECONDS - 10:
            raise Violation(f"{by} takes {key} from {owner}, who renewed it {self.now - modified:.0f} s ago")


@contextmanager
def simulated(scene: Scene) -> Iterator[None]:
    """The protocol code uses the scene's time and randomness, and starts no threads."""

    def token(size: int) -> str:
        scene.num_tokens += 1
        return f"{scene.num_tokens:0{2 * size}x}"

    def sleep(seconds: float) -> None:
        assert scene.current is not None
        scene.sleep(scene.current, seconds)

    def now(store: SimStore) -> float:
        return scene.now + store._actor.skew_seconds

    secrets, sim_clock = SimpleNamespace(token_hex=token), partial(StoreClock, monotonic=scene.monotonic)
    unmark = marks.unmark  # a test may have replaced it
    patches: list[tuple[Any, str, Any]] = [
        (clock, "secrets", secrets),
        (run_files, "secrets", secrets),
        (run_files, "store_now", now),
        (claims, "store_now", now),
        (claims, "StoreClock", sim_clock),
        (marks, "secrets", secrets),
        (marks, "StoreClock", sim_clock),
        (marks, "unmark", partial(unmark, wait=sleep)),
        (head, "unmark", partial(unmark, wait=sleep)),
        (ledger, "NUM_READERS", 1),
        (seal, "require_publishing", lambda store: None),
        (seal, "write_copies", lambda store, description, manifest, number: None),
        (pull, "require_publishing", lambda store: None),
        (pull, "_write_copies", lambda zoo, target, manifest, number: None),
        (pull._Puller, "write", part_of),
        (remove, "StoreClock", sim_clock),
        (in_store, "StoreClock", sim_clock),
        (in_store, "check", lambda store, zoo: None),
        (in_store, "send_images", lambda store, zoo: None),
        (in_store, "stored", lambda store, name: job("").zoo),
        (listing, "ZooSpec", SimpleNamespace),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    for module, name, value in patches:
        setattr(module, name, value)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def register(store: SimStore, zoo: Any) -> None:
    create_spec(store, zoo.name, {"kind": "zoo", "run": zoo.run_id, "spec": {}})


def job(name: str, origin: str = "") -> Any:
    zoo: Any = SimpleNamespace(name=ZOO, run_id=RUN, sparsify=None)
    return Job(zoo, None, name, {}, origin)


def run_job(scene: Scene, actor: Actor, name: str, lives: int = 3, origin: str = "") -> None:
    """A scheduler's job: its attempts, one after the other, until one ends with 0."""
    for _ in range(lives):
        try:
            if attempt_of_job(scene, actor, SimStore(scene, actor), name, origin) == 0:
                return
        except StoreUnreachable:
            pass
        except InputError:  # the zoo is being removed
            return
        scene.sleep(actor, 30.0)


def attempt_of_job(scene: Scene, actor: Actor, store: SimStore, name: str, origin: str = "") -> int:
    before = scene.now
    attempt = start_life(store, job(name, origin))
    if attempt is None:
        return 0
    scene.truth.starts.append((before, scene.now, attempt))
    actor.attempt = attempt
    try:
        status = drive(scene, actor, store, attempt)
    except Superseded:
        status = 75
    finally:
        scene.truth.at_work.discard(attempt)
    return end_life(store, job(name, origin), attempt, status, "")


def drive(scene: Scene, actor: Actor, store: SimStore, attempt: str) -> int:
    """Do the store operations of a driver. Raises Violation if the store lost an object that it needs."""
    mine, usage = Claims(store, RUN, attempt), UsageWriter(store, RUN, attempt)
    mine.hold(driver_claim(attempt))
    known = None
    while True:
        scene.truth.at_work.discard(attempt)
        if is_stop_asked(store, RUN):
            return 75
        scene.truth.at_work.add(attempt)
        if known is None:
            register(store, job("").zoo)
            create_run(store, RUN, {})
        known = read_ledger(store, RUN, known)
        open_pieces = [piece for piece in PIECES if known.next_part(piece[0]) <= LAST_PART]
        if not open_pieces:
            break
        piece = next((piece for piece in open_pieces if mine.take(task_claim(piece[0], piece))), None)
        if piece is None:
            scene.sleep(actor, CLAIM_VOID_SECONDS + 10)
            mine.hold(driver_claim(attempt))
            continue
        try:
            train_part(store, known, piece, attempt)
        except ObjectMissing as error:
            raise Violation(f"committed and lost: {error}") from None
        scene.truth.used_at_most += 1
        usage.write({"pod_seconds": 1})
        scene.truth.used_at_least += 1
        mine.release(task_claim(piece[0], piece))
    scene.truth.at_work.discard(attempt)
    mine.release(driver_claim(attempt))
    try:
        publish(store)
        check_not_removed(store, ZOO, RUN)
    except StoreUnreachable:
        raise
    except StorageError:
        scene.truth.refused = True
        return 1
    return 0


def collector(scene: Scene, actor: Actor, prefix: str = "", runs: int = 3) -> None:
    """A CronJob that collects garbage every day."""
    store = SimStore(scene, actor, prefix)
    for _ in range(runs):
        with suppress(StoreUnreachable):
            gc.collect(store, dry_run=False, clock=StoreClock(store, scene.monotonic), monotonic=scene.monotonic)
        scene.sleep(actor, DAY + 1)


def publisher(scene: Scene, actor: Actor, times: int = 2) -> None:
    """A person who publishes the committed states."""
    store = SimStore(scene, actor)
    for _ in range(times):
        try:
            if read_ledger(store, RUN).models:
                publish(store)
        except StoreUnreachable:
            pass
        except ObjectMissing as error:
            raise Violation(f"to be published and lost: {error}") from None
        scene.sleep(actor, 50.0)


def puller(scene: Scene, actor: Actor, epochs: Sequence[int] | None = None, times: int = 2) -> None:
    """A person who copies the current version, or some of its epochs, into the mirror."""
    source, target = SimStore(scene, actor), SimStore(scene, actor, MIRROR)
    for _ in range(times):
        try:
            _, manifest = read_current(source, ZOO)
            if manifest is not None:
                pull.pull(FakeZoo(source, manifest, epochs), target)  # type: ignore[arg-type]
        except (StoreUnreachable, StorageUsageError):  # the latter: no such epoch yet, or it would shrink the mirror
            pass
        except ObjectMissing as error:
            raise Violation(f"published and lost: {error}") from None
        scene.sleep(actor, 100.0)


def reader(scene: Scene, actor: Actor, prefix: str = "") -> None:
    """A person who reads the whole current version."""
    store = SimStore(scene, actor, prefix)
    for _ in range(2):
        try:
            head_now, manifest = read_current(store, ZOO)
            for ref in [] if manifest is None else manifest.refs:
                get_object(store, ref, f"version {head_now}")
        except StoreUnreachable:
            pass
        except ObjectMissing as error:
            raise Violation(f"published and lost: {error}") from None
        scene.sleep(actor, 200.0)


def origin_of(cluster: str) -> str:
    """The origin of a job. Every cluster that shares the bucket has the same namespace and release."""
    settings = dict.fromkeys(("mode", "store", "endpoint", "credentials", "credentialsSecret", "exporter"), "")
    settings |= {"clusterId": cluster, "podDisruptionBudget": "", "maxLives": 0, "maxHours": 0}
    config = {"settings.json": json.dumps(settings), "rayjob.yaml": ""}
    return Release.from_config(config, Target("zoos")).origin


def supervisor(scene: Scene, actor: Actor, cluster: str) -> None:
    """The supervisor of a cluster: continues the cluster's unfinished jobs that have no driver."""
    store = SimStore(scene, actor)
    for _ in range(2):
        for row in listing.pending(store, origin_of(cluster)):
            if not row["job"].startswith(cluster):
                raise Violation(f"{cluster} goes on with {row['job']}, a job of another cluster")
            run_job(scene, actor, row["job"], 1, origin_of(cluster))
        scene.sleep(actor, 2 * CLAIM_VOID_SECONDS)


def stopper(scene: Scene, actor: Actor) -> None:
    """A person who stops the run after it has begun. From then on it must stay stopped."""
    while control_key(RUN) not in scene.objects:
        if all(other.done for other in scene.actors if other.name.startswith("job")):
            return  # all attempts died before they were recorded
        scene.sleep(actor, 5.0)
    try:
        stop_run(SimStore(scene, actor), RUN, "enough")
    except StoreUnreachable:
        return
    scene.truth.must_be_stopped = True


def check(scene: Scene) -> None:
    """Check the store after all actors have ended."""
    quiet = QuietStore(scene)
    for prefix in ("", MIRROR):
        store = QuietStore(scene, prefix)
        for key in gc.roots(store):
            if prefix + key not in scene.objects:
                raise Violation(f"{prefix}{key} is named and not there")
    _, manifest = read_current(quiet, ZOO)
    published = {} if manifest is None else states_of(manifest)
    committed = read_ledger(quiet, RUN)
    for model in MODELS:
        for part in range(committed.next_part(model)):
            key = committed.holder(model, part)
            weights = None if key is None else committed.record(key).weights
            if model not in published.get(part, ()) and (weights is None or weights.key not in scene.objects):
                raise Violation(f"weights of model {model}, part {part} are committed and lost")
    truth = scene.truth
    used = read_usage(quiet, RUN).get("pod_seconds", 0.0)
    if not truth.used_at_least <= used <= truth.used_at_most:
        raise Violation(f"usage is {used}, between {truth.used_at_least} and {truth.used_at_most} was used")
    for before, _, later in truth.starts:
        for _, after, earlier in truth.starts:
            if after < before and earlier >= later:
                raise Violation(f"attempt {later} started after {earlier} and sorts before it")
    control = read_control(quiet, RUN)
    if truth.must_be_stopped and (control is None or control.wanted != "stopped"):
        raise Violation("a run that was stopped is wanted again")


def check_quiet_end(scene: Scene) -> None:
    """Run an undisturbed job to its end and check what it publishes."""
    observer = Actor("observer", lambda actor: None)
    scene.current = observer
    scene.now += 2 * CLAIM_VOID_SECONDS
    store = QuietStore(scene)
    status = attempt_of_job(scene, observer, store, "last")
    number, data = read_manifest_bytes(store, ZOO)
    if status or sha256_hex(data) != QUIET_SHA256:
        holds = Manifest.from_json(data, "manifest").describe()
        raise Violation(f"a quiet job ends with {status}, and version {number} ({holds}) is not that of a quiet run")
    if len(read_attempts(store, RUN)) < 1:
        raise Violation("no attempt is on record")


sys.setswitchinterval(0.05)  # actors give way at their own requests
