"""`zoo site`: static pages of the zoos of a store."""

from pathlib import Path

import click

from ..errors import InputError
from .options import json_option, print_json
from .working import open_existing_store


@click.command("site")
@click.argument("store", metavar="STORE")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--url", "address", metavar="URL", help="The store as readers reach it, for the code on the pages; default: STORE."
)
@json_option
def command(store: str, folder: Path, address: str | None, as_json: bool) -> None:
    """Write DIR/index.html and DIR/ZOO/index.html for each published zoo of STORE: counts, charts, a contact sheet, and
    code that loads the zoo. The pages load nothing from elsewhere."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file is there; name a folder")
    from ..site.site import write_site

    site = write_site(open_existing_store(store), store, folder, address)
    if as_json:
        print_json(site.to_json())
        return
    click.echo(f"{len(site.pages)} zoo{'s' if len(site.pages) > 1 else ''}: {site.index}")
    for name in site.left_out:
        click.echo(f"{name}: no page, since no version of it is published", err=True)
