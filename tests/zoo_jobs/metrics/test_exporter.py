"""`zoo exporter` serves the metrics of all runs of a store, which it reads without delaying a scrape."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.support import synthetic
from tests.support.controls import set_control
from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.publish.head import list_zoos
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import (
    Control,
    add_usage,
    end_attempt,
    start_attempt,
)
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import Stat
from zooforge.zoo_jobs.catalogue import entries, in_store
from zooforge.zoo_jobs.metrics.exporter import StoreMetrics
from zooforge.zoo_jobs.metrics.server import serve
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

MODELS = range(8)


def tiny() -> ZooSpec:
    """A zoo of 8 models in two operation families, 3 epochs."""
    settings = ["activation=[tanh, relu]", "dropout_ratio=0.0", "initializer=uniform", "optimizer=adam"]
    settings += ["learning_rate=0.001", "weight_decay=0.001", 'seeds="1:5"', "num_epochs=3", "train_eval_epochs=[0, 3]"]
    return with_overrides(entries.load("mnist5k-cnn-s"), settings, name="tiny")


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"zooforge_{name}", labels)


def state(registry: CollectorRegistry, zoo: str = "tiny") -> str:
    states = ("waiting", "live", "stopped", "finished", "failed")
    (shown,) = [one for one in states if sample(registry, "run_state", zoo=zoo, state=one) == 1]
    return shown


def test_the_exporter_shows_the_numbers_of_the_ledger_and_continues_after_a_restart() -> None:
    store, zoo = MemoryStore(), tiny()
    in_store.register(store, zoo)
    began = time.time()
    synthetic.train(store, (0, 2, 4, 6), 3, run=zoo.run_id)
    synthetic.train(store, (1, 3, 5, 7), 1, run=zoo.run_id, faulty={3: 1})
    for _ in range(2):  # the second one knows nothing of the first
        metrics = StoreMetrics(store, registry := CollectorRegistry())
        assert metrics.refresh()
        totals = read_ledger(store, zoo.run_id).totals
        assert sample(registry, "model_epochs_total", zoo="tiny", stage="train") == totals.model_epochs == 4 * 4 + 4 * 2
        assert sample(registry, "model_epochs_wanted", zoo="tiny", stage="train") == 8 * 4
        assert sample(registry, "samples_total", zoo="tiny", stage="train") == totals.samples
        assert sample(registry, "store_bytes_total", zoo="tiny", direction="write") == totals.bytes
        assert sample(registry, "faulty_models_total", zoo="tiny", reason="nan") == totals.num_faulty == 1
        assert sample(registry, "models", zoo="tiny", state="done") == 4
        assert sample(registry, "models", zoo="tiny", state="training") == 3
        assert sample(registry, "models", zoo="tiny", state="faulty") == 1
        assert sample(registry, "units", zoo="tiny", stage="train", state="committed") == 1
        assert sample(registry, "units", zoo="tiny", stage="train", state="running") == 1
        assert began - 1 <= (sample(registry, "last_commit_timestamp_seconds", zoo="tiny") or 0) <= time.time() + 1
    accuracies = [(m + 9) % 100 / 100 for m in (0, 2, 4, 6)] + [(m + 3) % 100 / 100 for m in (1, 5, 7)]
    median = sample(registry, "accuracy_ratio", zoo="tiny", split="test", quantile="0.5")
    assert median == pytest.approx(np.quantile(accuracies, 0.5))


def test_a_run_is_waiting_then_live_then_failed_then_stopped_then_finished() -> None:
    store, zoo = MemoryStore(), tiny()
    in_store.register(store, zoo)
    now = [0.0]
    metrics = StoreMetrics(store, registry := CollectorRegistry(), monotonic=lambda: now[0])

    def refreshed() -> str:
        now[0] += 60
        assert metrics.refresh()
        return state(registry)

    assert refreshed() == "waiting"
    asked = {"models": [0, 4], "epochs": 2}
    set_control(store, zoo.run_id, Control("run", "", asked))
    attempt = start_attempt(store, zoo.run_id, {})
    claims = Claims(store, zoo.run_id, attempt)
    claims.hold(f"driver-{attempt}")
    assert refreshed() == "live"
    assert sample(registry, "model_epochs_wanted", zoo="tiny", stage="train") == 4 * 3
    claims.release(f"driver-{attempt}")
    end_attempt(store, zoo.run_id, attempt, {"state": "failed"})
    assert refreshed() == "failed"
    set_control(store, zoo.run_id, Control("stopped", "asked", asked))
    assert refreshed() == "stopped"
    synthetic.train(store, (0, 2), 2, run=zoo.run_id)
    synthetic.train(store, (1, 3), 2, run=zoo.run_id)
    assert refreshed() == "stopped"  # without a driver and a new request, it is read again later
    now[0] += 600
    assert refreshed() == "finished"
    set_control(store, zoo.run_id, Control("run", "", {"models": [0, 8], "epochs": 3}))
    assert refreshed() == "failed"  # a larger request is known at once, and no driver has started since


def test_costs_and_lost_work_are_sums_of_the_usage_records() -> None:
    store, zoo = MemoryStore(), tiny()
    in_store.register(store, zoo)
    for _ in range(2):
        attempt = start_attempt(store, zoo.run_id, {})
        used = {"pod_seconds": 100.0, "committed_seconds": 75.0, "dollars": 4.0, "preemptions": 1, "lost_epochs": 6}
        add_usage(store, zoo.run_id, attempt, used)
    metrics = StoreMetrics(store, registry := CollectorRegistry(), refresh_seconds=0)
    metrics.refresh()
    assert sample(registry, "cost_dollars_total", zoo="tiny", outcome="committed") == 6.0
    assert sample(registry, "cost_dollars_total", zoo="tiny", outcome="wasted") == 2.0
    assert sample(registry, "preemptions_total", zoo="tiny") == 2
    assert sample(registry, "lost_epochs_total", zoo="tiny") == 12
    before = store.traffic.num_requests
    metrics.refresh()
    again = store.traffic.num_requests - before
    for _ in range(10):
        add_usage(store, zoo.run_id, attempt, used)
    before = store.traffic.num_requests
    metrics.refresh()
    assert sample(registry, "lost_epochs_total", zoo="tiny") == 72
    assert store.traffic.num_requests - before == again + 10  # the new records alone are read


def test_twins_count_their_own_work_and_wait_for_parents_that_are_trained() -> None:
    store, zoo = MemoryStore(), tiny()
    twins = twins_of(zoo, entries.load("mnist-cnn-s-seed").sparsify)
    in_store.register(store, zoo)
    in_store.register(store, twins)
    synthetic.train(store, (0, 2, 4, 6), 3, run=zoo.run_id)
    synthetic.train(store, (0, 2), 4, run=twins.run_id, twin=True)
    StoreMetrics(store, registry := CollectorRegistry()).refresh()
    assert sample(registry, "model_epochs_total", zoo=twins.name, stage="sparsify") == 10
    assert sample(registry, "model_epochs_wanted", zoo=twins.name, stage="sparsify") == 4 * (twins.num_epochs + 1)
    assert sample(registry, "sparsity_ratio", zoo=twins.name, quantile="1.0") == 6 / 32
    assert sample(registry, "sparsity_ratio", zoo="tiny", quantile="1.0") is None


def test_a_zoo_that_cannot_be_read_is_logged_and_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    store, zoo = MemoryStore(), tiny()
    in_store.register(store, zoo)
    store.put("zoos/broken/spec.json", b"{")
    assert not StoreMetrics(store, registry := CollectorRegistry()).refresh()
    assert state(registry) == "waiting"
    assert any(getattr(record, "zoo", "") == "broken" for record in caplog.records)
    assert sample(registry, "store_read_timestamp_seconds") == 0


class Unreachable(MemoryStore):
    """Answers no request after ``gone`` is set; requests wait until ``give_up`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.gone, self.asked, self.give_up = threading.Event(), threading.Event(), threading.Event()

    def list(self, prefix: str) -> Iterator[Stat]:
        if self.gone.is_set():
            self.asked.set()
            self.give_up.wait(30)
            raise StoreUnreachable("no answer")
        return super().list(prefix)


def test_a_scrape_never_waits_for_the_store() -> None:
    store, zoo = Unreachable(), tiny()
    in_store.register(store, zoo)
    synthetic.train(store, (0, 2), 3, run=zoo.run_id)
    metrics = StoreMetrics(store, registry := CollectorRegistry())
    assert metrics.refresh()
    read_at = sample(registry, "store_read_timestamp_seconds")
    store.gone.set()
    answers: list[bool] = []
    reader = threading.Thread(target=lambda: answers.append(metrics.refresh()))
    reader.start()
    assert store.asked.wait(10)
    with serve(registry, 0) as server:
        text = urllib.request.urlopen(server.url, timeout=5).read().decode()
    assert 'zooforge_model_epochs_total{stage="train",zoo="tiny"} 8.0' in text
    assert reader.is_alive()
    store.give_up.set()
    reader.join(10)
    assert answers == [False]
    assert sample(registry, "store_read_timestamp_seconds") == read_at


def test_all_zoos_of_the_catalogue_and_their_twins_have_at_most_64_series_each() -> None:
    store = MemoryStore()
    for name in entries.names():
        zoo = entries.load(name)
        if zoo.origin == "reference":
            in_store.register(store, zoo)
            if zoo.sparsify is not None:
                in_store.register(store, twins_of(zoo))
    StoreMetrics(store, registry := CollectorRegistry()).refresh()
    families = list(registry.collect())
    assert sum(len(family.samples) for family in families) <= 64 * len(list(list_zoos(store)))
    models = sum(s.value for f in families if f.name == "zooforge_models" for s in f.samples if "-vd" not in str(s))
    assert models == 50_360


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    store, zoo = LocalStore(tmp_path), tiny()
    in_store.register(store, zoo)
    synthetic.train(store, (0, 2), 3, run=zoo.run_id)
    environment = {**os.environ, "ZOO_METRICS_PORT": ""}
    arguments = ["exporter", "--store", str(tmp_path), "--port", "0", "--refresh", "0.2"]
    code = "import sys; from zooforge.zoo_jobs.cli import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        deadline = time.monotonic() + 30
        while (done := _served(url)) != 8:
            assert time.monotonic() < deadline, done
            time.sleep(0.1)
        synthetic.train(store, (1, 3), 0, run=zoo.run_id)
        while (done := _served(url)) != 10:
            assert time.monotonic() < deadline, done
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _served(url: str) -> float:
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    free = [s.value for s in samples if s.name == "zooforge_store_free_bytes"]
    assert not free or free[0] > 0
    return sum(s.value for s in samples if s.name == "zooforge_model_epochs_total")
