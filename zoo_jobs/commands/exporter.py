"""`zoo exporter`: the metrics of all runs of a store."""

import signal
import sys
import time
from types import FrameType

import click
from prometheus_client import CollectorRegistry

from zooforge.storage.stores.open import open_store

from ..metrics.exporter import REFRESH_SECONDS, StoreMetrics
from ..metrics.server import serve


@click.command("exporter")
@click.option(
    "--store",
    envvar="ZOO_STORE",
    required=True,
    metavar="URL",
    help="Path, file:// or s3://bucket/prefix; default: $ZOO_STORE.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Default: $ZOO_METRICS_PORT, 9095, or the next free one.")
@click.option(
    "--refresh",
    "refresh_seconds",
    type=click.FloatRange(min=0.1),
    default=REFRESH_SECONDS,
    show_default=True,
    help="Seconds between two looks at the store.",
)
def command(store: str, port: int | None, refresh_seconds: float) -> None:
    """Serve the metrics of all runs of a store, including finished ones, until interrupted.

    The store is read in the background: a scrape does not wait for it, and shows the values read last.
    """
    registry = CollectorRegistry()
    metrics = StoreMetrics(open_store(store), registry, refresh_seconds=refresh_seconds)
    signal.signal(signal.SIGTERM, _leave)
    with serve(registry, port) as server:
        sys.stderr.write(f"metrics of {store} at {server.url}\n")
        while True:
            started = time.monotonic()
            metrics.refresh()
            time.sleep(max(0.1, refresh_seconds - (time.monotonic() - started)))


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
