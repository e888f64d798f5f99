"""`zoo publish`: copies a published zoo, or a part of it, to a place where others can find it."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from zooforge.storage.commands.options import SELECTION
from zooforge.storage.deposit.parcel import Parcel, parcel_of, slice_of
from zooforge.storage.deposit.plan import Plan, estimate
from zooforge.storage.deposit.send import Target, target_of
from zooforge.storage.keys import zoo_url
from zooforge.storage.publish.papers import Credits
from zooforge.storage.read.progress import progress_bar
from zooforge.storage.zoo import Zoo, open_zoo

from ..data.registry import DATASETS
from ..report.figures import card_figures
from .options import json_option, print_json
from .working import zoo_and_store


@click.command("publish")
@zoo_and_store
@click.option(
    "--to", "address", required=True, metavar="TARGET", help="DIR, s3://…, hf:OWNER/NAME, zenodo or zenodo-sandbox."
)
@click.option("--version", type=click.IntRange(1), metavar="N", help="Default: the current version.")
@click.option("--author", "authors", multiple=True, metavar="NAME", help="'Family, Given' or a group; repeat for more.")
@click.option("--anonymous", is_flag=True, help="For review: no author, and none of the texts that people wrote.")
@click.option(
    "--images/--no-images", default=None, help="Publish the zoo's images; default: if their licence allows it."
)
@click.option(
    "--weights-table", is_flag=True, help="Add weights.parquet, the last state of each model, for load_dataset."
)
@click.option("--private", is_flag=True, help="Leave a new data set on the Hub private.")
@click.option("--yes", is_flag=True, help="On Zenodo: publish, for good; without, a draft is left there for you.")
@click.option("--dry-run", is_flag=True, help="Only say what would be uploaded.")
@json_option
def command(
    name: str,
    store: str,
    address: str,
    version: int | None,
    authors: tuple[str, ...],
    anonymous: bool,
    images: bool | None,
    weights_table: bool,
    private: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    epochs: str | None,
    models: str | None,
    split: str | None,
    where: str | None,
) -> None:
    """Publish NAME: its objects, a card, a citation, a licence, checksums, Croissant and DataCite metadata.

    It says first what it will upload. After a kill the same command continues. Every byte is read back.
    """
    target = target_of(address, private=private, publish_draft=yes)
    credits = Credits(authors, datetime.now(UTC).year, anonymous=anonymous)
    zoo = open_zoo(zoo_url(store, name), version)
    selection = (epochs, models, split, where)
    with TemporaryDirectory(prefix="zooforge-publish-") as folder:
        if selection != (None,) * 4:
            if dry_run:
                wanted = zoo.wanted(*selection)
                said(estimate(zoo.manifest, target.name, wanted, parcel(zoo, credits, images).left_out), as_json)
                if weights_table:
                    click.echo("zoo: weights.parquet is made from the part, so this estimate lacks it", err=True)
                return
            zoo = slice_of(zoo, Path(folder), *selection)
        packed = parcel(zoo, credits, images, weights_table)
        plan = target.plan(packed)
        said(plan, as_json and dry_run, err=not dry_run)
        if not dry_run:
            _send(target, packed, plan, as_json)


command.params[2:2] = [SELECTION[name] for name in ("epochs", "models", "split", "where")]


def parcel(zoo: Zoo, credits: Credits, images: bool | None, weights_table: bool = False) -> Parcel:
    """The content to publish. Without ``images``, the licence in the registry decides whether images are part of it."""
    entry = DATASETS.get(zoo.manifest.dataset)
    licence = "not known here" if entry is None else entry.licence
    allowed = entry is not None and entry.redistribute
    why_not = "--no-images" if images is False else f"licence of {zoo.manifest.dataset}: {licence}; --images overrides"
    source = "" if entry is None or credits.anonymous else f", {entry.home}"
    text = f"images of {zoo.manifest.dataset}{source}; their licence: {licence}"
    leave = allowed if images is None else images
    return parcel_of(
        zoo,
        credits,
        images=leave,
        images_licence=text,
        why_not=why_not,
        figures=card_figures(zoo),
        with_weights_table=weights_table,
    )


def said(plan: Plan, as_json: bool, err: bool = False) -> None:
    if as_json:
        print_json(plan.to_json())
        return
    for line in plan.lines():
        click.echo(line, err=err)


def _send(target: Target, packed: Parcel, plan: Plan, as_json: bool) -> None:
    with progress_bar("bytes", plan.num_bytes) as progress:
        published = target.publish(packed, progress)
    if packed.weights is not None and not published.new:
        click.echo("zoo: it was published before, and its files stay: no weights.parquet was added now", err=True)
    if as_json:
        print_json({"plan": plan.to_json(), **published.to_json()})
        return
    for line in published.lines():
        click.echo(line)
