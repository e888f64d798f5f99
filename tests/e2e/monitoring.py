"""A Prometheus server in the cluster's network that gets its targets from the chart's PodMonitors."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.pod_monitor import scrape_configs, targets
from tests.e2e.surroundings import (
    CLUSTER,
    NAMESPACE,
    RELEASE,
    ROOT,
    ZOO,
    deploy,
    expect,
    in_store,
    kubectl,
    say,
    sh,
    skip,
    store,
    wait,
)

PORT = 19090
RULES = ROOT / "helm" / "zooforge" / "rules" / "zooforge.yaml"
TRAINED = f'zooforge_model_epochs_total{{zoo="{ZOO}",stage="train"}}'


class ClusterPrometheus:
    """A client that uses `exec`, because the server's port is open only in the cluster's network."""

    def __init__(self) -> None:
        self.began = time.time()

    def get(self, what: str, **parameters: str) -> Any:
        words = [word for key, value in parameters.items() for word in ("--data-urlencode", f"{key}={value}")]
        text = sh(*CLUSTER, "exec", "curl", "-sS", "-G", *words, f"http://127.0.0.1:{PORT}/api/v1/{what}", seconds=60)
        if not text.startswith("{"):  # Prometheus answers with plain text while it starts
            raise SystemExit(f"FAIL  Prometheus: {text.strip()}")
        answer = json.loads(text)
        if answer["status"] != "success":
            raise SystemExit(f"FAIL  Prometheus: {answer.get('error')}")
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=expression)["result"]]

    def expect_targets(self, head: str, worker: str) -> None:
        """Wait until every port of every pod of the run is a target and is up."""
        wanted = {(head, port) for port in ("metrics", "as-metrics", "dash-metrics", "zoo-metrics")}
        wanted.add((worker, "metrics"))

        def up() -> bool:
            targets = self.get("targets", state="active")["activeTargets"]
            self.down = [
                (t["labels"]["pod"], t["labels"]["endpoint"], t["lastError"]) for t in targets if t["health"] != "up"
            ]
            here = {(t["labels"]["pod"], t["labels"]["endpoint"]) for t in targets if t["health"] == "up"}
            return wanted <= here and any(pod.startswith(f"{RELEASE}-exporter-") for pod, _ in here)

        try:
            wait(120, "Prometheus scrapes all ports of head and worker, and the exporter", up)
        except SystemExit:
            raise SystemExit(f"FAIL  targets that do not answer: {self.down}") from None
        targets = {labels["endpoint"]: labels for labels, _ in self.query(TRAINED) if labels["pod"] == head}
        labels = targets.get("zoo-metrics", {})
        expected = {
            "namespace": NAMESPACE, "job": f"{NAMESPACE}/{RELEASE}-ray", "container": "ray-head",
            "ray_io_node_type": "head", "ray_io_group": "headgroup", "zooforge_io_zoo": ZOO,
        }  # fmt: skip
        wrong = {key: (labels.get(key), value) for key, value in expected.items() if labels.get(key) != value}
        present = all(labels.get(key) for key in ("ray_io_cluster", "zooforge_io_run", "instance"))
        expect(labels and not wrong and present, f"the driver's series carry the pod's labels {wrong or ''}")
        groups = {labels.get("ray_io_group") for labels, _ in self.query(f'{{__name__=~"ray_.+",pod="{worker}"}}')}
        expect(groups == {"cpu"}, f"Ray's own series of the worker carry its group: {groups}")

    def expect_restart(self, first: str, second: str) -> None:
        """Check that the driver on a new head is a target, and that its counters continue those of the old one."""
        last = self.query(f'max(last_over_time({TRAINED[:-1]},pod="{first}"}}[10m]))')[0][1]

        def counted() -> float:
            series = self.query(f'max({TRAINED[:-1]},pod="{second}"}})')
            return series[0][1] if series else 0.0

        wait(120, f"the driver on {second} is scraped", counted)
        expect(counted() >= last > 0, f"its counter continues: {last:.0f} model-epochs before, {counted():.0f} now")

    def expect_totals(self) -> None:
        """Check that totals never decreased and equal those of the store, and that no rule failed."""
        code = (
            "from zooforge.storage.runs.ledger import read_ledger; from zooforge.zoo_jobs.catalogue import in_store; "
        )
        code += "t = read_ledger(s, in_store.stored(s, a[0]).run_id).totals\n"
        code += "print(json.dumps([t.model_epochs, t.samples, t.bytes]))"
        with store() as env:
            model_epochs, samples, size = json.loads(in_store(code, ZOO, env=env))
        shown = {
            TRAINED: model_epochs,
            f'zooforge_samples_total{{zoo="{ZOO}",stage="train"}}': samples,
            f'zooforge_store_bytes_total{{zoo="{ZOO}",direction="write"}}': size,
        }
        for metric, value in shown.items():
            wait(90, f"Prometheus says {value:,} as the store does: {metric.partition('{')[0]}",
                 lambda m=metric, v=value: self.query(f"max({m})") == [({}, float(v))])  # fmt: skip
        seconds = int(time.time() - self.began)
        back = self.query(f"max(resets({TRAINED}[{seconds}s]))")
        drivers = self.query(
            f'count(count_over_time({TRAINED[:-1]},endpoint="zoo-metrics",container="ray-head"}}[{seconds}s]))'
        )
        expect(
            back == [({}, 0.0)],
            f"over {seconds} s none of the totals of {drivers[0][1]:.0f} drivers and the exporter went back",
        )
        bad = [r["name"] for g in self.get("rules")["groups"] for r in g["rules"] if r["health"] == "err"]
        expect(not bad, f"no rule fails {bad or ''}")
        alerts = {a["labels"]["alertname"] for a in self.get("alerts")["alerts"] if a["state"] == "firing"}
        say(f"alerts that fire: {', '.join(sorted(alerts)) or 'none'}")


class Discovery:
    """While the block runs, writes the targets of all pods into a file every two seconds."""

    def __init__(self, path: Path) -> None:
        self._path, self._over = path, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(2):
            with contextlib.suppress(SystemExit, subprocess.TimeoutExpired):
                there = targets(json.loads(kubectl("get", "pods", "-o", "json"))["items"])
                new = self._path.with_suffix(".new")
                new.write_text(json.dumps(there))
                new.replace(self._path)


@contextlib.contextmanager
def observed() -> Iterator[ClusterPrometheus | None]:
    """Run a Prometheus that scrapes the release during the block. Yields None if none can run; the step says so."""
    crd = sh("kubectl", "get", "crd", "podmonitors.monitoring.coreos.com", "-o", "name", check=False)
    version = sh(*CLUSTER, "exec", "prometheus", "--version", check=False)
    if not crd.startswith("0 ") or not version.startswith("0 "):
        skip("no Prometheus watched: the cluster knows no PodMonitors, or `exec prometheus` is not possible")
        yield None
        return
    deploy("metrics.podMonitor.enabled=true", "metrics.podMonitor.interval=5s", "metrics.podMonitor.scrapeTimeout=5s")
    monitors = json.loads(kubectl("get", "podmonitors", "-o", "json"))["items"]
    with tempfile.TemporaryDirectory() as folder:
        there, path = Path(folder) / "targets.json", Path(folder) / "prometheus.yml"
        config = {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [one for monitor in monitors for one in scrape_configs(monitor, str(there))],
        }
        path.write_text(yaml.safe_dump(config))
        command = [*CLUSTER, "exec", "prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data",
                   f"--web.listen-address=127.0.0.1:{PORT}", "--log.level=warn"]  # fmt: skip
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((Path(folder) / "log").open("w"))
            stack.enter_context(Discovery(there))
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            stack.callback(process.terminate)
            prometheus = ClusterPrometheus()
            wait(30, f"Prometheus {version.split()[3]} answers", lambda: prometheus.get("status/buildinfo"))
            yield prometheus
    deploy()
