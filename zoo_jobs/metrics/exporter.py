"""The metrics of all runs of a store, read from the store alone; a scrape never waits for the store."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from zooforge.storage.errors import ObjectMissing, StorageError
from zooforge.storage.formats.labels import derive
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.formats.tables import decode_part
from zooforge.storage.keys import attempt_seconds, manifest_key, parts_prefix
from zooforge.storage.publish.head import list_zoos, read_head, read_manifest_bytes
from zooforge.storage.runs.ledger import Folder, Ledger, read_ledger
from zooforge.storage.runs.run_files import Control, read_attempts, read_control, read_usage
from zooforge.storage.stores.objects import get_object
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store as zoo_registry
from ..planning.missing import unmade_twins
from ..planning.units import Request
from ..spec.twins import TwinSpec, Zoo
from ..watching.facts import driver_alive, last_end, wanted_of
from ..watching.status import state_of
from ..watching.totals import store_totals
from .registry import Samples, families, samples
from .zoo import ZooMetrics

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
REST_SECONDS = 600.0  # between two readings of a run that is finished or stopped
FORGET_EVERY = 5  # readings of a ledger after which its older records are dropped from memory
NUM_READERS = 8

Quantities = tuple[NDArray[np.float64], NDArray[np.float64]]  # test accuracy, sparsity


@dataclass
class _Watched:
    """The values of one zoo as last read."""

    run: str
    metrics: ZooMetrics
    ledger: Ledger | None = None
    control: Control | None = None
    readings: int = 0
    next_reading: float = 0.0
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)  # records by key
    labels: dict[str, str] = field(default_factory=dict)  # folder -> key of the record whose labels were read
    version: int = 0
    samples: Samples = field(default_factory=list)


class StoreMetrics(Collector):
    """The metrics of all zoos of ``store``. ``refresh`` reads the store; scrapes show what was read last.

    A run that is finished or stopped is read again when the request changes, or after ten minutes. A zoo that cannot be
    read is logged and keeps its last numbers; the others are read as usual.

    Attributes:
        free_bytes: None where the store does not know.
        read_seconds: Unix time of the last refresh that read every zoo, 0 before the first.
    """

    def __init__(
        self,
        store: ObjectStore,
        registry: CollectorRegistry,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.free_bytes: int | None = None
        self.read_seconds = 0.0
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._clock, self._monotonic = clock, monotonic
        self._zoos: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._shown: list[Metric] = []
        self._show()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            return iter(self._shown)

    def refresh(self) -> bool:
        """Read what may have changed. Returns False, and logs why, if a part of the store could not be read.

        Never raises: the store holds what others wrote, and one bad record must not end the metrics of all runs.
        """
        try:
            names = list(list_zoos(self._store))
            if self._store.root is not None and self._store.root.exists():
                self.free_bytes = shutil.disk_usage(self._store.root).free
        except Exception as error:
            self._warn("the store cannot be read", error, store=self._store.url)
            return False
        whole = True
        for name in names:
            try:
                self._read(name)
                if name in self._zoos:
                    self._zoos[name].samples = samples("zoo", self._zoos[name].metrics, {"zoo": name})
            except Exception as error:
                whole = False
                self._warn("a zoo cannot be read", error, zoo=name)
        for name in set(self._zoos) - set(names):
            del self._zoos[name]
        if whole:
            self.read_seconds = self._clock()
        self._show()
        return whole

    @staticmethod
    def _warn(message: str, error: Exception, **values: str) -> None:
        text = str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}"
        logger.warning(message, extra={**values, "error": text})

    def _show(self) -> None:
        zoos = [self._zoos[name].samples for name in sorted(self._zoos)]
        shown = list(families([samples("process"), *zoos, samples("store", self)]))
        with self._lock:
            self._shown = shown

    def _read(self, name: str) -> None:
        watched = self._zoos.get(name)
        control = None
        if watched is not None:
            control = read_control(self._store, watched.run)
            if self._monotonic() < watched.next_reading and control == watched.control:
                return
        zoo = zoo_registry.stored(self._store, name)
        if zoo is None:
            return  # it was published elsewhere and copied here: it has no run
        stage = "sparsify" if isinstance(zoo, TwinSpec) else "train"
        if watched is None or watched.run != zoo.run_id:
            metrics = ZooMetrics(name, stage, clock=self._clock, monotonic=self._monotonic)
            watched = self._zoos[name] = _Watched(zoo.run_id, metrics)
            control = read_control(self._store, watched.run)
        watched.control = control
        watched.readings += 1
        known = watched.ledger if watched.readings % FORGET_EVERY else None
        watched.ledger = ledger = read_ledger(self._store, watched.run, known)
        wanted = wanted_of(zoo, control)
        totals = store_totals(
            zoo,
            wanted,
            ledger,
            read_usage(self._store, watched.run, watched.usage),
            absent=self._absent(zoo, wanted),
            last_commit=self._last_commit(watched, ledger),
        )
        metrics = watched.metrics
        metrics.start_from(totals)
        state = metrics.state = state_of(
            totals.counts.remaining,
            control,
            lambda: driver_alive(self._store, zoo.run_id),
            lambda: last_end(self._store, zoo.run_id),
        )
        self._read_labels(watched, ledger)
        self._read_version(watched, name)
        rest = REST_SECONDS if state in ("finished", "stopped") else self._refresh_seconds / 2
        watched.next_reading = self._monotonic() + rest

    def _last_commit(self, watched: _Watched, ledger: Ledger) -> float:
        """Unix time by the store's clock; before the first commit, of the newest start of a driver."""
        known = watched.metrics
        if ledger.totals.model_epochs == known.counts.model_epochs and known.last_commit:
            return known.last_commit  # nothing new: saves a LIST
        stats = self._store.list(parts_prefix(watched.run))
        newest = max((stat.modified_seconds for stat in stats), default=0.0)
        if newest:
            return newest
        attempts = read_attempts(self._store, watched.run)
        return attempt_seconds(attempts[-1].id) if attempts else 0.0

    def _absent(self, zoo: Zoo, wanted: Request) -> set[int]:
        if not isinstance(zoo, TwinSpec):
            return set()
        parent = next((w.ledger for w in self._zoos.values() if w.run == zoo.parent.run_id), None)
        return unmade_twins(parent or read_ledger(self._store, zoo.parent.run_id), zoo, wanted)

    def _read_labels(self, watched: _Watched, ledger: Ledger) -> None:
        """Read accuracy and sparsity of the newest part of each folder that has a new one."""
        changed = [f for f in ledger.folders.values() if watched.labels.get(f.name) != str(f.last.key)]
        with ThreadPoolExecutor(NUM_READERS) as pool:
            for folder, quantities in zip(changed, pool.map(self._quantities, changed), strict=True):
                watched.labels[folder.name] = str(folder.last.key)
                if quantities is not None:
                    watched.metrics.keep_newest(folder.members, *quantities)

    def _read_version(self, watched: _Watched, name: str) -> None:
        head = read_head(self._store, name)
        if head is not None and head.number != watched.version:
            number, data = read_manifest_bytes(self._store, name, head.number)
            watched.metrics.seal(Manifest.from_json(data, manifest_key(name, number)).num_states)
            watched.version = head.number

    def _quantities(self, folder: Folder) -> Quantities | None:
        """Returns None if the labels were deleted, because the part is published and gc collected its data."""
        record = folder.last
        try:
            data = get_object(self._store, record.labels, str(record.key))
        except ObjectMissing:
            return None
        values = decode_part(data, str(record.key))
        rows = np.flatnonzero(values["epoch"].data == record.epochs[1] - 1)
        derived = derive({name: column.take(rows) for name, column in values.items()})

        def known(name: str) -> NDArray[np.float64]:
            column = derived.get(name)
            if column is None:
                return np.zeros(0)
            return column.data if column.valid is None else column.data[column.valid]

        return known("test_acc"), known("sparsity_ratio")
