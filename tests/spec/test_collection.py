"""The collection as a whole: few objects, planned in no time."""

from storage.manifest import shard_shape
from zoo_jobs.catalogue import load, names
from zoo_jobs.describe import describe
from zoo_jobs.estimate import VERSION_OBJECTS
from zoo_jobs.spec import ZooSpec

TABLES = 2  # labels and models, beside the copies in a version


def test_the_published_cnn_zoos_are_at_most_two_thousand_objects() -> None:
    zoos = [
        z for name in names() if isinstance(z := load(name), ZooSpec) and z.reference and z.architecture != "resnet18"
    ]
    assert len(zoos) >= 24
    total = 0
    for zoo in zoos:
        described = describe(zoo)
        models, epochs = shard_shape(zoo.architecture, described.layout.size)
        shards = -(-described.num_models // models) * -(-(zoo.num_epochs + 1) // epochs)
        total += shards + TABLES + VERSION_OBJECTS
    assert total <= 2000
