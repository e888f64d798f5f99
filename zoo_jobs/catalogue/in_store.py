"""Specs of the zoos in a store: written before the first commit, and changed only in ways that keep their rows."""

from typing import Any

from zooforge.storage.errors import FormatError, KeyFormatError
from zooforge.storage.keys import control_key
from zooforge.storage.ops.remove import REMOVAL_VOID_SECONDS
from zooforge.storage.publish.head import create_spec, list_zoos, read_head, read_spec, swap_spec
from zooforge.storage.runs.run_files import Control
from zooforge.storage.stores.clock import StoreClock
from zooforge.storage.stores.protocol import ObjectStore

from ..data.own import OwnImages
from ..data.sources import default_cache
from ..errors import InputError, nearest
from ..spec.grid import check_extends
from ..spec.twins import TwinSpec, Zoo
from ..spec.zoo import ZooSpec
from . import entries


def content(zoo: Zoo) -> dict[str, Any]:
    """Content of ``zoos/<zoo>/spec.json``."""
    kind = "twins" if isinstance(zoo, TwinSpec) else "zoo"
    return {"kind": kind, "run": zoo.run_id, "spec": zoo.to_json()}


def stored(store: ObjectStore, name: str) -> Zoo | None:
    """The zoo called ``name`` in the store; None if there is no spec of that name."""
    try:
        spec = read_spec(store, name)
    except KeyFormatError:
        return None  # no zoo can have such a name
    if spec is None:
        return None
    where = f"spec of {name} in {store.url}"
    if spec.content.get("kind") not in ("zoo", "twins"):
        raise FormatError(f"{where}: `kind` is {spec.content.get('kind')!r}, expected zoo or twins")
    kind = TwinSpec if spec.content["kind"] == "twins" else ZooSpec
    return kind.from_json(spec.content.get("spec"), where)


class Imported(InputError):
    """The zoo was imported into the store: it has no spec and no run."""


def resolve(name: str, store: ObjectStore, allow_code: bool = False) -> Zoo:
    """The zoo called ``name`` in the catalogue or in the store.

    Args:
        allow_code: as for ``entries.load_file``; code in a store is not run here.

    Raises:
        Imported: the store has published models by this name, and no spec.
        InputError: an unknown name; the nearest one is offered.
    """
    try:
        return entries.resolve(name, allow_code)
    except InputError as error:
        if name.endswith((".yaml", ".yml")):
            raise
        zoo = stored(store, name)
        parent_name = entries.twin_parent(name)
        if zoo is None and parent_name is not None:
            parent = stored(store, parent_name)
            zoo = entries.twins_named(name, parent) if isinstance(parent, ZooSpec) else None
        if zoo is not None:
            return zoo
        if is_published(store, name):
            raise Imported(
                f"{name} was imported into {store.url}: no spec says how it was grown, so there is no run to work on"
            ) from None
        close = nearest(name, list_zoos(store))
        raise InputError(f"{error}" + (f"; the store has {close!r}" if close else "")) from None


def is_published(store: ObjectStore, name: str) -> bool:
    """True if the store has a published zoo of this name, grown or imported."""
    try:
        return read_head(store, name) is not None
    except KeyFormatError:
        return False


def check(store: ObjectStore, zoo: Zoo, new_lineage: bool = False) -> None:
    """Compare ``zoo`` with the zoo of the same name in the store. Reads only.

    Raises:
        InputError: rows or results would change; the message names the first difference and what to do.
    """
    before = stored(store, zoo.name)
    if before is None or new_lineage:
        return
    check_extends(before, zoo)


def check_not_removing(store: ObjectStore, zoo: Zoo, control: Control | None) -> None:
    """Raises InputError while the zoo is being removed: its spec is there, or its control is about to go."""
    if control is None or not control.removing:
        return
    what = f"{zoo.name} is being removed from {store.url}"
    if read_spec(store, zoo.name) is not None:
        raise InputError(f"{what}; `zoo store rm {zoo.name} --yes` finishes that")
    stat = store.stat(control_key(zoo.run_id))
    if stat is not None and StoreClock(store).now() - stat.modified_seconds < REMOVAL_VOID_SECONDS:
        raise InputError(f"{what} at this moment; try again in a few minutes")


def send_images(store: ObjectStore, zoo: Zoo) -> None:
    """Write the zoo's images, if they are a user's own. Raises InputError: neither the store nor the cache has them."""
    if isinstance(zoo.root.dataset, OwnImages):
        from ..data.own_values import send_values  # imports Pillow, which the catalogue's zoos do not need

        send_values(zoo.root.dataset, default_cache(), store)


def register(store: ObjectStore, zoo: Zoo, new_lineage: bool = False) -> None:
    """Write the zoo's spec, or replace one whose rows it keeps. The user's own images are written before it.

    Raises:
        InputError: as ``check`` and ``send_images``.
    """
    send_images(store, zoo)
    wanted = content(zoo)
    there = create_spec(store, zoo.name, wanted)
    if there.content == wanted:
        return
    check(store, zoo, new_lineage)
    swap_spec(store, zoo.name, wanted, there)
