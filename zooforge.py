"""Read model zoos: ``zooforge.open_zoo(url)``. Nothing heavy is imported until something is opened."""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.dataset import Zoo

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
        storage.errors.StorageError: one line that says what is wrong and what to do.
    """
    zoo: Zoo = _storage("dataset").open_zoo(url, version, cache=cache, cache_bytes=cache_bytes)
    return zoo


def main() -> int:
    """The command `zoo`. Installed without a clone it has the one verb `store`."""
    if importlib.util.find_spec("zoo_jobs") is not None:
        return int(importlib.import_module("zoo_jobs.cli").main())
    return int(_storage("cli").main(sys.argv[1:]))


def _storage(module: str) -> Any:
    """A module of the storage room: inside this package in the readers' wheel, beside this file in a clone."""
    inside = __spec__ is not None and __spec__.submodule_search_locations is not None
    return importlib.import_module(f"zooforge.storage.{module}" if inside else f"storage.{module}")
