"""`zoo verify`: recomputes labels of a published zoo."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..catalogue.in_store import Imported
from ..errors import ZooError
from ..spec.own_code import check_allowed
from ..spec.twins import Zoo
from .options import allow_code_option, json_option, print_json
from .working import open_existing_store, resolve, zoo_and_store

if TYPE_CHECKING:
    from ..publishing.recompute import Check


@click.command("verify")
@zoo_and_store
@click.option("--states", type=click.IntRange(1), default=20, show_default=True, help="States to evaluate again.")
@click.option("--deep", is_flag=True, help="Train a sample of models again and compare bits.")
@click.option("--deep-models", type=click.IntRange(1), default=2, show_default=True, help="Models to train again.")
@allow_code_option
@json_option
def command(name: str, store: str, states: int, deep: bool, deep_models: int, allow_code: bool, as_json: bool) -> int:
    """Evaluate a sample of published states on the test images and compare with their labels."""
    from ..publishing.recompute import Check, recompute, retrain

    opened = open_existing_store(store)
    try:
        zoo: Zoo | None = resolve(name, opened, allow_code=allow_code)
    except Imported:
        zoo = None
    if zoo is not None:
        check_allowed(zoo.name, zoo.root.architecture, allow_code)
    shown = name if zoo is None else zoo.name
    checks = recompute(store, zoo or name, states, opened)
    if deep and zoo is not None:
        checks += retrain(opened, store, zoo, deep_models)
    elif deep:
        checks.append(Check(-1, -1, "not recomputed", f"{name} was imported: no spec says how to train it again"))
    if as_json:
        print_json({"zoo": shown, "checks": [asdict(check) for check in checks]})
    else:
        for line in lines(shown, checks):
            click.echo(line)
    return 1 if any(check.outcome == "differs" for check in checks) else 0


def lines(name: str, checks: "list[Check]") -> list[str]:
    """A line of counts, then a line for each check that is not equal."""
    counts = Counter(check.outcome for check in checks)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    odd = [
        f"  model {check.model}, epoch {check.epoch}: {check.detail}" if check.model >= 0 else f"  {check.detail}"
        for check in checks
        if check.outcome in ("differs", "not recomputed")
    ]
    return [f"{name}: {len(checks)} check{'s' if len(checks) != 1 else ''}, {said}", *odd]


class NotWhatItSays(ZooError):
    """Published states do not have the labels that were published with them."""
