"""`zoo slurm`: writes the script that trains a zoo on a Slurm cluster."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from zooforge.storage.runs.run_files import read_control, want_run

from ..catalogue.in_store import check_not_removing
from ..engines.choose import ENGINES
from ..errors import InputError
from ..planning.estimate import epoch_seconds_per_model
from ..planning.machines import machine
from ..planning.units import work_units
from ..running.claims import PIECE_MODELS, claims_of
from ..running.slurm import NOTICE_SECONDS, Array, script
from ..spec.own_code import check_allowed
from .options import allow_code_option, asked_stages, check_twins, epochs_option, models_option, twins_options
from .working import grown_zoo, open_store, resolve, zoo_and_store

MOST_TASKS = 64


@click.command("slurm")
@zoo_and_store
@models_option
@epochs_option
@twins_options
@click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto", show_default=True)
@allow_code_option
@click.option("--tasks", type=click.IntRange(1), help="Of the array; default: one per 32 models, at most 64.")
@click.option("--at-once", type=click.IntRange(1), help="Most tasks that run at once; default: Slurm decides.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="Cores per task; each is a slot.")
@click.option("--memory", default="4G", show_default=True, help="Per task, as sbatch takes it.")
@click.option(
    "--time", default="04:00:00", show_default=True, help="Of one task, as sbatch takes it; later tasks resume."
)
@click.option("--partition", help="As sbatch takes it.")
@click.option("--account", help="As sbatch takes it.")
@click.option("--sbatch", "extra", multiple=True, metavar="OPTION", help="Another option of sbatch; may be repeated.")
@click.option(
    "--container", metavar="FILE", help="Apptainer image to run in, or docker://...; see docs/how-to/slurm.md."
)
@click.option("--zoo", "zoo_command", default="zoo", show_default=True, help="How the nodes call zoo.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: stdout.")
def command(
    name: str,
    store: str,
    models: str | None,
    epochs: int | None,
    twin_epochs: int | None,
    no_twins: bool,
    engine: str,
    out: Path | None,
    zoo_command: str,
    container: str | None,
    tasks: int | None,
    at_once: int | None,
    extra: tuple[str, ...],
    allow_code: bool,
    **asked: Any,
) -> None:
    """Write an sbatch array that runs a zoo. Tasks share the store, resume after preemption, and need no Ray.

    A run that was stopped may run again from now on.
    """
    check_twins(twin_epochs, no_twins)
    for option in extra:
        if not re.fullmatch(r"--[ -~]+", option) or option.startswith(("--array", "--signal")):
            raise InputError(f"--sbatch {option}: expected another option of sbatch, such as --sbatch=--qos=low")
    for key in ("memory", "time", "partition", "account"):
        if asked[key] is not None and not re.fullmatch(r"[\w.,:+@-]+", asked[key]):
            raise InputError(f"--{key} {asked[key]!r}: sbatch takes no such value")
    if container is not None and "://" not in container and not Path(container).exists():
        raise InputError(f"--container {container}: no such image; docs/how-to/slurm.md says how to build it")
    opened = open_store(store)
    zoo = grown_zoo(resolve(name, opened, allow_code=allow_code))
    check_allowed(zoo.name, zoo.architecture, allow_code)
    stages = asked_stages(zoo, models, epochs, twin_epochs, no_twins)
    wanted = stages[0][1]
    covered = {claim for model, claim in claims_of(work_units(zoo), bitwise=True).items() if model in wanted.models}
    where = unquote(urlsplit(opened.url).path) if opened.url.startswith("file:") else store
    spec = str(Path(name).absolute()) if name.endswith((".yaml", ".yml")) else name
    options = {"--models": models, "--epochs": epochs, "--twin-epochs": twin_epochs}
    arguments = ["run", spec, "--store", where, *(["--engine", engine] if engine != "auto" else [])]
    arguments += [word for key, value in options.items() if value is not None for word in (key, str(value))]
    arguments += [*(["--no-twins"] if no_twins else []), *(["--allow-code"] if allow_code else [])]
    binds = [] if "://" in where else [where]
    binds += [str(Path(spec).parent)] if spec != name or Path(spec).is_absolute() else []
    array = Array(
        name=zoo.name,
        tasks=min(tasks or MOST_TASKS, len(covered)),
        most=at_once,
        extra=extra,
        container=container,
        binds=tuple(binds),
        **asked,
    )
    made_by = " ".join(shlex.join(["zoo", *sys.argv[1:]]).split())
    text = script(array, arguments, made_by, shlex.split(zoo_command))
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
        out.chmod(0o755)
    for stage, _ in stages:
        control = read_control(opened, stage.run_id)
        check_not_removing(opened, stage, control)
        if control is not None and control.wanted == "stopped":
            if want_run(opened, stage.run_id, control.request, control) is not None:
                raise InputError(
                    f"{stage.name} was stopped meanwhile by another user; run this command again to continue"
                )
            click.echo(f"{stage.name} was stopped ({control.reason or 'by hand'}) and is wanted again", err=True)
    if tasks is not None and tasks > len(covered):
        click.echo(f"{len(covered)} tasks are enough: a task takes up to {PIECE_MODELS} models at a time", err=True)
    seconds = epoch_seconds_per_model(zoo, machine())
    if seconds is not None and (piece := seconds * min(PIECE_MODELS, len(wanted.models))) > NOTICE_SECONDS - 30:
        click.echo(
            f"an epoch of {PIECE_MODELS} models takes about {piece:.0f} s on {machine().name}, and a task that has to "
            f"leave gets {NOTICE_SECONDS - 30} s: it then loses the epoch that it is at",
            err=True,
        )
    if out is not None:
        click.echo(f"sbatch {out}", err=True)
