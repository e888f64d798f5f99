"""The metrics of one driver: what the store held when it started, and what happened since.

`registry = CollectorRegistry(); metrics = RunMetrics(registry); server = serve(registry)`; then pass ``metrics`` to the
driver as an observer, and call ``start_from`` with the store's totals at the start and whenever there are new ones.
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
from .registry import families, samples
from .zoo import ZooMetrics


class RunMetrics(Collector):
    """An observer that answers scrapes.

    Counters only grow, and count a (model, epoch) once: the order in which the store's totals and the event of a commit
    arrive does not matter. ``traffic`` is that of the driver's own store, read with every scrape; that of the workers
    comes with their events.
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
        self._current: ZooMetrics | None = None
        self._clock, self._monotonic = clock, monotonic
        registry.register(self)

    def start_from(self, totals: StoreTotals) -> None:
        """Take over the totals of the store. Counts of this driver that the store does not have yet are kept."""
        with self._lock:
            self._zoo(totals.zoo, totals.stage).start_from(totals)

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._add_traffic()  # done before the next zoo begins
            zoo = self._current = self._zoo(event.zoo, event.stage)
            match event:
                case StageStarted():
                    zoo.start(event)
                case PartCommitted():
                    zoo.commit(event)
                case Problem():
                    zoo.usage["preemptions"] += event.kind == "preempted"
                case Spent():
                    zoo.spend(event)
                case UsageWritten():
                    zoo.take_usage(event.sums)
                case StageEnded():
                    zoo.state = event.state

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            self._add_traffic()
            zoos = [samples("zoo", zoo, {"zoo": zoo.zoo}) for zoo in self._zoos.values()]
            metrics = list(families([samples("process"), *zoos]))
        yield from metrics

    def _zoo(self, name: str, stage: str) -> ZooMetrics:
        if name not in self._zoos:
            self._zoos[name] = ZooMetrics(name, stage, clock=self._clock, monotonic=self._monotonic)
        return self._zoos[name]

    def _add_traffic(self) -> None:
        if self._meter is not None and self._current is not None:
            read_bytes, retries = self._meter.take()
            self._current.usage["read_bytes"] += read_bytes
            self._current.usage["store_retries"] += retries
