"""Cause four alerts in a real run and check that they fire: ``python -m tests.chaos.alerts FOLDER``.

A zoo trains with Ray on an S3 server; half of its models have a learning rate of 1e6. A real Prometheus scrapes driver
and exporter, with the rules of ``quick_rules``. First the workers are killed one after the other. Then the store is
stopped until NoProgress fires, and started again; the run must go on. At last the driver is killed and a second one
finishes the run. Then no alert may fire any more, and the totals in Prometheus must equal those of the store. This
takes a quarter of an hour. FOLDER keeps the logs; ``seen.json`` lists the alerts.
"""

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.command import Command, Running
from tests.support.prometheus import Prometheus
from tests.support.quick_rules import quick
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import read_usage
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.zoo import ZooSpec

FACTOR = 6.0
NAME = "alarming"
SETTINGS = (
    "activation=[tanh, relu]", "dropout_ratio=0.0", "initializer=kaiming_uniform", "optimizer=sgd",
    "learning_rate=[0.001, 1000000.0]", "weight_decay=0.001", "seeds=1:17", "num_epochs=5000",
)  # fmt: skip
WAIT_SECONDS = 900.0


class Scene:
    """Prometheus, the alerts that it has shown, and when."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.begun = time.monotonic()
        self.seen: list[dict[str, Any]] = []

    def note(self, what: str, **values: Any) -> None:
        line = {"second": round(time.monotonic() - self.begun), "what": what, **values}
        self.seen.append(line)
        print(json.dumps(line), flush=True)

    def value(self, expression: str) -> float:
        series = self.prometheus.query(expression)
        return series[0][1] if series else 0.0

    def wait(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"not {what} within {WAIT_SECONDS:g} s"
            time.sleep(1)

    def firing(self, **labels: str) -> list[dict[str, str]]:
        chosen = ",".join(f'{name}="{value}"' for name, value in {"alertstate": "firing", **labels}.items())
        return [actual for actual, _ in self.prometheus.query(f"ALERTS{{{chosen}}}")]

    def wait_firing(self, alert: str, since: float, **labels: str) -> None:
        self.wait(lambda: bool(self.firing(alertname=alert, **labels)), f"{alert} firing")
        self.note("fires", alert=alert, **labels, seconds=round(time.monotonic() - since))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    server = seaweedfs.up(folder / "s3")
    try:
        os.environ.update(server.environment())
        _watch(folder, Command({**os.environ, "OMP_NUM_THREADS": "1"}), server.url)
    finally:
        seaweedfs.down(folder / "s3")


def _watch(folder: Path, zoo: Command, url: str) -> None:
    driver_port, exporter_port = _free_port(), _free_port()
    spec = with_overrides(load("mnist5k-cnn-s"), SETTINGS, name=NAME)
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    train = ["train", "mnist5k-cnn-s", *settings, "--name", NAME, "--store", url, "--ray", "local", "--slots", "2"]
    train += ["--metrics-port", str(driver_port)]
    rules = folder / "rules.yaml"
    rules.write_text(json.dumps(quick(FACTOR)))
    targets = {f"127.0.0.1:{driver_port}": {"pod": "driver"}, f"127.0.0.1:{exporter_port}": {"pod": "exporter"}}
    exporter = zoo.start("exporter", "--store", url, "--port", str(exporter_port), "--refresh", "2")
    with exporter, Prometheus(folder, targets, rules=rules, scrape_interval="2s") as prometheus:
        scene = Scene(prometheus)
        with zoo.start(*train) as driver:
            _faulty_and_losses(scene, driver)
            _store_stopped(scene, folder / "s3")
            driver.kill()
        scene.note("the driver is killed", model_epochs=scene.value("max(zooforge_model_epochs_total)"))
        _end(scene, zoo, spec, url, train)
    (folder / "seen.json").write_text(json.dumps(scene.seen, indent=1) + "\n")


def _faulty_and_losses(scene: Scene, driver: Running) -> None:
    since = time.monotonic()
    scene.wait(lambda: scene.value("zoo:zooforge_faulty_models:sum") >= 3, "faulty")
    scene.note("models are faulty", share=scene.value("zoo:zooforge_faulty_models:sum/zoo:zooforge_models_begun:sum"))
    scene.wait_firing("FaultyRatioHigh", time.monotonic(), zoo=NAME)
    since, killed = time.monotonic(), 0
    while not scene.firing(alertname="PreemptionStorm", zoo=NAME):
        before = scene.value("max(zooforge_model_epochs_total)")
        for worker in _workers(driver):
            os.kill(worker, signal.SIGKILL)
            killed += 1
        # Kill the next ones only after a commit, because a task that ends ten workers in a row ends the run.
        scene.wait(lambda before=before: scene.value("max(zooforge_model_epochs_total)") > before, "committing")
        assert time.monotonic() - since < WAIT_SECONDS, "PreemptionStorm did not fire"
    scene.note("fires", alert="PreemptionStorm", zoo=NAME, seconds=round(time.monotonic() - since), workers=killed)
    lost = scene.value("max(zooforge_lost_epochs_total)")
    assert lost > 0, "nothing was lost with the workers"
    scene.note("lost with the workers", model_epochs=lost)


def _store_stopped(scene: Scene, server: Path) -> None:
    seaweedfs.down(server)
    since = time.monotonic()
    scene.note("the store is stopped")
    scene.wait_firing("StoreErrors", since, cause="retries", zoo=NAME)
    scene.wait_firing("StoreErrors", since, cause="unread")
    scene.wait_firing("NoProgress", since, zoo=NAME)
    before = scene.value("max(zooforge_model_epochs_total)")
    seaweedfs.up(server)
    since = time.monotonic()
    scene.note("the store is back")
    scene.wait(lambda: scene.value("max(zooforge_model_epochs_total)") > before, "going on")
    scene.note("the run goes on by itself", seconds=round(time.monotonic() - since))
    # The next usage record contains the number of retried requests.
    scene.wait(lambda: scene.value('max(zooforge_store_retries_total{pod="exporter"})') > 20, "accounted for")


def _end(scene: Scene, zoo: Command, spec: ZooSpec, url: str, train: list[str]) -> None:
    store = open_store(url)
    reached = max(read_ledger(store, spec.run_id).num_epochs(model) for model in range(64))
    with zoo.start(*train, "--epochs", str(reached + 2)) as second:
        scene.note("a second driver goes on", epochs=reached + 2)
        scene.wait(lambda: second.process.poll() is not None, "ended")
        assert second.process.returncode == 0, second.err
    scene.note("the run is finished")
    scene.wait(lambda: scene.value(f'max(zooforge_run_state{{zoo="{NAME}",state="finished"}})') == 1, "seen finished")
    scene.wait(lambda: not scene.firing(zoo=NAME) and not scene.firing(alertname="StoreErrors"), "silent")
    scene.note("no alert fires")
    ledger, usage = read_ledger(store, spec.run_id), read_usage(store, spec.run_id)
    kept = {
        f'zooforge_model_epochs_total{{zoo="{NAME}",stage="train"}}': ledger.totals.model_epochs,
        f'zooforge_samples_total{{zoo="{NAME}",stage="train"}}': ledger.totals.samples,
        f'zooforge_store_bytes_total{{zoo="{NAME}",direction="write"}}': ledger.totals.bytes,
        f'zooforge_preemptions_total{{zoo="{NAME}"}}': round(usage["preemptions"]),
        f'zooforge_lost_epochs_total{{zoo="{NAME}"}}': round(usage["lost_epochs"]),
        f'zooforge_store_retries_total{{zoo="{NAME}"}}': round(usage["store_retries"]),
    }
    shown = {metric: scene.value(f'max({metric[:-1]},pod="exporter"}})') for metric in kept}
    scene.note("totals", store=kept, prometheus=shown)
    assert shown == kept


def _workers(driver: Running) -> list[int]:
    """Process ids of the driver's Ray actors."""
    return sorted(pid for pid, line in driver.children().items() if re.match(r"ray::_?\w*Worker", line))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
