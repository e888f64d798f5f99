"""Read model zoos: ``zooforge.open_zoo(url)``. Nothing heavy is imported until something is opened.

This file is the package ``zooforge``, and the rooms ``storage``, ``zoo_jobs`` and ``cluster`` are its subpackages: they
lie beside this file in a clone and in the image, and inside the package in a wheel. Import them as
``zooforge.storage``, ``zooforge.zoo_jobs`` and ``zooforge.cluster``.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zooforge.storage.zoo import Zoo

if "__path__" not in globals():  # in a clone this is a module; in a wheel it is the package's __init__
    __path__ = [str(Path(__file__).parent)]

__version__ = "0.1.0"
__all__ = ["__version__", "open_zoo"]


def open_zoo(
    url: str, version: int | None = None, *, cache: str | None = None, cache_bytes: int | None = None
) -> "Zoo":
    """Open a published zoo.

    Args:
        url: where it is: ``STORE/zoos/NAME``, STORE being a path, ``file://``, ``s3://bucket/prefix``, ``https://`` or
            ``hf://OWNER/NAME``, a data set on the Hugging Face Hub.
        version: its number; None opens the current one.
        cache: folder for what was read from a remote store, by content; None: ZOOFORGE_CACHE, or no cache.
        cache_bytes: limit on that folder, longest unused out first.

    Raises:
        zooforge.storage.errors.StorageError: one line that says what is wrong and what to do.
    """
    from zooforge.storage.zoo import open_zoo

    return open_zoo(url, version, cache=cache, cache_bytes=cache_bytes)


def main() -> int:
    """The command `zoo`. A wheel for readers has no training room: there it has the one verb `store`."""
    if importlib.util.find_spec("zooforge.zoo_jobs") is not None:
        return int(importlib.import_module("zooforge.zoo_jobs.cli").main())
    from zooforge.storage.cli import main

    return main(sys.argv[1:])
