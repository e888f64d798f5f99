"""The family of a zoo as a tree, for `zoo show`."""

from collections.abc import Iterator, Sequence

from ..catalogue import entries
from ..spec.grid import rows
from ..spec.zoo import ZooSpec


def family_of(spec: ZooSpec) -> list[str] | None:
    """Lines with the root of the family, and below it ``spec`` and every zoo of the catalogue that descends from it.

    None for a zoo without parents and children.
    """
    members = {zoo.run_id: zoo for zoo in (*entries.load_all(), spec)}
    ancestor = spec
    while ancestor.start is not None:
        ancestor = ancestor.start.spec
        members.setdefault(ancestor.run_id, ancestor)
    lines = [f"family     {_member(ancestor, spec)}", *_below(ancestor, list(members.values()), spec, " " * 11)]
    return lines if len(lines) > 1 else None


def _below(parent: ZooSpec, members: Sequence[ZooSpec], shown: ZooSpec, indent: str) -> Iterator[str]:
    children = [zoo for zoo in members if zoo.start is not None and zoo.start.spec.run_id == parent.run_id]
    for number, zoo in enumerate(children):
        is_last = number == len(children) - 1
        yield f"{indent}{'└─ ' if is_last else '├─ '}{_member(zoo, shown)}"
        yield from _below(zoo, members, shown, indent + ("   " if is_last else "│  "))


def _member(zoo: ZooSpec, shown: ZooSpec) -> str:
    text = f"{zoo.name}: {len(rows(zoo)):,} models"
    if zoo.start is not None:
        head = "" if zoo.start.head == "keep" else ", a new last layer"
        text += f" from models {zoo.start.models} after epoch {zoo.start.epoch}{head}"
    return f"{text} (this zoo)" if zoo == shown else text
