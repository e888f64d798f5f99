"""`zoo store import`, `import-raw` and `import-google`: publish what others wrote as a zoo of a store."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import StorageUsageError
from ..keys import zoo_url
from ..quantities import human_bytes
from ..read.progress import progress_bar
from ..stores.open import open_store
from .options import Command, as_json, compression_option, opened, print_json, store_option, version_option

if TYPE_CHECKING:
    from ..interchange.raw.import_tree import Imported


@click.command("import")
@click.argument("source")
@version_option
@store_option
@as_json
def import_zoo(source: str, version: int | None, store_url: str | None, as_json: bool) -> None:
    """Publish the zoo of SOURCE (STORE/zoos/NAME, or FILE.zip) in a store: the same manifest, every byte checked."""
    from ..interchange.copy_zoo import import_zoo as copy_zoo
    from ..zoo import open_zoo

    target = opened(store_url)
    zoo = open_zoo(_address_in_zip(source), version)
    with progress_bar("bytes", sum(ref.bytes for ref in zoo.manifest.refs)) as progress:
        copied = copy_zoo(zoo, target, progress=progress)
    url = zoo_url(store_url or "", zoo.name)
    if as_json:
        print_json(
            {
                "zoo": zoo.name,
                "url": url,
                "version": copied.number,
                "new": copied.new,
                "objects": copied.num_objects,
                "bytes": copied.num_bytes,
            }
        )
        return
    what = f"{copied.num_objects:,} objects, {human_bytes(copied.num_bytes)}" if copied.new else "nothing new"
    click.echo(f"{url} version {copied.number}: {zoo.manifest.describe()}; {what}")


def _address_in_zip(source: str) -> str:
    """The address of the only zoo in a zip file; any other address is returned unchanged."""
    from ..publish.head import list_zoos

    if not source.endswith(".zip"):
        return source
    names = list_zoos(open_store(source))
    if len(names) != 1:
        raise StorageUsageError(f"{source}: holds {len(names)} zoos ({', '.join(names)}); name one: {source}/zoos/NAME")
    return zoo_url(source, names[0])


def _source_options(what: str, dataset: str) -> Callable[[Command], Command]:
    """``--store``, ``--dataset``, ``--source``, ``--images``, ``--compression`` and ``--json``."""
    options = (
        store_option,
        click.option("--dataset", help=dataset),
        click.option("--source", help=f"Where the {what} comes from, for the card."),
        click.option("--images", metavar="TRAIN,VAL,TEST", help="Numbers of images that accuracies are fractions of."),
        compression_option,
        as_json,
    )

    def decorated(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


@click.command("import-raw")
@click.argument("tree", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the zoo; a tree that export-raw wrote has one.")
@_source_options("tree", "E.g. mnist; default: what the folder's name and the configs say.")
@click.option(
    "--split-rule",
    type=click.Choice(["hash", "reference"]),
    help="Train, val and test models by a hash (default), or by the reference's shuffle of all in their order.",
)
@click.option(
    "--splits",
    "splits_file",
    metavar="FILE.pt",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A preprocessed data set of the reference; models get the splits that it has them in.",
)
@click.option(
    "--first-checkpoint",
    type=click.Choice(["0", "1"]),
    help="Epoch of checkpoint_000000 where rows do not name their checkpoints; default: as most models have it.",
)
@click.option("--parent", metavar="ZOO", help="The zoo of the parents of sparsified models, in the same store.")
def import_raw(
    tree: Path,
    split_rule: Literal["hash", "reference"] | None,
    splits_file: Path | None,
    first_checkpoint: str | None,
    **values: Any,
) -> None:
    """Publish the models of a TREE of the reference as a zoo. Names each model that cannot be read, with the reason."""
    from ..formats.splits import SplitRule
    from ..interchange.raw.import_tree import import_raw as import_tree
    from ..interchange.raw.split_file import read_splits

    _publish(
        import_tree,
        tree,
        split=None if split_rule is None else SplitRule(kind=split_rule),
        splits=None if splits_file is None else read_splits(splits_file),
        first_checkpoint=None if first_checkpoint is None else int(first_checkpoint),
        **values,
    )


@click.command("import-google")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the zoo.")
@_source_options("matrix", "E.g. cifar10; default: what the tables say.")
def import_google(folder: Path, **values: Any) -> None:
    """Publish the matrix in FOLDER, in the format of Google's Small CNN Zoo, as a zoo. export-google writes it back."""
    from ..interchange.google_import import import_google as import_matrix

    _publish(import_matrix, folder, **values)


def _publish(
    import_folder: "Callable[..., Imported]",
    folder: Path,
    *,
    name: str | None,
    store_url: str | None,
    images: str | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Publish ``folder`` with ``import_folder``, and print the version and the findings."""
    counts = _image_counts(images)
    store = opened(store_url)
    with progress_bar("states") as progress:
        imported = import_folder(folder, store, name, images=counts, progress=progress, **values)
    _report(imported, store_url, as_json)


def _report(imported: "Imported", store_url: str | None, as_json: bool) -> None:
    """Print the version, and the findings about its source."""
    version, manifest = imported.version, imported.version.manifest
    url = zoo_url(store_url or "", version.zoo)
    if as_json:
        print_json(
            {
                "zoo": version.zoo,
                "url": url,
                "version": version.number,
                "new": version.new,
                "models": manifest.num_models,
                "states": manifest.num_states,
                "manifest_sha256": version.manifest_sha256,
                **imported.findings.to_json(),
            }
        )
        return
    for line in imported.findings.lines():
        click.echo(line, err=True)
    unchanged = "" if version.new else " (nothing new)"
    click.echo(f"{url} version {version.number}: {manifest.describe()}, {manifest.num_states:,} states{unchanged}")


IMPORT_VERBS: tuple[click.Command, ...] = (import_zoo, import_raw, import_google)


def _image_counts(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    pieces = text.split(",")
    if len(pieces) != 3 or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", piece) for piece in pieces):
        raise StorageUsageError(f"--images {text}: expected three counts, e.g. 50000,10000,10000 (0 for none)")
    train, val, test = (int(piece) for piece in pieces)
    return train, val, test
