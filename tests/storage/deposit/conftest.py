"""mlcroissant unpacks archives into a cache by their name, and reads the constant when it is first imported."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def croissant_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["CROISSANT_CACHE"] = str(tmp_path_factory.mktemp("croissant"))
