"""Options and output that the verbs of ``zoo store`` share."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..errors import StorageUsageError
from ..keys import zoo_url
from ..publish.head import split_zoo_url
from ..stores.open import open_existing_store, open_store
from ..stores.protocol import ObjectStore

Command = TypeVar("Command", bound=Callable[..., Any])

version_option = click.option("--version", type=int, help="Number of a version; default: the current one.")
as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


compression_option = click.option(
    "--compression",
    type=click.Choice(["none", "delta-zstd"]),
    help="Lossless compression of the shards, slower to read; default: as the spec or the current version has it.",
)


def store_option(command: Command) -> Command:
    """``--store URL``, by default ``$ZOO_STORE``."""
    text = "A path, file:///path, s3://bucket/prefix, https:// or hf://OWNER/NAME; default: $ZOO_STORE."
    return click.option("--store", "store_url", envvar="ZOO_STORE", metavar="URL", help=text)(command)


SELECTION = {
    "epochs": click.Option(["--epochs"], help="E.g. 50 or 0,21:26 (half-open)."),
    "models": click.Option(["--models"], help="As --epochs."),
    "split": click.Option(["--split"], type=click.Choice(["train", "val", "test"]), help="Models of one split."),
    "where": click.Option(["--where"], help="E.g. \"test_acc > 0.8 and optimizer == 'adam'\"."),
    "weight_threshold": click.Option(
        ["--weight-threshold"], type=float, metavar="X", help="Leave out states with a weight beyond X; says how many."
    ),
}
"""Options that choose states, by parameter."""


def opened(url: str | None, *, existing: bool = False) -> ObjectStore:
    """The store at ``url``. ``existing``: a folder that does not exist is refused, not created by the first write."""
    if not url:
        raise StorageUsageError(
            "no store given: use --store URL or set ZOO_STORE (`zoo store up` starts a server here)"
        )
    return open_existing_store(url) if existing else open_store(url)


def zoo_address(zoo: str, store_url: str | None) -> str:
    """Address of ``zoo``, which is an address already or the name of a zoo in the store at ``store_url``.

    Raises:
        StorageUsageError: a name without a store.
    """
    if "/" in zoo:
        return zoo
    if not store_url:
        raise StorageUsageError(f"{zoo}: name the store with --store URL or ZOO_STORE, or write STORE/zoos/{zoo}")
    return zoo_url(store_url, zoo)


def locate_zoo(zoo: str, store_url: str | None) -> tuple[str | None, str]:
    """(URL of the store, name of the zoo): of an address STORE/zoos/NAME, else ``store_url`` and ``zoo`` as given.

    Raises:
        StorageUsageError: an address with a version.
    """
    if zoo.endswith((".yaml", ".yml")) or not ("://" in zoo or "/zoos/" in f"/{zoo}"):
        return store_url, zoo
    store, name, version = split_zoo_url(zoo)
    if version is not None:
        raise StorageUsageError(f"{zoo}: leave out versions/{version}; --version says it where a verb takes one")
    return store, name


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
