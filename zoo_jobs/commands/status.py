"""`zoo status`: progress of zoos, read from the store alone."""

import sys
from collections.abc import Sequence

import click

from zooforge.storage.publish.head import list_zoos
from zooforge.storage.runs.ledger import Ledger
from zooforge.storage.stores.clock import store_now
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue.in_store import Imported, is_published, stored
from ..errors import InputError
from ..spec.twins import TwinSpec, Zoo
from ..watching.facts import read_facts, read_imported
from ..watching.status import Status, imported_status, status
from ..watching.status_screen import lines, watch
from .options import json_option, print_json
from .working import open_existing_store, resolve, zoos_and_store


@click.command("status")
@zoos_and_store
@click.option("--watch", "watching", is_flag=True, help="Repeat every few seconds, until all runs have ended.")
@click.option("--interval", type=click.FloatRange(min=0.2), default=5.0, show_default=True, help="Seconds between.")
@json_option
def command(names: tuple[str, ...], store: str, watching: bool, interval: float, as_json: bool) -> None:
    """Progress of NAME, when it ends, what it costs, and its problems. The twins of NAME are shown too.

    With --json an object for one NAME, a list for several or `all`.
    """
    if watching and as_json:
        raise InputError("--watch is for people; give either --watch or --json")
    opened = open_existing_store(store)
    zoos = _zoos(opened, names)
    ledgers: dict[str, Ledger] = {}

    def look(wanted: Sequence[Zoo | str]) -> list[Status]:
        statuses = []
        for zoo in wanted:
            if isinstance(zoo, str):
                statuses.append(imported_status(*read_imported(opened, zoo)))
                continue
            facts = read_facts(opened, zoo, ledgers.get(zoo.run_id))
            ledgers[zoo.run_id] = facts.ledger
            statuses.append(status(facts, store_now(opened)))
        return statuses

    if as_json:
        values = [one.to_json() for one in look(zoos)]
        print_json(values[0] if len(names) == 1 and names[0] != "all" else values)
        return

    def with_twins() -> list[Status]:
        return look([*dict.fromkeys([*zoos, *_twins(opened, zoos)])])

    if watching:
        watch(with_twins, interval, sys.stdout, clock=lambda: store_now(opened))
        return
    for one in with_twins():
        for line in lines(one, store_now(opened)):
            click.echo(line)


def _zoos(store: ObjectStore, names: Sequence[str]) -> list[Zoo | str]:
    """The spec of each zoo, or the name of one that was imported and has none."""
    zoos: list[Zoo | str] = []
    for name in names:
        if name != "all":
            zoos.append(_resolve(name, store))
            continue
        known = [stored(store, known) or known for known in list_zoos(store)]
        if not known:
            raise InputError(f"{store.url} holds no zoo; `zoo run NAME --store {store.url}` begins one")
        zoos += known
    return list(dict.fromkeys(zoos))


def _resolve(name: str, store: ObjectStore) -> Zoo | str:
    try:
        zoo = resolve(name, store)
    except Imported:
        return name
    imported = stored(store, zoo.name) is None and is_published(store, zoo.name)
    return zoo.name if imported else zoo


def _twins(store: ObjectStore, named: Sequence[Zoo | str]) -> list[Zoo]:
    """Twins in the store of those zoos that are no twins themselves."""
    zoos = [zoo for zoo in named if not isinstance(zoo, str)]
    prefixes = tuple(f"{zoo.name}-" for zoo in zoos if not isinstance(zoo, TwinSpec))
    names = [name for name in list_zoos(store) if name.startswith(prefixes)] if prefixes else []
    runs = {zoo.run_id for zoo in zoos}
    twins = [stored(store, name) for name in names]
    return [zoo for zoo in twins if isinstance(zoo, TwinSpec) and zoo.parent.run_id in runs]
