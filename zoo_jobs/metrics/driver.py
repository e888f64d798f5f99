"""The metrics of one driver: what the store held when it started, and what it saw since.

`registry = CollectorRegistry(); metrics = RunMetrics(registry); server = serve(registry)`; then pass ``metrics`` to the
driver as an observer, and call ``start_from`` with the store's totals at the start and whenever fresh ones are at hand.
"""

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from zooforge.storage.stores.protocol import Traffic

from ..events import Event, PartCommitted, Problem, Spent, StageEnded, StageStarted, UsageWritten
from ..watching.totals import Meter, StoreTotals
from .families import ZooFacts, build_info, families
from .server import MetricsServer, serve
from .zoo import ZooMetrics

__all__ = ["MetricsServer", "RunMetrics", "StoreTotals", "serve"]


class RunMetrics(Collector):
    """An observer that answers scrapes.

    Counters only grow, and count a (model, epoch) once: it does not matter whether the store's totals or the event of
    a commit comes first. ``traffic`` is that of the driver's own store, looked at with every scrape; the workers' comes
    with their events.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        traffic: Traffic | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._zoos: dict[str, ZooMetrics] = {}
        self._meter = None if traffic is None else Meter(traffic)
        self._current: str | None = None
        self._clock, self._monotonic = clock, monotonic
        registry.register(self)

    def declare(self, zoo: str, stage: str = "train") -> None:
        """Show ``zoo`` with zeros, before anything is known of it."""
        with self._lock:
            self._zoo(zoo, stage)

    def start_from(self, totals: StoreTotals) -> None:
        """Take over what the store says; what this driver counted beyond it stays."""
        with self._lock:
            self._zoo(totals.zoo, totals.stage).start_from(totals, self._monotonic())

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._current is not None:
                self._add_traffic()  # before another zoo's begins
            zoo = self._zoo(event.zoo, event.stage)
            self._current = event.zoo
            match event:
                case StageStarted():
                    zoo.start(event, self._clock(), self._monotonic())
                case PartCommitted():
                    zoo.commit(event, self._clock(), self._monotonic())
                case Problem():
                    zoo.facts.preemptions += event.kind == "preempted"
                case Spent():
                    zoo.facts.lost_epochs += event.lost_epochs
                    zoo.facts.store_retries += event.store_retries
                    zoo.facts.read_bytes += event.read_bytes
                case UsageWritten():
                    zoo.take_usage(event.sums)
                case StageEnded():
                    zoo.facts.state = event.state

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            self._add_traffic()
            found = list(families([zoo.now(self._monotonic()) for zoo in self._zoos.values()]))
        yield build_info()
        yield from found

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would otherwise scrape at registration."""
        return iter(())

    def _zoo(self, name: str, stage: str) -> ZooMetrics:
        if name not in self._zoos:
            self._zoos[name] = ZooMetrics(ZooFacts(name, "sparsify" if stage == "sparsify" else "train"))
        zoo = self._zoos[name]
        if stage in ("train", "sparsify"):
            zoo.facts.stage = stage
        return zoo

    def _add_traffic(self) -> None:
        if self._meter is None or self._current is None:
            return
        read_bytes, retries = self._meter.take()
        facts = self._zoos[self._current].facts
        facts.read_bytes += read_bytes
        facts.store_retries += retries
