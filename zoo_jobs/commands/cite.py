"""`zoo cite`: how to cite a published zoo."""

import click

from zooforge.storage.keys import zoo_url
from zooforge.storage.publish.cards import RECORD, carried_files
from zooforge.storage.publish.papers import Credits, bibtex, credits_of, digest
from zooforge.storage.zoo import open_zoo

from .options import json_option, print_json
from .working import zoo_and_store


@click.command("cite")
@zoo_and_store
@click.option("--version", type=click.IntRange(1), metavar="N", help="Default: the current version.")
@click.option("--author", "authors", multiple=True, metavar="NAME", help="Default: those that it was published with.")
@click.option("--doi", metavar="DOI", default="", help="Default: the one that it was published with.")
@click.option("--year", type=click.IntRange(2000, 9999), help="Default: the year in which it was published.")
@json_option
def command(
    name: str, store: str, version: int | None, authors: tuple[str, ...], doi: str, year: int | None, as_json: bool
) -> None:
    """Print BibTeX of NAME; its note has the digest of the manifest, so that it names exactly these bytes."""
    zoo = open_zoo(zoo_url(store, name), version)
    papers = carried_files(zoo.store, zoo.name, zoo.version, (RECORD,))
    known = credits_of(papers.get(RECORD, b""))
    credits = Credits(authors or known.authors, year or known.year, doi or known.doi)
    text = bibtex(zoo.manifest, credits, zoo.version)
    if as_json:
        print_json({"zoo": zoo.name, "version": zoo.version, "manifest_sha256": digest(zoo.manifest), "bibtex": text})
        return
    click.echo(text, nl=False)
