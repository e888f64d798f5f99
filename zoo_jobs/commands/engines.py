"""`zoo engines`: the engines of this machine, and their speed."""

from dataclasses import asdict

import click

from ..engines.calibration import EngineReport, calibrate, calibration_program
from ..engines.choose import choose
from ..engines.gpu_driver import gpu_report
from ..quantities import size, table
from .options import json_option, print_json


@click.command("engines")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=4.0, show_default=True, help="To measure in, all together."
)
@json_option
def command(seconds: float, as_json: bool) -> None:
    """The engines of this machine: the measured rate of each or why it does not run, and which one `auto` picks.

    Rates are training samples per second of CNN-s with batches of 10 and Adam, all models of a chunk together, in one
    slot. Shares are of the peak that is measured too; they count every multiply-add of forward pass and gradients, also
    those with zeros that an engine skips. Memory is that of one more model.
    """
    gpu = gpu_report()
    reports = calibrate(seconds)
    choice = choose("auto", [calibration_program()])
    if as_json:
        print_json(
            {
                "gpu": asdict(gpu),
                "auto": {"engine": choice.engine.name, "why": choice.why},
                "engines": [{**asdict(report), "runs": report.reason is None} for report in reports],
            }
        )
        return
    lines = [["engine", "on", "models", "samples/s", "of peak", "per model"]]
    lines += [_line(report) for report in reports if report.reason is None]
    for line in table(lines, "<<>>>>"):
        click.echo(line)
    for report in reports:
        if report.reason is not None:
            click.echo(f"{report.name} does not run: {report.reason}")
    peaks = dict.fromkeys(f"{report.name}: {report.peak_of}" for report in reports if report.reason is None)
    click.echo(f"\npeak    {'; '.join(peaks)}")
    click.echo(f"GPU     {gpu.words}")
    click.echo(f"auto    {choice.engine.name}: {choice.why}")


def _line(report: EngineReport) -> list[str]:
    share = "" if report.peak_ratio is None else f"{100 * report.peak_ratio:.0f} %"
    memory = "" if report.bytes_per_model is None else size(report.bytes_per_model)
    rate = f"{report.samples_per_second:,.0f}"
    return [report.name, report.where, str(report.num_models), rate, share, memory]
