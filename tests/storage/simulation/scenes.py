"""Scenes of many actors with random schedules, and of two actors with every schedule up to a depth."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.keys import spec_key, task_claim
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.marks import create_mark
from zooforge.storage.runs.run_files import UsageWriter, add_usage
from zooforge.storage.stores.objects import put_object
from zooforge.zoo_jobs.unattended.life import start_life
from zooforge.zoo_jobs.unattended.request import Job
from zooforge.zoo_jobs.unattended.stops import stop_stages

from . import actors
from .actors import (
    DAY,
    MIRROR,
    Scene,
    check,
    check_quiet_end,
    collector,
    job,
    publisher,
    puller,
    reader,
    run_job,
    simulated,
    stopper,
    supervisor,
)  # fmt: skip
from .model import RUN, ZOO, manifest_of, part_objects, publish, train_part
from .removal import commit_beside_removal, publish_beside_removal, start_beside_removal, sweep_beside_removal
from .schedules import DrawnSchedule, ListedSchedule, enumerate_schedules
from .world import Actor, Crashed, Fault, QuietStore, SimStore

WRITER_PAUSE_SECONDS = 2 * 3600.0
"""At one request. A writer that stands still for a day may leave a record without its objects for a while."""
ATTEMPTS = ("20260101T000000Z-0001", "20260101T000000Z-0002")


def scene_of(data: bytes) -> Scene:
    """A random scene, not played yet.

    Two bytes choose the actors and whose clock is off by an hour. The others choose who goes on and what fails.
    """
    first, second = (data + b"\0\0")[:2]
    scene = Scene(DrawnSchedule(data[2:]))
    skews = (0.0, 3600.0, -3600.0)
    add = partial(scene.add, max_pause_seconds=WRITER_PAUSE_SECONDS)
    add("job one", partial(run_job, name="one"), skew_seconds=skews[second % 3])
    if first & 1:
        add("job two", partial(run_job, name="two"), skew_seconds=skews[second // 3 % 3])
    if first & 2:
        scene.add("gc", collector, max_pause_seconds=200.0)
    if first & 4:
        add("publisher", publisher)
    if first & 8:
        add("puller", puller)
        add("partial", partial(puller, epochs=(0, 1)))
    if first & 16:
        scene.add("mirror gc", partial(collector, prefix=MIRROR), max_pause_seconds=200.0)
    if first & 32:
        scene.add("reader", partial(reader, prefix=MIRROR if first & 8 and second & 128 else ""))
    if first & 64 and not first & 1:
        scene.add("stopper", stopper)
    return scene


def play(scene: Scene) -> None:
    """Run a scene to its end. Raises Violation, or the error of an actor."""
    with simulated(scene):
        scene.run()
        check(scene)
        check_quiet_end(scene)


Pair = Callable[[Scene], None]


def write_beside_sweep(scene: Scene) -> None:
    """A dead attempt's objects are marked. The next attempt makes the same bytes while a collection sweeps them."""
    quiet = QuietStore(scene)
    scene.now -= 3 * DAY
    contents = part_objects((2,), 0)
    kinds = (("weights", "safetensors"), ("labels", "parquet"), ("state", "safetensors"))
    refs = [put_object(quiet, contents[name], kind) for name, kind in kinds]  # type: ignore[arg-type]
    scene.now += DAY + 1
    create_mark(quiet, [ref.key for ref in refs], scene.now)
    scene.now += 2 * DAY
    scene.add("writer", write_once)
    scene.add("gc", partial(collector, runs=1), max_pause_seconds=200.0, num_lives=1)


def dying_writer_beside_sweep(scene: Scene) -> None:
    """Like ``write_beside_sweep``, but the writer dies right after its record."""
    write_beside_sweep(scene)
    scene.actors[0].work, scene.actors[0].num_lives = partial(die_after_record, scene), 1


def die_after_record(scene: Scene, actor: Actor) -> None:
    class Dying(SimStore):
        def put(self, key: str, *arguments: Any, **options: Any) -> str:
            tag = super().put(key, *arguments, **options)
            if "/parts/" in key:
                raise Crashed
            return tag

    store = Dying(scene, actor)
    train_part(store, read_ledger(store, RUN), (2,), ATTEMPTS[0])


def write_once(scene: Scene, actor: Actor) -> None:
    store = SimStore(scene, actor)
    ledger = read_ledger(store, RUN)
    if ledger.next_part(2) == 0:
        train_part(store, ledger, (2,), ATTEMPTS[0])


