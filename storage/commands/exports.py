"""`zoo store export-google | export-sane | zip | publish | import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import StorageUsageError
from ..quantities import human_bytes
from ..stores.open import open_store
from .options import as_json, opened, print_json, progress_bar, selection_options, store_option, version_option

if TYPE_CHECKING:
    from ..zoo import Zoo


@click.command("export-google")
@click.argument("zoo")
@click.argument("folder")
@version_option
@selection_options()
@as_json
def export_google(zoo: str, folder: str, version: int | None, as_json: bool, **selection: Any) -> None:
    """Write ZOO (STORE/zoos/NAME) as weights.npy, metrics.csv.gz and layout.csv, like Google's Small CNN Zoo."""
    from ..interchange.google import export_google as export
    from ..zoo import open_zoo

    source = open_zoo(zoo, version)
    with progress_bar("states") as progress:
        found = export(source, Path(folder), **selection, progress=progress)
    if as_json:
        print_json({"folder": folder, "models": found.num_models, "shape": [found.num_states, found.num_values]})
        return
    click.echo(f"{folder}: weights.npy [{found.num_states:,}, {found.num_values:,}] of {found.num_models:,} models")


@click.command("export-sane")
@click.argument("zoo")
@click.argument("folder")
@version_option
@selection_options(split=False)
@click.option("--tokensize", "token_size", type=int, default=0, help="Values of a token; 0: the longest channel.")
@click.option("--windowsize", "window", type=int, default=0, help="Tokens of a sample; 0: all of a model.")
@click.option("--precision", type=click.Choice(["16", "32"]), default="32", help="Bits of a value.")
@click.option("--standardize/--raw", default=True, help="Per layer, fitted on the train split; default yes.")
@click.option("--align", is_flag=True, help="Hidden units in a canonical order.")
@as_json
def export_sane(zoo: str, folder: str, version: int | None, as_json: bool, **options: Any) -> None:
    """Write ZOO (STORE/zoos/NAME) as the samples that SANE's PreprocessedSamplingDataset reads, split by split."""
    from ..interchange.sane import export_sane as export
    from ..zoo import open_zoo

    source = open_zoo(zoo, version)
    with progress_bar("states") as progress:
        found = export(source, Path(folder), **options, progress=progress)
    if as_json:
        print_json(
            {
                "folder": folder,
                "samples": found.num_samples,
                "tokens": found.num_tokens,
                "tokensize": found.token_size,
                "left_out": found.num_left_out,
            }
        )
        return
    counts = ", ".join(f"{number:,} {split}" for split, number in found.num_samples.items())
    click.echo(f"{folder}: {counts} samples; {found.num_tokens:,} tokens of {found.token_size:,} values a model")
    if found.num_left_out:
        click.echo(f"{found.num_left_out:,} states are not finite and were left out", err=True)


@click.command("zip")
@click.argument("zoo")
@click.argument("file")
@version_option
@as_json
def zip_verb(zoo: str, file: str, version: int | None, as_json: bool) -> None:
    """Write ZOO (STORE/zoos/NAME) as one zip FILE; extracted into DIR it opens as DIR/zoos/NAME."""
    from ..interchange.zip import zip_zoo
    from ..zoo import open_zoo

    source = open_zoo(zoo, version)
    with progress_bar("bytes", _num_bytes(source)) as progress:
        found = zip_zoo(source, Path(file), progress=progress)
    if as_json:
        print_json({"file": file, "files": found.num_files, "bytes": found.num_bytes})
        return
    click.echo(f"{file}: {found.num_files:,} files, {human_bytes(found.num_bytes)}")


@click.command("publish")
@click.argument("zoo")
@click.option("--to", "folder", required=True, metavar="DIR", help="A folder that is not there yet.")
@click.option("--repo", "repository", metavar="OWNER/NAME", help="Name that the data set will have, for its card.")
@version_option
@as_json
def publish(zoo: str, folder: str, repository: str | None, version: int | None, as_json: bool) -> None:
    """Prepare ZOO (STORE/zoos/NAME) for the Hugging Face Hub, offline: card, Croissant metadata, tables, objects."""
    from ..interchange.hub_folder import prepare_hub
    from ..zoo import open_zoo

    source = open_zoo(zoo, version)
    with progress_bar("bytes", _num_bytes(source)) as progress:
        found = prepare_hub(source, Path(folder), repository=repository, progress=progress)
    target = repository or "OWNER/NAME"
    if as_json:
        address = f"hf://{target}/zoos/{source.name}"
        print_json({"folder": folder, "files": found.num_files, "bytes": found.num_bytes, "url": address})
        return
    click.echo(f"{folder}: {found.num_files:,} files, {human_bytes(found.num_bytes)}")
    click.echo(f"upload it: hf upload {target} {folder} . --repo-type dataset", err=True)


@click.command("import")
@click.argument("source")
@version_option
@store_option
@as_json
def import_zoo(source: str, version: int | None, store_url: str | None, as_json: bool) -> None:
    """Publish the zoo of SOURCE (STORE/zoos/NAME, or FILE.zip) in a store: the same manifest, every byte checked."""
    from ..interchange.copy_zoo import import_zoo as bring
    from ..zoo import open_zoo

    target = opened(store_url)
    zoo = open_zoo(_only_zoo(source), version)
    with progress_bar("bytes", _num_bytes(zoo)) as progress:
        found = bring(zoo, target, progress=progress)
    address = f"{(store_url or '').rstrip('/')}/zoos/{zoo.name}"
    if as_json:
        print_json(
            {
                "zoo": zoo.name,
                "url": address,
                "version": found.number,
                "new": found.new,
                "objects": found.num_objects,
                "bytes": found.num_bytes,
            }
        )
        return
    what = f"{found.num_objects:,} objects, {human_bytes(found.num_bytes)}" if found.new else "nothing new"
    click.echo(f"{address} version {found.number}: {zoo.manifest.describe()}; {what}")


def _only_zoo(source: str) -> str:
    """The address of the one zoo in a zip file; any other address as it is."""
    from ..publish.head import list_zoos

    if not source.endswith(".zip"):
        return source
    names = list_zoos(open_store(source))
    if len(names) != 1:
        raise StorageUsageError(f"{source}: holds {len(names)} zoos ({', '.join(names)}); name one: {source}/zoos/NAME")
    return f"{source}/zoos/{names[0]}"


def _num_bytes(zoo: "Zoo") -> int:
    return sum(ref.bytes for ref in zoo.manifest.refs)


EXPORT_VERBS: tuple[click.Command, ...] = (export_google, export_sane, zip_verb, publish, import_zoo)
