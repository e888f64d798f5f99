"""Removing a zoo while a driver starts or commits, somebody publishes, or a collection runs."""

from contextlib import suppress
from functools import partial

from zooforge.storage.errors import ObjectMissing, StorageError, StorageUsageError, StoreUnreachable
from zooforge.storage.keys import control_key, parts_prefix, run_key, spec_key, zoo_prefix
from zooforge.storage.ops.remove import REMOVAL_VOID_SECONDS, check_not_removed, remove
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.marks import create_mark
from zooforge.storage.runs.run_files import create_run, read_control
from zooforge.storage.stores.objects import put_object
from zooforge.zoo_jobs.unattended.life import start_life

from .actors import DAY, Scene, check, check_quiet_end, collector, job, register, run_job
from .model import PIECES, RUN, ZOO, part_objects, publish, train_part
from .world import Actor, QuietStore, SimStore, Violation


def start_beside_removal(scene: Scene) -> None:
    """A job begins to work on a run that is committed and not published, while its zoo is removed."""
    grow(scene, parts=2)
    scene.add("job one", partial(run_job, name="one"))
    scene.add("remover", remover)


def commit_beside_removal(scene: Scene) -> None:
    """A job continues a published zoo while the zoo is removed."""
    grow(scene, parts=1)
    publish(QuietStore(scene))
    scene.add("job one", partial(run_job, name="one"))
    scene.add("remover", remover)


def publish_beside_removal(scene: Scene) -> None:
    """The first version is published by hand while the zoo is removed."""
    grow(scene, parts=1)
    scene.add("publisher", publish_or_be_told)
    scene.add("remover", remover)


def sweep_beside_removal(scene: Scene) -> None:
    """A collection sweeps what nothing names while a zoo is removed."""
    quiet = QuietStore(scene)
    scene.now -= 3 * DAY
    grow(scene, parts=1)
    publish(quiet)
    orphan = put_object(quiet, part_objects(PIECES[1], 1)["weights"], "safetensors")
    scene.now += DAY + 1
    create_mark(
        quiet,
        [
            orphan.key,
        ],
        scene.now,
    )
    scene.now += 2 * DAY
    scene.add("gc", collect, max_pause_seconds=200.0, num_lives=1)
    scene.add("remover", remover)


def grow(scene: Scene, parts: int) -> None:
    """Train a run as a job does, and end."""
    quiet = QuietStore(scene)
    scene.judge = judge
    attempt = start_life(quiet, job("zero"))
    assert attempt is not None
    register(quiet, job("").zoo)
    create_run(quiet, RUN, {})
    for _ in range(parts):
        for piece in PIECES:
            train_part(quiet, read_ledger(quiet, RUN), piece, attempt)


def remover(scene: Scene, actor: Actor) -> None:
    """A person who removes the zoo, once."""
    try:
        remove(SimStore(scene, actor), ZOO)
    except (StoreUnreachable, StorageUsageError):  # the latter: a driver works on it, or it is gone
        return
    scene.truth.removed = True


def collect(scene: Scene, actor: Actor) -> None:
    """A collection. It may fail because records are deleted while it reads them; then the next one continues."""
    for _ in range(2):
        with suppress(ObjectMissing):
            collector(scene, actor, runs=1)


def publish_or_be_told(scene: Scene, actor: Actor) -> None:
    store = SimStore(scene, actor)
    try:
        publish(store)
        check_not_removed(store, ZOO, RUN)
    except StorageError:
        scene.truth.refused = True


def judge(scene: Scene) -> None:
    """A removed zoo must be gone, or whole if somebody started it again. Leftovers must be removable."""
    quiet, truth = QuietStore(scene), scene.truth
    control = read_control(quiet, RUN)
    parts = [stat.key for stat in quiet.list(parts_prefix(RUN))]
    files = [stat.key for stat in quiet.list(zoo_prefix(ZOO))]
    is_gone = control is None or (control.removing and spec_key(ZOO) not in files)
    if truth.removed and is_gone and (parts or (files and not truth.refused)):
        raise Violation(f"{(parts or files)[0]} is there after the removal")
    if not is_gone and truth.removed and control.removing:
        raise Violation("a zoo that was removed is still being removed")
    scene.now += REMOVAL_VOID_SECONDS
    if is_gone or control.removing:
        if files:
            remove(quiet, ZOO)
        if left := [key for key in scene.objects if key.startswith("zoos/") or "/parts/" in key]:
            raise Violation(f"{left[0]} is left of what was removed")
    elif (parts or files) and not {spec_key(ZOO), run_key(RUN)} <= scene.objects.keys():
        raise Violation("a run is removed half")
    check(scene)
    check_quiet_end(scene)
    if not {spec_key(ZOO), run_key(RUN), control_key(RUN)} <= scene.objects.keys():
        raise Violation("a run that began again is not whole")
