"""Stops the run of a zoo and that of its twins together."""

from collections.abc import Sequence

from zooforge.storage.runs.run_files import (
    Control,
    read_control,
    stop_run,
    write_control,
)
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store
from ..spec.twins import TwinSpec, Zoo, twins_of
from ..spec.zoo import ZooSpec
from ..watching.facts import wanted_of
from .output import say
from .request import Job


def stages_of(store: ObjectStore, zoo: ZooSpec) -> list[Zoo]:
    """The zoo and, if it has any, its twins, as the last request for the zoo wants them."""
    if zoo.sparsify is None:
        return [zoo]
    # Twins are made from the last epoch of the request, not of the zoo.
    asked = wanted_of(zoo, read_control(store, zoo.run_id))
    return [zoo, twins_of(zoo, source_epoch=asked.num_epochs)]


def stop_stages(store: ObjectStore, stages: Sequence[Zoo], reason: str) -> int:
    """Stop all stages and say so. Returns 0, the status of jobs that must not be tried again."""
    for stage in stages:
        stop_run(store, stage.run_id, reason)
    return say(f"stopped, and stays so until it is submitted again: {reason}", 0)


def spread_stop(store: ObjectStore, job: Job) -> bool:
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


def stay_stopped(store: ObjectStore, job: Job, stop: Control) -> None:
    """Obey a stop that the job has read: stop all its stages and say so."""
    spread_stop(store, job)
    say(f"{job.zoo.name} was stopped ({stop.reason or 'by hand'}) and stays so; submit it again to go on", 0)


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
    stop_stages(store, stages_of(store, zoo), reason)
