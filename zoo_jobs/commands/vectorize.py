"""`zoo vectorize`: publishes the trained models."""

import click

from zooforge.storage.commands.options import compression_option
from zooforge.storage.formats.compression import CompressionName

from ..planning.units import request
from ..publishing.images import check_licence, encoded_images, image_splits
from ..publishing.publish import publish, sentence
from ..publishing.twin_start import starts_apart
from .options import epochs_option, json_option, models_option, print_json
from .working import open_existing_store, resolve, zoo_and_store


@click.command("vectorize")
@zoo_and_store
@models_option
@epochs_option
@compression_option
@click.option(
    "--images",
    metavar="SPLITS",
    help="Publish the images that the models saw too: splits by commas, e.g. val,test. Later versions keep them.",
)
@json_option
def command(
    name: str,
    store: str,
    models: str | None,
    epochs: int | None,
    compression: CompressionName | None,
    images: str | None,
    as_json: bool,
) -> None:
    """Publish a version: shards, labels, splits, manifest. A partial zoo is marked as such; a version never shrinks."""
    opened = open_existing_store(store)
    zoo = resolve(name, opened)
    wanted = request(zoo, models, epochs) if models or epochs is not None else None
    pictures = None
    if images is not None:
        check_licence(zoo.root)
        pictures = encoded_images(zoo.root, image_splits(images, "--images"))[0]
    version = publish(opened, zoo, wanted, compression, pictures)
    if (apart := starts_apart(store, zoo)) is not None:
        click.echo(apart, err=True)
    if as_json:
        print_json(
            {
                "zoo": zoo.name,
                "version": version.number,
                "new": version.new,
                "compression": "none" if version.manifest.compression is None else version.manifest.compression.codec,
                "manifest_sha256": version.manifest_sha256,
            }
        )
    else:
        click.echo(sentence(version))
