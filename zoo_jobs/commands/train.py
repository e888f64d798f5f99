"""`zoo train`: trains a zoo."""

from typing import Any

import click

from ..errors import InputError
from ..planning.units import request
from ..spec.epochs import MAX_EPOCH, EpochSet
from .options import epochs_option, models_option, set_options
from .working import at_work, end, grown_zoo, open_store, resolve, work_options, zoo_and_store


@click.command("train")
@zoo_and_store
@models_option
@epochs_option
@click.option(
    "--refill", metavar="EPOCHS", help="Train again to keep the weights of epochs that were not kept: 7 or 21:26."
)
@set_options
@work_options
def command(
    name: str,
    store: str,
    models: str | None,
    epochs: int | None,
    refill: str | None,
    settings: tuple[str, ...],
    new_name: str | None,
    **values: Any,
) -> int:
    """Train models A to B - 1 to epoch N. Every epoch is committed; epochs in the store are not trained again."""
    zoo = grown_zoo(resolve(name, open_store(store), settings, new_name, values["allow_code"]))
    wanted = request(zoo, models, epochs)
    refilled = _epochs(refill)
    with at_work(store, values, [(zoo, wanted)]) as work:
        finished = work.grow(zoo, wanted, refilled)
    for result in work.results:
        click.echo(result.sentence, err=True)
    return end(finished, zoo.name, work.reason)


def _epochs(text: str | None) -> frozenset[int]:
    """The epochs of ``--refill``. Raises InputError."""
    if text is None:
        return frozenset()
    try:
        chosen = EpochSet.parse([int(part) if part.strip().isdigit() else part.strip() for part in text.split(",")])
    except ValueError as error:
        raise InputError(f"--refill {text}: {error}") from None
    return frozenset(chosen.below(MAX_EPOCH))
