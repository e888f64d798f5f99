"""Turns a PodMonitor into scrape configurations, as the Prometheus operator does. Pure.

Only the fields that the chart's monitors use are known; any other field is refused, so that none is ignored silently.
Pods come from a file instead of `kubernetes_sd_configs`, which Debian's Prometheus is built without. `targets` gives
the content of that file, with the labels of that discovery.

Source: the configurations that prometheus-operator's own tests expect of its generator (pkg/prometheus/testdata), and
Prometheus' documentation of `kubernetes_sd_config`, role pod.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

KNOWN = {"selector", "podTargetLabels", "podMetricsEndpoints"}
KNOWN_OF_ENDPOINT = {"port", "interval", "scrapeTimeout", "relabelings"}
SNAKE = {"sourceLabels": "source_labels", "targetLabel": "target_label"}


def label(name: str) -> str:
    """The name of a Kubernetes label in Prometheus."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def targets(pods: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One target per port that a container of a pod declares, with the labels of Prometheus' discovery."""
    groups = []
    for pod in pods:
        metadata, status = pod["metadata"], pod["status"]
        if not status.get("podIP"):
            continue
        own = {"namespace": metadata["namespace"], "pod_name": metadata["name"], "pod_phase": status["phase"]}
        for key, value in metadata.get("labels", {}).items():
            own |= {f"pod_label_{label(key)}": value, f"pod_labelpresent_{label(key)}": "true"}
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                address = f"{status['podIP']}:{port['containerPort']}"
                labels = {**own, "pod_container_name": container["name"], "pod_container_port_name": port["name"]}
                meta = {f"__meta_kubernetes_{key}": value for key, value in labels.items()}
                groups.append({"targets": [address], "labels": meta})
    return groups


def scrape_configs(monitor: Mapping[str, Any], targets_file: str) -> list[dict[str, Any]]:
    """One scrape configuration for each endpoint of a PodMonitor.

    Args:
        monitor: the object, as the API server gives it.
        found: path of the file with all targets.

    Raises:
        ValueError: the monitor has a field that is not known here.
    """
    spec = monitor["spec"]
    namespace, name = monitor["metadata"]["namespace"], monitor["metadata"]["name"]
    _only(spec, KNOWN, name)
    _only(spec["selector"], {"matchLabels"}, name)
    configs = []
    for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
        _only(endpoint, KNOWN_OF_ENDPOINT, name)
        rules: list[dict[str, Any]] = [
            {"source_labels": ["__meta_kubernetes_namespace"], "regex": re.escape(namespace), "action": "keep"},
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        ]
        for key, value in sorted(spec["selector"]["matchLabels"].items()):
            sources = [f"__meta_kubernetes_pod_{kind}_{label(key)}" for kind in ("label", "labelpresent")]
            rules.append({"source_labels": sources, "regex": f"({re.escape(value)});true", "action": "keep"})
        port = "__meta_kubernetes_pod_container_port_name"
        rules.append({"source_labels": [port], "regex": endpoint["port"], "action": "keep"})
        for source, target in (("namespace", "namespace"), ("pod_container_name", "container"), ("pod_name", "pod")):
            rules.append({"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target})
        for key in spec.get("podTargetLabels", []):
            source = f"__meta_kubernetes_pod_label_{label(key)}"
            rules.append({"source_labels": [source], "target_label": label(key), "regex": "(.+)", "replacement": "$1"})
        rules.append({"target_label": "job", "replacement": f"{namespace}/{name}"})
        rules.append({"target_label": "endpoint", "replacement": endpoint["port"]})
        rules += [
            {SNAKE.get(key, key): value for key, value in rule.items()} for rule in endpoint.get("relabelings", [])
        ]
        configs.append(
            {
                "job_name": f"podMonitor/{namespace}/{name}/{number}",
                "honor_labels": False,
                "file_sd_configs": [{"files": [targets_file], "refresh_interval": "5s"}],
                "scrape_interval": endpoint["interval"],
                "scrape_timeout": endpoint["scrapeTimeout"],
                "relabel_configs": rules,
            }
        )
    return configs


def _only(mapping: Mapping[str, Any], known: set[str], name: str) -> None:
    if unknown := sorted(set(mapping) - known):
        raise ValueError(f"PodMonitor {name} has {', '.join(unknown)}; only {', '.join(sorted(known))} are known here")
