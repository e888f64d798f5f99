"""`zoo store export-raw` and `import-raw`: the reference's trees out and in."""

from pathlib import Path
from typing import Literal

import click

from ..errors import StorageUsageError
from ..formats.compression import CompressionName
from .options import (
    as_json,
    compression_option,
    opened,
    print_json,
    progress_bar,
    selection_options,
    store_option,
    version_option,
)


@click.command("export-raw")
@click.argument("zoo")
@click.argument("folder", type=click.Path(path_type=Path))
@version_option
@selection_options()
@click.option("--optimizer", is_flag=True, help="Optimizer states beside the newest checkpoints, where the run is.")
@click.option(
    "--indices",
    type=click.Choice(["plain", "module"]),
    default="plain",
    show_default=True,
    help="Layer numbers behind dropout: all models alike, for ModelDatasetBase; or as each one's torch module.",
)
@as_json
def export_raw(
    zoo: str,
    folder: Path,
    version: int | None,
    epochs: str | None,
    models: str | None,
    split: str | None,
    where: str | None,
    optimizer: bool,
    indices: Literal["plain", "module"],
    as_json: bool,
) -> None:
    """Write ZOO (STORE/zoos/NAME) as a tree of the reference into FOLDER; its ModelDatasetBase loads it unchanged."""
    from ..interchange.raw.export_tree import export_raw as write
    from ..zoo import open_zoo

    source = open_zoo(zoo, version)
    with progress_bar("states") as progress:
        found = write(
            source,
            folder,
            epochs=epochs,
            models=models,
            split=split,
            where=where,
            optimizer=optimizer,
            indices=indices,
            progress=progress,
        )
    if as_json:
        print_json({"zoo": source.name, "folder": str(folder), "models": found.num_models, "states": found.num_states})
        return
    click.echo(f"{folder}: {found.num_models:,} models, {found.num_states:,} checkpoints of {source.name}")


@click.command("import-raw")
@click.argument("tree", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the zoo; a tree that export-raw wrote has one.")
@store_option
@click.option("--dataset", help="E.g. mnist; default what folder and configs say.")
@click.option("--source", help="Where the tree is from, for the card.")
@click.option("--images", metavar="TRAIN,VAL,TEST", help="Images that accuracies are fractions of, if not the usual.")
@click.option(
    "--split-rule",
    type=click.Choice(["hash", "reference"]),
    default="hash",
    show_default=True,
    help="Train, val and test models by a hash, or by the reference's shuffle of all in their order.",
)
@click.option(
    "--splits",
    "splits_file",
    metavar="FILE.pt",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A preprocessed data set of the reference: models get the splits that it has them in.",
)
@click.option("--parent", metavar="ZOO", help="Of sparsified models: the zoo of this store that they come from.")
@compression_option
@as_json
def import_raw(
    tree: Path,
    name: str | None,
    store_url: str | None,
    dataset: str | None,
    source: str | None,
    images: str | None,
    split_rule: Literal["hash", "reference"],
    splits_file: Path | None,
    parent: str | None,
    compression: CompressionName | None,
    as_json: bool,
) -> None:
    """Publish the models of a TREE of the reference as a zoo. What cannot be read is named, model by model."""
    from ..formats.splits import SplitRule
    from ..interchange.raw.import_tree import import_raw as read
    from ..interchange.raw.split_file import read_splits

    counts = _counts(images)
    store = opened(store_url)
    with progress_bar("states") as progress:
        found = read(
            tree,
            store,
            name,
            dataset=dataset,
            source=source,
            images=counts,
            split=SplitRule(kind=split_rule),
            splits=None if splits_file is None else read_splits(splits_file),
            parent=parent,
            compression=compression,
            progress=progress,
        )
    version, manifest = found.version, found.version.manifest
    url = f"{(store_url or '').rstrip('/')}/zoos/{version.zoo}"
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
                **found.findings.to_json(),
            }
        )
        return
    for line in found.findings.lines():
        click.echo(line, err=True)
    said = "" if version.new else " (nothing new)"
    click.echo(f"{url} version {version.number}: {manifest.describe()}, {manifest.num_states:,} states{said}")


RAW_VERBS = (export_raw, import_raw)


def _counts(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    pieces = text.split(",")
    if len(pieces) != 3 or not all(piece.strip().isdigit() for piece in pieces):
        raise StorageUsageError(f"--images {text}: expected three counts, e.g. 50000,10000,10000 (0 for none)")
    train, val, test = (int(piece) for piece in pieces)
    return train, val, test
