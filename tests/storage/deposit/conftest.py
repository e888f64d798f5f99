"""The zoo that is published, and a cache of mlcroissant for each test session."""

import os

import pytest

from tests.support.synthetic import RUN, description, train
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo


@pytest.fixture(autouse=True, scope="session")
def croissant_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """mlcroissant reads the variable when it is imported, and finds an unpacked archive again by its name alone."""
    os.environ["CROISSANT_CACHE"] = str(tmp_path_factory.mktemp("croissant"))


@pytest.fixture
def zoo(memory: ObjectStore) -> Zoo:
    """Six models to epoch 3, of which its plan has two epochs."""
    train(memory, range(6), 3)
    vectorize(memory, description(num_models=6, num_epochs=2), RUN)
    return open_zoo(f"{memory.url}/zoos/tiny-zoo")
