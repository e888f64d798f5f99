"""Evaluates rendered NetworkPolicies as a network plugin does: may this endpoint connect to that one?

Only the fields that the chart renders are known; anything else is refused, so that no rule is ignored silently.
Source: the API reference of networking.k8s.io/v1 NetworkPolicy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """A pod, or an address outside the cluster if ``namespace`` is empty."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.244.0.9"
    ports: Mapping[str, int] = field(default_factory=dict)
    """Named ports of the pod."""


def allowed(policies: Iterable[Policy], source: Endpoint, target: Endpoint, port: int, protocol: str = "TCP") -> bool:
    """True if a connection is possible: the source's egress and the target's ingress must both allow it."""
    policies = list(policies)
    return _direction(policies, "Egress", source, target, target, port, protocol) and _direction(
        policies, "Ingress", target, source, target, port, protocol
    )


def _direction(
    policies: list[Policy], kind: str, own: Endpoint, peer: Endpoint, target: Endpoint, port: int, protocol: str
) -> bool:
    rules_key, peers_key = ("egress", "to") if kind == "Egress" else ("ingress", "from")
    isolated = False
    for policy in policies:
        spec = policy["spec"]
        _only(spec, {"podSelector", "policyTypes", "ingress", "egress"})
        here = policy["metadata"]["namespace"]
        if own.namespace != here or kind not in spec["policyTypes"] or not _selects(spec["podSelector"], own.labels):
            continue
        isolated = True
        for rule in spec.get(rules_key) or []:
            _only(rule, {peers_key, "ports"})
            ports = rule.get("ports")
            if ports and not any(_port(one, target, port, protocol) for one in ports):
                continue
            peers = rule.get(peers_key)
            if not peers or any(_peer(one, here, peer) for one in peers):
                return True
    return not isolated


def _port(rule: Mapping[str, Any], target: Endpoint, port: int, protocol: str) -> bool:
    _only(rule, {"port", "protocol"})
    number = target.ports.get(rule["port"]) if isinstance(rule["port"], str) else rule["port"]
    return number == port and rule.get("protocol", "TCP") == protocol


def _peer(rule: Mapping[str, Any], here: str, peer: Endpoint) -> bool:
    _only(rule, {"podSelector", "namespaceSelector", "ipBlock"})
    if "ipBlock" in rule:
        _only(rule["ipBlock"], {"cidr"})
        inside = ipaddress.ip_address(peer.address) in ipaddress.ip_network(rule["ipBlock"]["cidr"])
        return not peer.namespace and inside
    if not peer.namespace:
        return False
    if "namespaceSelector" in rule:
        if not _selects(rule["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != here:
        return False
    return _selects(rule.get("podSelector", {}), peer.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    _only(selector, {"matchLabels", "matchExpressions"})
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", []):
        if one["operator"] != "In":
            raise ValueError(f"operator {one['operator']} is not known here")
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


def _only(value: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(value) - known):
        raise ValueError(f"a policy has {', '.join(unknown)}; only {', '.join(sorted(known))} are known here")
