"""`zoo data`: the image data sets that zoos train on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from zooforge.storage.stores.open import open_store

from ..data.mirror import Mirror, mirror
from ..data.own import ImageFile, OwnImages
from ..data.own_values import add, added, check_name, keep, kept, read_file, send_values
from ..data.registry import DATASETS, dataset_entry
from ..data.sources import Folder, Internet, Origin, Progress, default_cache, fetch, is_present, source_folder
from ..data.sources import verified_files as verify
from ..errors import InputError
from ..publishing.describe import image_facts
from ..publishing.images import encoded_images, image_splits
from ..quantities import size
from ..spec.blocks import validated
from .options import json_option, print_json, resolve_zoo
from .working import store_option

_DATASETS = click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")


@click.group("data")
def command() -> None:
    """List, fetch, add, mirror and verify datasets. Files are kept in $ZOO_CACHE or the user's cache folder."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The datasets of the catalogue, their licences, and which are on this machine; then those of `zoo data add`."""
    cache = default_cache()
    rows = [_row(name, cache) for name in DATASETS]
    rows += [_own_row(name, facts, cache) for name, facts in added(cache).items()]
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


@command.command("add")
@click.argument("name")
@click.option("--npz", metavar="FILE", help="Arrays images, labels, and perhaps test_images, test_labels.")
@click.option("--folder", metavar="DIR", help="A folder of PNG or JPEG pictures per class.")
@click.option("--test-folder", metavar="DIR", help="Pictures of the test set, in folders of the same names.")
@click.option("--num-classes", type=int, help="Of --npz; default: the largest label plus 1.")
@json_option
def add_(name: str, as_json: bool, **source: Any) -> None:
    """Read images of your own and keep them in the cache as NAME, for `dataset: NAME` in specs."""
    chosen = validated(ImageFile, source, "zoo data add")
    facts, raw = read_file(chosen, Path(), default_cache())
    check_name(name, facts, default_cache())
    keep(facts, raw, default_cache(), chosen, Path())
    add(name, facts, default_cache())
    if as_json:
        print_json({"dataset": name, **facts.model_dump(mode="json")})
        return
    test = f", {facts.num_test:,} to test" if facts.num_test else ""
    click.echo(
        f"{name}: {facts.name}, {facts.num_images:,} images{test}, {facts.image_size} x {facts.image_size} x "
        f"{facts.channels}, {facts.num_classes} classes"
    )
    for label, class_name in enumerate(facts.class_names or ()):
        click.echo(f"  label {label:3}  {class_name}")


@command.command("export")
@click.argument("name", metavar="NAME")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--splits", default="val,test", show_default=True, help="Of the images, by commas: train, val, test.")
def export_(name: str, file: Path, splits: str) -> None:
    """Write the images that the networks of zoo NAME saw, with labels, into FILE; `zoo.images(split, FILE)` reads it.

    NAME is a zoo of the catalogue or a spec. `zoo vectorize NAME --images` publishes the same images with the zoo, for
    data sets whose licence allows that.
    """
    chosen = image_splits(splits, "--splits")
    if file.expanduser().exists():
        raise InputError(f"{file} exists already; name a file that does not exist yet")
    spec = resolve_zoo(name).root
    encoded, counts = encoded_images(spec, chosen)
    try:
        file.expanduser().write_bytes(encoded)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None
    facts = image_facts(spec)
    shown = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    click.echo(f"{file}: {shown} images of {facts['dataset']}, {size(len(encoded))}; licence: {facts['licence']}")


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
    """Copy the files of DATASET into a store once, so that workers never ask the internet.

    A name of `zoo data add` copies the values of those images, and makes a cluster independent of this machine.
    """
    cache = default_cache()
    own = added(cache)
    _known(tuple(dataset for dataset in datasets if dataset not in own))
    opened = open_store(store)
    for dataset in datasets:
        if dataset in own:
            sent = send_values(own[dataset], cache, opened)
        else:
            sent = mirror(opened, dataset, source_folder(cache, dataset))
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


def _own_row(name: str, facts: OwnImages, cache: Path) -> dict[str, Any]:
    pixels = facts.channels * facts.image_size**2
    return {
        "dataset": name,
        "description": facts.name,
        "num_images": facts.num_images,
        "num_test": facts.num_test,
        "image_size": facts.image_size,
        "channels": facts.channels,
        "num_classes": facts.num_classes,
        "bytes": (facts.num_images + (facts.num_test or 0)) * (pixels + 1),
        "licence": "yours",
        "home": None,
        "package": None,
        "state": "here" if kept(facts, cache) is not None else "missing",
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
