"""`zoo diff`: differences of two zoos, and whether they have the same run."""

from typing import Any

import click

from ..spec.grid import rows
from ..spec.twins import Zoo
from .options import json_option, print_json, resolve_zoo

MAX_SHOWN = 60  # characters of a value


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option
def command(a: str, b: str, as_json: bool) -> None:
    """Fields and rows that differ between zoos A and B. Zoos with the same run id have the same models."""
    first, second = resolve_zoo(a), resolve_zoo(b)
    fields = differing_fields(first.to_json(), second.to_json())
    models = differing_rows(first, second)
    if as_json:
        print_json(
            {
                "a": {"zoo": first.name, "run": first.run_id},
                "b": {"zoo": second.name, "run": second.run_id},
                "same_run": first.run_id == second.run_id,
                "fields": {path: {"a": ours, "b": theirs} for path, (ours, theirs) in fields.items()},
                "models": models,
            }
        )
        return
    for path, (ours, theirs) in fields.items():
        click.echo(f"{path}: {_short(ours)} | {_short(theirs)}")
    names = (first.name, second.name) if first.name != second.name else (a, b)
    same = "the same run" if first.run_id == second.run_id else "different runs"
    click.echo(f"{same}: {first.run_id[:8]} | {second.run_id[:8]}")
    click.echo(
        f"models: {models['equal']:,} equal, {models['changed']:,} with another row, {models['only_a']:,} only in "
        f"{names[0]}, {models['only_b']:,} only in {names[1]}"
    )


def differing_fields(ours: Any, theirs: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Values that differ, by dotted path; a missing field is None."""
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return {} if ours == theirs else {path: (ours, theirs)}
    fields: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*ours, *theirs]):
        fields |= differing_fields(ours.get(key), theirs.get(key), f"{path}.{key}" if path else key)
    return fields


def differing_rows(first: Zoo, second: Zoo) -> dict[str, int]:
    """Number of model indices with equal rows, with different rows, and in one zoo only."""
    ours, theirs = rows(first), rows(second)
    both = min(len(ours), len(theirs))
    equal = sum(a == b for a, b in zip(ours, theirs, strict=False))
    return {
        "equal": equal,
        "changed": both - equal,
        "only_a": len(ours) - both,
        "only_b": len(theirs) - both,
    }


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
