"""`zoo run`: everything."""

import sys
from typing import Any

import click

from zooforge.storage.ops.verify import Verification

from ..publishing.publish import publish, read_back, sentence
from ..publishing.twin_start import starts_apart
from ..quantities import size
from .options import asked_stages, check_twins, epochs_option, models_option, set_options, twins_options
from .verify import NotWhatItSays, lines
from .working import at_work, end, grown_zoo, open_store, resolve, work_options, zoo_and_store

VERIFIED_STATES = 8


def left_to_others(name: str) -> int:
    """What a process says that finds every unit in the hands of others; whoever commits the last one publishes."""
    sys.stderr.write(f"{name}: what is missing is being made by others, who also publish it\n")
    return 0


def say(found: Verification) -> None:
    """Raises NotWhatItSays if what was read back is not what was written; every bad object was named before."""
    for problem in found.problems:
        click.echo(f"  {problem}")
    if not found.ok:
        count = len(found.problems)
        raise NotWhatItSays(f"{found.zoo} version {found.version}: {count} problem(s) in what was written; see above")
    click.echo(f"{found.zoo}: {size(found.num_bytes)} read back, {found.num_states:,} states, all good")


@click.command("run")
@zoo_and_store
@models_option
@epochs_option
@twins_options
@set_options
@work_options
def command(
    name: str,
    store: str,
    models: str | None,
    epochs: int | None,
    twin_epochs: int | None,
    no_twins: bool,
    settings: tuple[str, ...],
    new_name: str | None,
    **values: Any,
) -> int:
    """Train, sparsify, vectorize and verify a zoo. Everything done is kept; the same command goes on."""
    check_twins(twin_epochs, no_twins)
    zoo = grown_zoo(resolve(name, open_store(store), settings, new_name))
    stages = asked_stages(zoo, models, epochs, twin_epochs, no_twins)
    with at_work(store, values, stages) as work:
        from ..integrations.trackers import attach_report
        from ..publishing.recompute import recompute

        for stage, asked in stages:
            if not work.grow(stage, asked, wait=stage is not stages[-1][0]):
                return end(False, stage.name, work.reason) if work.notice.given else left_to_others(stage.name)
        for stage, asked in stages:
            version = publish(work.store, stage, asked)
            click.echo(sentence(version))
            if (apart := starts_apart(store, stage)) is not None:
                click.echo(apart, err=True)
            if version.new:
                say(read_back(work.store, store, stage))
        checks = {stage.name: recompute(store, stage, VERIFIED_STATES) for stage, _ in stages}
        attach_report(work.trackers, work.store, store, zoo)
    for stage_name, found in checks.items():
        for line in lines(stage_name, found):
            click.echo(line)
    for result in work.results:
        click.echo(result.sentence)
    bad = [n for n, found in checks.items() if any(check.outcome == "differs" for check in found)]
    if bad:
        raise NotWhatItSays(f"{', '.join(bad)}: published states do not have the accuracy of their labels; see above")
    return 0