def publish_beside_sweep(scene: Scene) -> None:
    """A dead publisher's objects are marked. The next one makes the same bytes while a collection sweeps them."""
    quiet = QuietStore(scene)
    scene.now -= 3 * DAY
    ledger = read_ledger(quiet, RUN)
    train_part(quiet, ledger, (2,), ATTEMPTS[0])
    refs: list[str] = []
    manifest_of({0: {2}}, {}, lambda data, kind: refs.append((ref := put_object(quiet, data, kind)).key) or ref)
    scene.now += DAY + 1
    create_mark(quiet, refs, scene.now)
    scene.now += 2 * DAY
    scene.add("publisher", partial(publisher, times=1))
    scene.add("gc", partial(collector, runs=1), max_pause_seconds=200.0, num_lives=1)


def start_beside_stop(scene: Scene) -> None:
    """A job goes on after a preemption while a person stops its run."""
    quiet = QuietStore(scene)
    assert start_life(quiet, job("one"))
    scene.add("job one", start_once)
    scene.add("stopper", stopper, num_lives=1)


def start_once(scene: Scene, actor: Actor) -> None:
    """Like a starting driver, whose request differs from the recorded one."""
    store = SimStore(scene, actor)
    asked = Job(job("one").zoo, None, "one", {"epochs": 2}, "")
    before = scene.now
    attempt = start_life(store, asked)
    if attempt is not None:
        scene.truth.starts.append((before, scene.now, attempt))


def resume_beside_stop(scene: Scene) -> None:
    """A new job takes back an old stop while a person stops the run again, with the same words."""
    quiet = QuietStore(scene)
    assert start_life(quiet, job("zero"))
    stop_stages(quiet, [job("zero").zoo], "enough")
    scene.add("job one", start_once)
    scene.add("stopper", later_stopper, num_lives=1)


def later_stopper(scene: Scene, actor: Actor) -> None:
    """Stops after the new job has read the old stop; a stop before that is taken back with it."""
    while not any("job one" in line and " get " in line and "control" in line for line in scene.trace):
        scene.sleep(actor, 1.0)
    stopper(scene, actor)


def pull_beside_partial_pull(scene: Scene) -> None:
    """Two people copy a zoo into one folder; one of them copies a part of it."""
    quiet = QuietStore(scene)
    _train_all(quiet, epochs=1)
    publish(quiet)
    scene.add("puller", partial(puller, times=1))
    scene.add("partial", partial(puller, epochs=(0,), times=1))


def publish_beside_publish(scene: Scene) -> None:
    """Two publishers of one run; one of them knows more committed states."""
    quiet = QuietStore(scene)
    _train_all(quiet, epochs=0)
    scene.add("publisher", partial(publisher, times=1))
    scene.add("another", train_and_publish)


def train_and_publish(scene: Scene, actor: Actor) -> None:
    store = SimStore(scene, actor)
    ledger = read_ledger(store, RUN)
    if ledger.next_part(2) == 1:
        train_part(store, ledger, (2,), ATTEMPTS[1])
    publisher(scene, actor, times=1)


def claim_beside_claim(scene: Scene) -> None:
    """Two drivers take a piece, keep it for longer than a claim lasts, and give it back."""
    for name, attempt in zip(("one", "two"), ATTEMPTS, strict=True):
        scene.add(name, partial(hold_claim, attempt=attempt))


def hold_claim(scene: Scene, actor: Actor, attempt: str) -> None:
    actor.attempt = attempt
    claims = Claims(SimStore(scene, actor), RUN, attempt)
    name = task_claim(2, (2,))
    for _ in range(2):
        if claims.take(name):
            scene.sleep(actor, 100.0)
            claims.renew(name)
            claims.release(name)
        scene.sleep(actor, 130.0)


def usage_beside_usage(scene: Scene) -> None:
    """Two programs write usage records of one attempt."""
    for name in ("one", "two"):
        scene.add(name, use, num_lives=1)


def use(scene: Scene, actor: Actor) -> None:
    store, truth = SimStore(scene, actor), scene.truth
    writer = UsageWriter(store, RUN, ATTEMPTS[0])
    unwritten = 0
    for _ in range(2):
        truth.used_at_most += 1
        unwritten += 1
        try:
            writer.write({"pod_seconds": 1})
        except StoreUnreachable:
            continue
        truth.used_at_least += unwritten
        unwritten = 0
    truth.used_at_most += 1
    try:
        add_usage(store, RUN, ATTEMPTS[0], {"pod_seconds": 1})
    except StoreUnreachable:
        return
    truth.used_at_least += 1


