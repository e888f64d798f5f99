"""`zoo data`: the image data sets that zoos train on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from zooforge.storage.stores.open import open_store

from ..data.mirror import Mirror, mirror
from ..data.registry import DATASETS, dataset_entry
from ..data.sources import Folder, Internet, Origin, Progress, default_cache, fetch, is_present, source_folder
from ..data.sources import verified_files as verify
from ..errors import InputError
from ..quantities import size
from .options import json_option, print_json
from .working import store_option

_DATASETS = click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")


@click.group("data")
def command() -> None:
    """List, fetch, mirror and verify datasets. Files lie under $ZOO_CACHE, else the user's cache folder."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The datasets of the catalogue, their licences, and which of them are on this machine."""
    cache = default_cache()
    rows = [_row(name, cache) for name in DATASETS]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        here = {"package": f"in package {row['package']}", "here": "here", "missing": "not here"}[row["state"]]
        images = f"{row['num_images'] + (row['num_test'] or 0):>7,}"
        shape = f"{row['image_size']}x{row['image_size']}x{row['channels']}"
        amount = "size not known" if row["bytes"] is None else size(row["bytes"])
        click.echo(f"{row['dataset']:<14} {images} images {shape:<8} {amount:>14}  {here:<22} {row['licence']}")


@command.command("fetch")
@_DATASETS
@click.option("--from", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Take files from a folder (e.g. of torchvision), as published, repacked or unpacked.")  # fmt: skip
@click.option("--store", metavar="URL", help="Copy from a store that `zoo data mirror` filled.")
def fetch_(datasets: tuple[str, ...], folder: Path | None, store: str | None) -> None:
    """Get every file of DATASET and check it; files that are here already are only checked."""
    if folder is not None and store is not None:
        raise InputError("--from and --store both say where files come from; give one")
    _known(datasets)
    cache = default_cache()
    with _progress() as progress:
        origin: Origin = Folder(folder) if folder else Mirror(open_store(store)) if store else Internet(progress)
        for dataset in datasets:
            for path in fetch(dataset, cache, origin):
                click.echo(str(path))


@command.command("verify")
@_DATASETS
def verify_(datasets: tuple[str, ...]) -> None:
    """Read every file of DATASET and compare it with the registry's checksums."""
    _known(datasets)
    for dataset in datasets:
        for name in verify(dataset, source_folder(default_cache(), dataset)):
            click.echo(f"{dataset}: {name} is the file of the registry")


@command.command("mirror")
@_DATASETS
@store_option
def mirror_(datasets: tuple[str, ...], store: str) -> None:
    """Copy the files of DATASET into a store once, so that workers never ask the internet."""
    _known(datasets)
    opened = open_store(store)
    for dataset in datasets:
        sent = mirror(opened, dataset, source_folder(default_cache(), dataset))
        click.echo(f"{dataset}: {size(sent)} sent to {store}" if sent else f"{dataset}: is in {store} already")


def _known(datasets: tuple[str, ...]) -> None:
    """Raises InputError for the first name that is no dataset, before any work."""
    for dataset in datasets:
        dataset_entry(dataset)


def _row(dataset: str, cache: Path) -> dict[str, Any]:
    entry = DATASETS[dataset]
    amounts = [file.bytes for file in entry.files]
    return {
        "dataset": dataset,
        "description": entry.description,
        "num_images": entry.num_images,
        "num_test": entry.num_test,
        "image_size": entry.image_size,
        "channels": entry.channels,
        "num_classes": entry.num_classes,
        "bytes": None if None in amounts else sum(n or 0 for n in amounts),
        "licence": entry.licence,
        "home": entry.home,
        "package": entry.files[0].package,
        "state": "package" if entry.is_packaged else "here" if is_present(dataset, cache) else "missing",
    }


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar per file on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show
