"""Imported zoos: finds their networks and images by the facts in the manifest."""

from zooforge.storage.zoo import Zoo as PublishedZoo

from ..catalogue import entries
from ..errors import InputError
from ..models.registry import Network
from ..spec.zoo import ZooSpec


def like(published: PublishedZoo) -> ZooSpec:
    """The zoo of the catalogue with the same network and the same images; its spec says how they were prepared.

    Raises:
        InputError: the catalogue has none.
    """
    manifest = published.manifest
    described = manifest.architecture
    counts = published.labels(columns=["test_count"])["test_count"].drop_null().unique().to_pylist()
    for spec in entries.load_all():
        if (
            (spec.dataset, spec.architecture_name) == (manifest.dataset, described["name"])
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
    """The network of a model of ``published``.

    Raises:
        InputError: its layout differs from that of ``spec``.
    """
    network = spec.network(activation, dropout_ratio > 0)
    if network.layout != published.layout:
        raise InputError(f"zoo {published.name!r}: its weights are not those of {spec.architecture_name}")
    return network
