"""`zoo train`: grow a zoo."""

from typing import Any

import click

from ..plan import request
from .options import epochs_option, models_option, set_options
from .working import at_work, end, grown_zoo, open_store, resolve, store_option, work_options


@click.command("train")
@click.argument("name")
@store_option
@models_option
@epochs_option
@set_options
@work_options
def command(
    name: str,
    store: str,
    models: str | None,
    epochs: int | None,
    settings: tuple[str, ...],
    new_name: str | None,
    **values: Any,
) -> int:
    """Train models A to B - 1 to epoch N, every epoch committed. What the store has is not done again."""
    zoo = grown_zoo(resolve(name, open_store(store), settings, new_name))
    wanted = request(zoo, models, epochs)
    with at_work(store, values, [(zoo, wanted)]) as work:
        finished = work.grow(zoo, wanted)
    return end(finished, zoo.name)
