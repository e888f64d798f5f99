"""Count the bytes of a store by use: zoos, runs, data sets, and objects that nothing names."""

from dataclasses import dataclass
from typing import Any, Literal

from ..keys import OBJECTS_PREFIX, parse_run, parse_zoo_key
from ..quantities import human_bytes
from ..stores.open import require_existing
from ..stores.protocol import ObjectStore
from .gc import named_objects

Kind = Literal["zoo", "run", "data set", "orphans", "other"]


@dataclass(slots=True)
class Usage:
    """Bytes and keys of one zoo, run or data set, of objects that nothing names, or of other files in the store.

    Attributes:
        shared_bytes: of objects that other zoos also name; they count for the first of these zoos by name.
    """

    kind: Kind
    name: str
    num_objects: int = 0
    num_bytes: int = 0
    shared_bytes: int = 0

    def add(self, num_bytes: int) -> None:
        self.num_objects += 1
        self.num_bytes += num_bytes

    def to_json(self) -> dict[str, Any]:
        value = {"kind": self.kind, "name": self.name, "objects": self.num_objects, "bytes": self.num_bytes}
        return value | ({"shared_bytes": self.shared_bytes} if self.kind == "zoo" else {})

    def line(self) -> str:
        shared = f", and {human_bytes(self.shared_bytes)} of other zoos" if self.shared_bytes else ""
        name = self.name if self.kind in ("zoo", "run", "data set") else ""
        return f"{human_bytes(self.num_bytes):>10}  {self.kind:<8} {name:<34} {self.num_objects:,} objects{shared}"


def usage(store: ObjectStore) -> list[Usage]:
    """Every byte of the store, once: zoos first, then runs, data sets, and the rest. Sorted by kind and name.

    An object that a zoo and a run name counts for the zoo. Orphans are what `zoo store gc` collects, and what a writer
    has not committed yet. Raises StoreURLError if there is no store.
    """
    require_existing(store)
    sizes = {stat.key: stat.size for stat in store.list("")}
    named = named_objects(store)
    usages: dict[tuple[Kind, str], Usage] = {}

    def of(kind: Kind, name: str) -> Usage:
        return usages.setdefault((kind, name), Usage(kind, name))

    owners: dict[str, Usage] = {}
    for zoo, keys in sorted(named.by_zoo.items()):
        for key in keys:
            if key in owners:
                of("zoo", zoo).shared_bytes += sizes.get(key, 0)
            else:
                owners[key] = of("zoo", zoo)
    for run, keys in sorted(named.by_run.items()):
        for key in keys:
            owners.setdefault(key, of("run", run))
    for key, size in sizes.items():
        if key.startswith(OBJECTS_PREFIX):
            (owners.get(key) or of("orphans", "")).add(size)
        elif (name := parse_zoo_key(key)) is not None:
            of("zoo", name).add(size)
        elif (name := parse_run(key)) is not None:
            of("run", name).add(size)
        elif key.startswith("datasets/") and key.count("/") > 1:
            of("data set", key.split("/")[1]).add(size)
        else:
            of("other", "").add(size)
    order = ("zoo", "run", "data set", "orphans", "other")
    return sorted(usages.values(), key=lambda one: (order.index(one.kind), one.name))
