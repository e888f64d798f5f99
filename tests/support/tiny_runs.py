"""A zoo small enough for tests: the catalogue's CNN-s grid over sixty random images."""

import numpy as np

from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.twins import TwinSpec, twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

SPEC: ZooSpec = with_overrides(
    load("mnist5k-cnn-s"), ["split.train=60", "split.val=20", "split.test=20", "num_epochs=4"], name="tiny"
)
TWINS: TwinSpec = twins_of(SPEC, source_epoch=2)


def random_data(seed: int = 0) -> PreparedData:
    random = np.random.default_rng(seed)

    def split(count: int) -> Split:
        images = random.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
        return Split(images, random.integers(0, 10, count).astype(np.uint8))

    pixel_values = (np.arange(256, dtype=np.float32)[None] / 255 - 0.1307) / 0.3081
    return PreparedData("random", 10, pixel_values.astype(np.float32), split(60), split(20), split(20))


RUN = Run(SPEC)
