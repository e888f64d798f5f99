"""All zoos of the catalogue together: few objects, planned quickly."""

from zooforge.storage.formats.shards import shard_shape
from zooforge.zoo_jobs.catalogue.entries import load, names
from zooforge.zoo_jobs.planning.estimate import VERSION_OBJECTS
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec.zoo import ZooSpec

TABLES = 2  # labels and models, in addition to the copies in a version


def test_the_published_cnn_zoos_are_at_most_two_thousand_objects() -> None:
    zoos = [
        z for name in names() if isinstance(z := load(name), ZooSpec) and z.reference and z.architecture != "resnet18"
    ]
    assert len(zoos) >= 24
    total = 0
    for zoo in zoos:
        described = describe(zoo)
        models, epochs = shard_shape(described.shard_shape, described.layout.size)
        shards = -(-described.num_models // models) * -(-(zoo.num_epochs + 1) // epochs)
        total += shards + TABLES + VERSION_OBJECTS
    assert total <= 2000
