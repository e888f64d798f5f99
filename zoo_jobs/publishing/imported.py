"""Zoos that were not grown here: what their models are, and which images they were tested on, by their manifest."""

from zooforge.storage.errors import KeyFormatError
from zooforge.storage.publish.head import read_head
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo as PublishedZoo

from ..catalogue import entries
from ..errors import InputError
from ..models.registry import Network
from ..spec.zoo import ZooSpec


def is_published(store: ObjectStore, name: str) -> bool:
    """Whether the store has a published zoo of this name, whoever grew it."""
    try:
        return read_head(store, name) is not None
    except KeyFormatError:
        return False


def like(published: PublishedZoo) -> ZooSpec:
    """The zoo of the catalogue that has the same network and the same images: how these were prepared is in its spec.

    Raises:
        InputError: the catalogue has none.
    """
    manifest = published.manifest
    described = manifest.architecture
    counts = published.labels(columns=["test_count"])["test_count"].drop_null().unique().to_pylist()
    for spec in entries.load_all():
        if (
            (spec.dataset, spec.architecture) == (manifest.dataset, described["name"])
            and (spec.in_channels, spec.image_size) == (described["in_channels"], described["image_size"])
            and spec.num_classes == described["num_classes"]
            and set(counts) <= {spec.num_test}
        ):
            return spec
    raise InputError(
        f"zoo {manifest.zoo!r} was imported, and the catalogue has no zoo of {described['name']} on {manifest.dataset} "
        "with as many test images, which would say how its images were prepared"
    )


def network_of(published: PublishedZoo, spec: ZooSpec, activation: str, dropout_ratio: float) -> Network:
    """The network of a model of ``published``. Raises InputError where it is not of the spec's."""
    network = spec.network(activation, dropout_ratio > 0)
    if network.layout != published.layout:
        raise InputError(f"zoo {published.name!r}: its weights are not those of {spec.architecture}")
    return network
