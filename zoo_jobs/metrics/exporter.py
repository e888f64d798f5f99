"""The metrics of all runs of a store, read from the store alone; a scrape never waits for it."""

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
from zooforge.storage.formats.labels import derive, part_columns
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.formats.tables import decode_table, table_values
from zooforge.storage.keys import manifest_key, parts_prefix
from zooforge.storage.publish.head import list_zoos, read_head, read_manifest_bytes
from zooforge.storage.runs.ledger import Folder, Ledger, read_ledger
from zooforge.storage.runs.run_files import Control, read_attempts, read_control, read_usage
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.objects import get_object
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store as zoo_registry
from ..errors import ZooError
from ..planning.missing import unmade_twins
from ..planning.units import Request
from ..spec.twins import TwinSpec, Zoo
from ..watching.facts import driver_alive, last_end, start_seconds, wanted_of
from ..watching.status import state_of
from ..watching.totals import store_totals
from .families import ZooFacts, build_info, families, store_free_bytes, store_read_timestamp
from .zoo import ZooMetrics

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
REST_SECONDS = 600.0  # between two readings of a run that is finished or stopped
FORGET_EVERY = 5  # readings of a ledger after which its older records are let go
NUM_READERS = 8

Quantities = tuple[NDArray[np.float64], NDArray[np.float64]]  # test accuracy, sparsity


@dataclass
class _Watched:
    """One zoo: what was read of it last."""

    run: str
    metrics: ZooMetrics
    ledger: Ledger | None = None
    control: Control | None = None
    readings: int = 0
    next_reading: float = 0.0
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)  # records by key
    labels: dict[str, str] = field(default_factory=dict)  # folder -> key of the record whose labels are known
    version: int = 0


class StoreMetrics(Collector):
    """All zoos of ``store``. ``refresh`` reads it, in whichever thread calls; scrapes show what was read last.

    Runs that are finished or stopped are read again when what is wanted of them changes, or after ten minutes.

    A zoo that cannot be read is said, and stays as it was; the others go on.
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
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._clock, self._monotonic = clock, monotonic
        self._zoos: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._shown: list[Metric] = [build_info(), store_read_timestamp(0.0)]
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would otherwise scrape at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            return iter(self._shown)

    def refresh(self) -> bool:
        """Read what may have changed. False, and said, if the store could not be read in part or at all."""
        whole = True
        try:
            names = list(list_zoos(self._store))
        except (StorageError, OSError) as error:
            logger.warning("the store cannot be read", extra={"store": self._store.url, "error": str(error)})
            return False
        for name in names:
            try:
                self._read(name)
            except (StorageError, ZooError, OSError) as error:
                whole = False
                logger.warning("a zoo cannot be read", extra={"zoo": name, "error": str(error)})
        for name in set(self._zoos) - set(names):
            del self._zoos[name]
        self._show(whole)
        return whole

    def _show(self, whole: bool) -> None:
        now = self._monotonic()
        found = [build_info(), *families([self._zoos[name].metrics.now(now) for name in sorted(self._zoos)])]
        if isinstance(self._store, LocalStore) and self._store.root.exists():
            found.append(store_free_bytes(shutil.disk_usage(self._store.root).free))
        with self._lock:
            read_at = self._clock() if whole else self._shown[-1].samples[0].value
            self._shown = [*found, store_read_timestamp(read_at)]

    def _read(self, name: str) -> None:
        watched = self._zoos.get(name)
        control = None
        if watched is not None:
            control = read_control(self._store, watched.run)
            if self._monotonic() < watched.next_reading and control == watched.control:
                return
        zoo = zoo_registry.stored(self._store, name)
        if zoo is None:
            return  # published elsewhere and copied here: no run
        stage = "sparsify" if isinstance(zoo, TwinSpec) else "train"
        if watched is None or watched.run != zoo.run_id:
            watched = self._zoos[name] = _Watched(zoo.run_id, ZooMetrics(ZooFacts(name, stage)))
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
        metrics.start_from(totals, self._monotonic())
        state = metrics.facts.state = state_of(
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
        """By the store's clock; before the first commit, the newest start of a driver; listed only where it changed."""
        facts = watched.metrics.facts
        if ledger.totals.model_epochs == facts.model_epochs.get(facts.stage) and facts.last_commit:
            return facts.last_commit
        stats = self._store.list(parts_prefix(watched.run))
        newest = max((stat.modified_seconds for stat in stats), default=0.0)
        if newest:
            return newest
        attempts = read_attempts(self._store, watched.run)
        return start_seconds(attempts[-1].id) if attempts else 0.0

    def _absent(self, zoo: Zoo, wanted: Request) -> set[int]:
        if not isinstance(zoo, TwinSpec):
            return set()
        parent = next((w.ledger for w in self._zoos.values() if w.run == zoo.parent.run_id), None)
        return unmade_twins(parent or read_ledger(self._store, zoo.parent.run_id), zoo, wanted)

    def _read_labels(self, watched: _Watched, ledger: Ledger) -> None:
        """Accuracy and sparsity of the newest part of each folder that has a new one."""
        changed = [f for f in ledger.folders.values() if watched.labels.get(f.name) != str(f.last.key)]
        with ThreadPoolExecutor(NUM_READERS) as pool:
            for folder, found in zip(changed, pool.map(self._quantities, changed), strict=True):
                watched.labels[folder.name] = str(folder.last.key)
                if found is not None:
                    watched.metrics.keep_newest(folder.members, *found)

    def _read_version(self, watched: _Watched, name: str) -> None:
        head = read_head(self._store, name)
        if head is not None and head.number != watched.version:
            number, data = read_manifest_bytes(self._store, name, head.number)
            watched.metrics.seal(Manifest.from_json(data, manifest_key(name, number)).num_states)
            watched.version = head.number

    def _quantities(self, folder: Folder) -> Quantities | None:
        """None where the labels are gone: the part is published, and its data were collected."""
        record = folder.last
        try:
            data = get_object(self._store, record.labels, str(record.key))
        except ObjectMissing:
            return None
        columns = part_columns(record.twin)
        values = table_values(decode_table(data, str(record.key), columns), columns)
        rows = np.flatnonzero(values["epoch"].data == record.epochs[1] - 1)
        derived = derive({name: column.take(rows) for name, column in values.items()})
        empty = np.zeros(0)
        found = []
        for name in ("test_acc", "sparsity_ratio"):
            column = derived.get(name)
            found.append(
                empty if column is None else column.data if column.valid is None else column.data[column.valid]
            )
        return found[0], found[1]
