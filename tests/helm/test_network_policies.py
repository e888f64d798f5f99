"""The rendered NetworkPolicies against the list of connections that a release needs: those and no others."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.support.chart_render import Case, load, missing, render
from tests.support.network_policies import Endpoint, allowed

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

Flow = tuple[str, str, int, str]
STORE = {"storeCidrs": ["203.0.113.0/24"], "apiServerCidrs": ["10.0.0.1/32"]}
VALUES: dict[str, dict[str, Any]] = {
    "job": {"networkPolicy": {"enabled": True, "egress": {"enabled": True, **STORE}}, "gc": {"enabled": True}},
    "cluster": {"mode": "cluster", "networkPolicy": {"enabled": True, "egress": {"enabled": True, **STORE}}},
    "embedded": {
        "mode": "cluster",
        "storage": {"url": "", "existingSecret": "zoo-store"},
        "embeddedStore": {"enabled": True},
        "networkPolicy": {"enabled": True, "egress": {"enabled": True, "apiServerCidrs": ["10.0.0.1/32"]}},
    },
    "workload-identity": {
        "storage": {"url": "s3://my-bucket/zoos", "credentials": "workload-identity", "existingSecret": ""},
        "networkPolicy": {"enabled": True, "egress": {"enabled": True, **STORE}},
    },
}
RAY = ("head", "worker")
PODS = ("head", "worker", "exporter", "supervisor", "gc", "test")
TCP_PORTS = (80, 443, 988, 6443, 6379, 8080, 8265, 8333, 9095, 9333, 10007, 44217, 44227, 53)


def rendered(values: dict[str, Any]) -> Case:
    base = load("minimal")
    return Case("", {}, render({**base, **values, "storage": {**base["storage"], **values.get("storage", {})}}))


def endpoints(case: Case) -> dict[str, Endpoint]:
    """The release's pods with the labels that the chart renders, and the other ends of their connections."""
    known = {
        name: Endpoint(name, "zoos", template["metadata"]["labels"])
        for name, template in zip(("head", "worker"), case.ray_pods, strict=True)
    }
    for pod in case.pods:
        labels = pod["metadata"]["labels"]
        if component := labels.get("app.kubernetes.io/component"):
            ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", [])}
            known[component] = Endpoint(component, "zoos", labels, ports=ports)
    for one in (
        Endpoint("operator", "kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"}),
        Endpoint("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
        Endpoint("dns", "kube-system", {"k8s-app": "kube-dns"}),
        Endpoint("other-system-pod", "kube-system", {"k8s-app": "other"}),
        Endpoint("neighbour", "zoos", {"app": "else"}),
        Endpoint("other-namespace", "else", {"zooforge.io/release": "zoo", "k8s-app": "kube-dns"}),
        Endpoint("api-server", address="10.0.0.1"),
        Endpoint("bucket", address="203.0.113.5"),
        Endpoint("metadata", address="169.254.169.254"),
        Endpoint("internet", address="198.51.100.7"),
    ):
        known[one.name] = one
    return known


def needed(name: str, known: dict[str, Endpoint]) -> set[Flow]:
    """Every connection that must be possible."""
    ours = [pod for pod in PODS if pod in known]
    flows = {(pod, "dns", 53, protocol) for pod in ours for protocol in ("TCP", "UDP")}
    flows |= {(pod, peer, port, "TCP") for pod in RAY for peer in RAY for port in TCP_PORTS}
    flows |= {(pod, peer, port, "UDP") for pod in RAY for peer in RAY for port in (53,)}
    flows |= {("operator", "head", 8265, "TCP"), ("prometheus", "worker", 8080, "TCP")}
    flows |= {("prometheus", "head", port, "TCP") for port in (8080, 44217, 44227, 9095)}
    flows |= {(pod, "api-server", port, "TCP") for pod in ("head", "supervisor") for port in (443, 6443)}
    # The API server reads the exporter for `zoo cluster status`; figures only, so everybody may.
    may_leave = [one for one in known if one not in (*ours, "store")]
    flows |= {(one, "exporter", 9095, "TCP") for one in (*may_leave, "test")}
    if "store" in known:
        flows |= {(pod, "store", 8333, "TCP") for pod in ours}
    else:
        flows |= {(pod, "bucket", 443, "TCP") for pod in ours}
    if name in ("cluster", "embedded"):
        flows |= {("test", "head", 8265, "TCP")}
    if name == "workload-identity":
        flows |= {(pod, "metadata", port, "TCP") for pod in ours for port in (80, 988)}
    return flows


@pytest.mark.parametrize("name", VALUES)
def test_every_needed_connection_is_allowed_and_every_other_is_denied(name: str) -> None:
    case = rendered(VALUES[name])
    policies, known = case.kind("NetworkPolicy"), endpoints(case)
    ours = {pod for pod in (*PODS, "store") if pod in known}
    possible = {
        (source, target, port, protocol)
        for source, target in product(known, known)
        if source in ours or target in ours
        for port, protocol in [*((port, "TCP") for port in TCP_PORTS), (53, "UDP")]
        if (source != target or source in RAY) and allowed(policies, known[source], known[target], port, protocol)
    }
    wanted = needed(name, known)
    assert sorted(wanted - possible) == []
    assert sorted(possible - wanted) == []


def test_further_egress_is_for_the_release_s_pods_and_no_others() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 443}]}
    values: dict[str, Any] = {
        "networkPolicy": {"enabled": True, "egress": {"enabled": True, **STORE, "extraEgress": [rule]}}
    }
    case = rendered(values)
    known = endpoints(case)
    able = [
        one for one in PODS if one in known and allowed(case.kind("NetworkPolicy"), known[one], known["internet"], 443)
    ]
    assert able == ["head", "worker", "exporter", "supervisor", "test"]


def test_without_egress_rules_pods_may_connect_anywhere_and_still_few_may_connect_to_them() -> None:
    case = rendered({"networkPolicy": {"enabled": True}})
    policies, known = case.kind("NetworkPolicy"), endpoints(case)
    assert allowed(policies, known["head"], known["internet"], 443)
    assert not allowed(policies, known["neighbour"], known["head"], 8265)


def test_no_default_opens_every_address() -> None:
    for name in VALUES:
        assert "0.0.0.0/0" not in str(rendered(VALUES[name]).kind("NetworkPolicy"))