def start_after_start(scene: Scene) -> None:
    """Two jobs of a run start, one on a node whose clock is an hour ahead."""
    scene.add("job one", start_once, skew_seconds=3600.0)
    scene.add("job two", start_once)


def supervisor_beside_supervisor(scene: Scene) -> None:
    """Two clusters share a bucket, with the namespace and the release name that the chart suggests."""
    quiet = QuietStore(scene)
    quiet.put(spec_key(ZOO), b"{}")
    assert start_life(quiet, job("north job", actors.origin_of("north")))
    for cluster in ("south", "north"):
        scene.add(cluster, partial(supervisor, cluster=cluster))


def _train_all(store: QuietStore, epochs: int) -> None:
    for _ in range(epochs + 1):
        for piece in ((0, 1), (2,)):
            train_part(store, read_ledger(store, RUN), piece, ATTEMPTS[0])


@dataclass(frozen=True)
class Bounds:
    """The set of schedules of two actors: at most ``depth`` choices interrupt the running actor.

    Attributes:
        faults: of writes, which are among the choices.
        keys: parts of the keys that both actors write, or one writes and the other reads. Requests for other keys
            commute with all that the other actor does, so nothing is chosen there.
    """

    depth: int
    faults: tuple[Fault, ...]
    keys: tuple[str, ...]


PAIRS: dict[Pair, Bounds] = {
    write_beside_sweep: Bounds(2, (Fault.CRASH_AFTER, Fault.DUPLICATE), ("gc/", "objects/", "parts/")),
    dying_writer_beside_sweep: Bounds(3, (), ("gc/", "objects/", "parts/")),
    publish_beside_sweep: Bounds(2, (Fault.CRASH_AFTER, Fault.DUPLICATE), ("gc/", "objects/", "zoos/")),
    start_beside_stop: Bounds(6, (Fault.LOST_REPLY,), ("control",)),
    resume_beside_stop: Bounds(6, (Fault.LOST_REPLY,), ("control",)),
    pull_beside_partial_pull: Bounds(2, (Fault.CRASH_AFTER,), ("mirror/zoos/",)),
    publish_beside_publish: Bounds(2, (Fault.CRASH_AFTER,), ("zoos/", "parts/")),
    start_after_start: Bounds(2, (Fault.LOST_REPLY, Fault.CRASH_AFTER), ("control", "attempts/")),
    supervisor_beside_supervisor: Bounds(1, (Fault.CRASH_AFTER,), ("control", "attempts/", "claims/driver")),
    claim_beside_claim: Bounds(2, (Fault.LOST_REPLY,), ("claims/",)),
    start_beside_removal: Bounds(2, (Fault.CRASH_AFTER,), ("control", "claims/driver", "spec", "run.json")),
    commit_beside_removal: Bounds(2, (Fault.CRASH_AFTER,), ("control", "claims/driver", "HEAD", "/00001.json")),
    publish_beside_removal: Bounds(2, (Fault.CRASH_AFTER,), ("HEAD", "manifest", "run.json")),
    sweep_beside_removal: Bounds(2, (Fault.CRASH_AFTER,), ("HEAD", "manifest", "parts/")),
    usage_beside_usage: Bounds(2, (Fault.LOST_REPLY, Fault.UNREACHABLE_AFTER), ("usage/",)),
}


def run_listed(pair: Pair, choices: list[int]) -> Scene:
    """Run one schedule of a pair."""
    bounds = PAIRS[pair]

    def faults_of(actor: Actor, verb: str, key: str) -> tuple[Fault, ...]:
        return bounds.faults if verb in ("put", "create", "swap", "delete") else ()

    scene = Scene(ListedSchedule(choices, faults_of, lambda key: any(part in key for part in bounds.keys)))
    with simulated(scene):
        pair(scene)
        scene.run()
        scene.judge(scene)
    return scene


def run_pair(pair: Pair, depth: int | None = None) -> int:
    """Run every schedule of a pair up to its depth. Returns their number. Raises Violation with choices and trace."""
    count = 0

    def run(choices: list[int]) -> list[int]:
        schedule = run_listed(pair, choices).schedule
        assert isinstance(schedule, ListedSchedule)
        return schedule.num_options

    for _ in enumerate_schedules(run, PAIRS[pair].depth if depth is None else depth):
        count += 1
    return count
