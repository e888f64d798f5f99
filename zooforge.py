"""Read model zoos: ``zooforge.open_zoo(url)``. NumPy, Arrow and torch are imported when something needs them.

This file is the package ``zooforge``, and the rooms ``storage``, ``zoo_jobs`` and ``cluster`` are its subpackages: they
lie beside this file in a clone and in the image, and inside the package in a wheel. Import them as
``zooforge.storage``, ``zooforge.zoo_jobs`` and ``zooforge.cluster``.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zooforge.storage.zoo import Zoo

if "__path__" not in globals():  # in a clone this is a module; in a wheel it is the package's __init__
    __path__ = [str(Path(__file__).parent)]

__version__ = "0.1.0"
__all__ = ["__version__", "example", "list_zoos", "open_zoo"]


def open_zoo(
    url: "str | os.PathLike[str]",
    version: int | None = None,
    *,
    cache: "str | os.PathLike[str] | None" = None,
    cache_bytes: int | None = None,
    progress: bool = True,
) -> "Zoo":
    """Open a published zoo.

    Args:
        url: ``STORE/zoos/NAME``, where STORE is a path, ``file://``, ``s3://bucket/prefix``, ``https://`` or
            ``hf://OWNER/NAME``, a data set on the Hugging Face Hub.
        version: number of the version; None opens the current one.
        cache: folder that keeps what was read from a remote store; None: ``$ZOOFORGE_CACHE``, or no cache.
        cache_bytes: limit on the size of that folder; what was unused for longest is deleted first.
        progress: draw a bar on stderr, if that is a terminal, while more than 100 MB are read.

    Raises:
        zooforge.storage.errors.StorageError: one line that says what is wrong and what to do.
    """
    from zooforge.storage.zoo import open_zoo

    return open_zoo(url, version, cache=cache, cache_bytes=cache_bytes, progress=progress)


def example(*, twins: bool = False) -> "Zoo":
    """A small real zoo that comes with the package, so that no network is needed.

    It has 16 CNNs of 2,464 weights at epochs 0 to 4, trained on 1,257 digits of 8 x 8 pixels to a test accuracy of 0.85
    to 0.95.

    Args:
        twins: open the zoo of their sparsified twins instead, at epoch 2; 36 to 63 % of their weights are zero.
    """
    from zooforge.storage.zoo import example

    return example(twins)


def list_zoos(url: "str | os.PathLike[str]") -> list[str]:
    """Names of the zoos that a store has published, sorted.

    Args:
        url: a store: a path, ``file://`` or ``s3://bucket/prefix``. Web addresses cannot be listed.

    Raises:
        zooforge.storage.errors.StorageError: one line that says what is wrong and what to do.
    """
    from zooforge.storage.zoo import list_zoos

    return list_zoos(url)


def main() -> int:
    """The command `zoo`. A verb that needs more than this installation has says which extra brings it."""
    from zooforge.zoo_jobs.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
