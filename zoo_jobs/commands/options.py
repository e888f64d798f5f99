"""Options that verbs share; resolves their values and prints them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ..catalogue import entries
from ..errors import InputError
from ..planning.units import Request, request
from ..spec.grid import rows
from ..spec.overrides import with_overrides
from ..spec.twins import TwinSpec, Zoo, twins_of
from ..spec.zoo import ZooSpec

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)  # is made if it does not exist


def zoo_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the catalogue that begin so, for the shell."""
    return [name for name in entries.names() if name.startswith(incomplete)]


def models_option(function: F) -> F:
    """``--models A:B``: ``models``, a string or None."""
    return click.option("--models", metavar="A:B", help="Models A to B - 1; default: all of the zoo.")(function)


def epochs_option(function: F) -> F:
    """``--epochs N``: ``epochs``, an integer or None."""
    return click.option("--epochs", type=int, metavar="N", help="States 0 to N; default: the zoo's own.")(function)


def twins_options(function: F) -> F:
    """``--twin-epochs N`` and ``--no-twins``: ``twin_epochs``, an integer or None, and ``no_twins``."""
    function = click.option("--no-twins", is_flag=True, help="Make no sparse twins.")(function)
    return click.option(
        "--twin-epochs", type=int, metavar="N", help="Epochs of sparsification; default: the zoo's own."
    )(function)


def check_twins(twin_epochs: int | None, no_twins: bool) -> None:
    """Raises InputError: the two contradict each other."""
    if no_twins and twin_epochs is not None:
        raise InputError(f"--twin-epochs {twin_epochs} and --no-twins contradict each other; give one of them")


def asked_stages(
    zoo: ZooSpec, models: str | None, epochs: int | None, twin_epochs: int | None, no_twins: bool
) -> list[tuple[Zoo, Request]]:
    """The zoo and, if its spec has a ``sparsify:`` block, its twins, each with its request."""
    wanted = request(zoo, models, epochs)
    stages: list[tuple[Zoo, Request]] = [(zoo, wanted)]
    if zoo.sparsify is not None and not no_twins:
        twins = twins_of(zoo, source_epoch=wanted.num_epochs)
        stages.append((twins, request(twins, models, twin_epochs)))
    return stages


def json_option(function: F) -> F:
    """``--json``: ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")(function)


def set_options(function: F) -> F:
    """``--set key=value`` (repeated) and ``--name NAME``: ``settings``, a tuple of strings, and ``new_name``."""
    function = click.option("--name", "new_name", metavar="NAME", help="Name of the zoo that --set makes.")(function)
    return click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field of the spec; needs --name."
    )(function)


def allow_code_option(function: F) -> F:
    """``--allow-code``: ``allow_code``."""
    text = "Run the code that a spec has as its network. The code has all your rights."
    return click.option("--allow-code", is_flag=True, help=text)(function)


def resolve_zoo(name: str, settings: Sequence[str] = (), new_name: str | None = None, allow_code: bool = False) -> Zoo:
    """The zoo of a catalogue name, a twins' name, a reference name or a YAML path, with ``--set`` applied.

    Settings of twins change their parent. ``allow_code`` is as for ``entries.load_file``.
    """
    if new_name is not None and not settings:
        raise InputError(f"--name {new_name}: a name belongs to --set; nothing is changed without it")
    zoo = entries.resolve(name, allow_code)
    if not isinstance(zoo, TwinSpec):
        return with_overrides(zoo, settings, name=new_name)
    if not settings:
        return zoo
    parent = with_overrides(zoo.parent, settings, name=new_name)
    early = None if zoo.source_epoch == zoo.parent.num_epochs else zoo.source_epoch
    return twins_of(parent, zoo.sparsify, early)


def echo_request(zoo: Zoo, wanted: Request) -> None:
    """Print the resolved request on stderr, in one line."""
    models = f"models {wanted.models.start:,}:{wanted.models.stop:,} of {len(rows(zoo)):,}"
    click.echo(f"{zoo.name}: {models}, epochs 0 to {wanted.num_epochs}, run {zoo.run_id[:8]}", err=True)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))
