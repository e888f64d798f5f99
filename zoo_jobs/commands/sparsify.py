"""`zoo sparsify`: trains the sparse twins of a zoo."""

from typing import Any, get_args

import click

from ..errors import InputError
from ..planning.units import request
from ..spec.blocks import SparsifyMethod, SparsifySpec
from ..spec.twins import TwinSpec, twins_of
from ..spec.zoo import ZooSpec
from .options import models_option, set_options
from .working import at_work, end, open_store, resolve, work_options, zoo_and_store


@click.command("sparsify")
@zoo_and_store
@models_option
@click.option("--epochs", type=int, metavar="N", help="Epoch of the source models; default: the zoo's last.")
@click.option("--twin-epochs", type=int, metavar="N", help="Epochs of sparsification; default: the zoo's own, else 25.")
@click.option("--method", type=click.Choice(get_args(SparsifyMethod)), help="Default: the zoo's own.")
@click.option("--sparsity", type=click.IntRange(1, 99), help="Percent of the weights, for magnitude pruning.")
@set_options
@work_options
def command(
    name: str,
    store: str,
    models: str | None,
    epochs: int | None,
    twin_epochs: int | None,
    method: str | None,
    sparsity: int | None,
    settings: tuple[str, ...],
    new_name: str | None,
    **values: Any,
) -> int:
    """Sparsify the models of a zoo at one of its epochs. The twins are another zoo, named NAME-vd."""
    zoo = resolve(name, open_store(store), settings, new_name, values["allow_code"])
    if isinstance(zoo, TwinSpec) and (method or sparsity or epochs is not None):
        raise InputError(
            f"{zoo.name} are twins already: method, sparsity and source epoch are in the name; "
            f"leave them out, or name {zoo.parent.name}"
        )
    twins = zoo if isinstance(zoo, TwinSpec) else chosen_twins(zoo, method, sparsity, epochs)
    wanted = request(twins, models, twin_epochs)
    with at_work(store, values, [(twins, wanted)]) as work:
        finished = work.grow(twins, wanted)
    for result in work.results:
        click.echo(result.sentence, err=True)
    return end(finished, twins.name, work.reason)


def chosen_twins(zoo: ZooSpec, method: str | None, sparsity: int | None, epochs: int | None) -> TwinSpec:
    """The twins of a command line. Raises InputError: its options contradict each other."""
    if (method == "magnitude") != (sparsity is not None) and (method or sparsity):
        raise InputError("--sparsity PERCENT belongs to --method magnitude, and is required there")
    sparsify = None
    if method is not None and not (zoo.sparsify and zoo.sparsify.method == method and sparsity is None):
        value = {"method": method} | ({"sparsity_ratio": sparsity / 100} if sparsity else {})
        sparsify = SparsifySpec.model_validate(value)
    return twins_of(zoo, sparsify, epochs)
