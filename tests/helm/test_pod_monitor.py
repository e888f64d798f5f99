"""The PodMonitors as scrape configurations of a Prometheus without its operator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pod_monitor import scrape_configs, targets
from tests.support.chart_render import Case, load, missing, render
from tests.support.prometheus import missing as no_promtool
from tests.support.prometheus import promtool

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("monitoring", load("monitoring"), render(load("monitoring")))


@pytest.fixture
def monitors(case: Case) -> list[dict[str, Any]]:
    return case.kind("PodMonitor")


@pytest.mark.skipif(no_promtool() is not None, reason=str(no_promtool()))
def test_prometheus_accepts_the_scrape_configurations_of_the_monitors(
    monitors: list[dict[str, Any]], tmp_path: Path
) -> None:
    configs = [one for monitor in monitors for one in scrape_configs(monitor, str(tmp_path / "targets.json"))]
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": configs}))
    checked = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr


def test_every_endpoint_names_a_port_of_the_pods_that_its_monitor_selects(
    case: Case, monitors: list[dict[str, Any]]
) -> None:
    ports = [{endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} for monitor in monitors]
    head = case.ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert ports[0] <= {port["name"] for port in head["ports"]}
    assert ports == [{"metrics", "as-metrics", "dash-metrics", "zoo-metrics"}, {"zoo-metrics"}]


def test_a_field_that_is_not_known_is_refused(monitors: list[dict[str, Any]]) -> None:
    monitor = {**monitors[0], "spec": {**monitors[0]["spec"], "sampleLimit": 3}}
    with pytest.raises(ValueError, match=re.escape("has sampleLimit; only podMetricsEndpoints")):
        scrape_configs(monitor, "")


def test_a_pod_is_a_target_for_each_port_that_it_declares() -> None:
    ports = [{"name": "a", "containerPort": 1}, {"name": "b", "containerPort": 2}]
    pod = {
        "metadata": {"name": "p", "namespace": "n", "labels": {"x.io/y": "z"}},
        "spec": {"containers": [{"name": "c", "ports": ports}, {"name": "d"}]},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    }
    waiting = {**pod, "status": {"phase": "Pending"}}
    first, second = targets([pod, waiting])
    assert [first["targets"], second["targets"]] == [["10.0.0.1:1"], ["10.0.0.1:2"]]
    assert first["labels"] == {
        "__meta_kubernetes_namespace": "n",
        "__meta_kubernetes_pod_name": "p",
        "__meta_kubernetes_pod_phase": "Running",
        "__meta_kubernetes_pod_label_x_io_y": "z",
        "__meta_kubernetes_pod_labelpresent_x_io_y": "true",
        "__meta_kubernetes_pod_container_name": "c",
        "__meta_kubernetes_pod_container_port_name": "a",
    }
