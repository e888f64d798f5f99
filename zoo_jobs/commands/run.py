"""`zoo run`: trains, sparsifies, publishes and verifies a zoo."""

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
    """End a process that has nothing to train, because others train the units; the last one publishes the zoo."""
    sys.stderr.write(f"{name}: what is missing is being made by others, who also publish it\n")
    return 0


def report_verification(verification: Verification) -> None:
    """Print the verification of a new version. Raises NotWhatItSays if it has problems, which are printed before."""
    for problem in verification.problems:
        click.echo(f"  {problem}")
    if not verification.ok:
        count = len(verification.problems)
        raise NotWhatItSays(
            f"{verification.zoo} version {verification.version}: {count} problem(s) in what was written; see above"
        )
    click.echo(
        f"{verification.zoo}: {size(verification.num_bytes)} read back, {verification.num_states:,} states, all good"
    )


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
    """Train, sparsify, vectorize and verify a zoo. After an interruption the same command resumes."""
    check_twins(twin_epochs, no_twins)
    opened = open_store(store)
    zoo = grown_zoo(resolve(name, opened, settings, new_name, values["allow_code"]))
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
                report_verification(read_back(work.store, store, stage))
        checks = {stage.name: recompute(store, stage, VERIFIED_STATES, opened) for stage, _ in stages}
        attach_report(work.trackers, work.store, store, zoo)
    for stage_name, stage_checks in checks.items():
        for line in lines(stage_name, stage_checks):
            click.echo(line)
    for result in work.results:
        click.echo(result.sentence)
    bad = [n for n, stage_checks in checks.items() if any(check.outcome == "differs" for check in stage_checks)]
    if bad:
        raise NotWhatItSays(f"{', '.join(bad)}: published states do not have the accuracy of their labels; see above")
    return 0
