"""`zoo report`: one page about a published zoo."""

from pathlib import Path

import click

from .options import FOLDER, json_option, print_json
from .working import open_existing_store, zoo_and_store


@click.command("report")
@zoo_and_store
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Where page and PNGs go.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="Default: the current version.")
@click.option("--no-run", is_flag=True, help="Leave out the run's history; equal zoos then give equal bytes.")
@json_option
def command(name: str, store: str, out: Path, version: int | None, no_run: bool, as_json: bool) -> None:
    """Write DIR/index.html, a single file with everything in it, and the same charts as PNG files."""
    from ..report.page import write_report
    from ..report.read import read_accounts, read_contents

    opened = open_existing_store(store)
    contents = read_contents(opened, store, name, version)
    if not no_run:
        contents = read_accounts(opened, contents)
    written = write_report(contents, out)
    if as_json:
        print_json(written.to_json())
    else:
        click.echo(f"{written.extent}: {written.page}")
