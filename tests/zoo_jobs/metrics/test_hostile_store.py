"""A store may contain any values: none ends the exporter, or ends `zoo status` with a traceback."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tests.support.made_runs import parent, whole_run
from zooforge.storage.errors import StorageError
from zooforge.storage.stores.memory import MemoryStore
from zooforge.zoo_jobs.catalogue import entries, in_store
from zooforge.zoo_jobs.errors import ZooError
from zooforge.zoo_jobs.metrics.exporter import StoreMetrics
from zooforge.zoo_jobs.watching.facts import read_facts
from zooforge.zoo_jobs.watching.status import status

HOSTILE = ("1e999", "-1e308", "9000000000000000000", "null", '"\\ud800"', "{}")
PLACEHOLDER = "put the hostile value here"


def places(value: Any) -> Iterator[Any]:
    """``value`` once for each scalar or empty collection within it, which is replaced by the placeholder."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        copy = value.copy()
        if isinstance(inner, dict | list) and inner:
            for changed in places(inner):
                copy[key] = changed
                yield copy
        else:
            copy[key] = PLACEHOLDER
            yield copy


def made_store() -> MemoryStore:
    store = MemoryStore()
    whole_run(store, parent(), num_models=2, epochs=1, faulty={1: 1})
    in_store.register(store, entries.load("mnist5k-cnn-s"))
    return store


def json_keys(store: MemoryStore) -> list[str]:
    """Keys of the records of the made run that the exporter reads."""
    keys = [stat.key for stat in store.list("") if stat.key.endswith(".json")]
    return [key for key in keys if not key.endswith(("run.json", "pin.json")) and "mnist5k" not in key]


def kind(key: str) -> str:
    return "-".join(part for part in key.split("/") if not any(c.isdigit() for c in part)) or key


@pytest.mark.parametrize("kind_of_record", sorted({kind(key) for key in json_keys(made_store())}))
def test_no_value_of_a_record_ends_the_exporter_or_hides_another_zoo(kind_of_record: str) -> None:
    store = made_store()
    key = next(key for key in json_keys(store) if kind(key) == kind_of_record)
    whole = store.get(key)[0]
    num_tried = 0
    for changed in places(json.loads(whole)):
        for text in HOSTILE:
            store.put(key, json.dumps(changed).replace(json.dumps(PLACEHOLDER), text).encode())
            registry = CollectorRegistry()
            StoreMetrics(store, registry).refresh()
            assert registry.get_sample_value("zooforge_run_state", {"zoo": "mnist5k-cnn-s", "state": "waiting"}) == 1
            generate_latest(registry), generate_openmetrics(registry)
            with contextlib.suppress(StorageError, ZooError):  # one line and no traceback for `zoo status`
                facts = read_facts(store, parent())
                json.dumps(status(facts, time.time()).to_json())
            num_tried += 1
    assert num_tried >= len(HOSTILE)
