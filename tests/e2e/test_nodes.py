"""The steps of two nodes on a fake cluster: what they do to its nodes and pods, and that one node is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e import faults, nodes, surroundings
from tests.e2e.surroundings import CLUSTER, IMAGE_TOOL, ZOO
from tests.support.e2e_steps import Step, play


class FakeCluster:
    """Nodes a and b with a head and a worker, which start again elsewhere if their node is lost. Work goes on."""

    def __init__(self, number: int, verbs: bool = True) -> None:
        self.nodes = dict.fromkeys("ab"[:number], True)  # whether it takes pods
        self.verbs, self.lost = verbs, False
        self.pods = {"head-0": "a", "worker-0": "a"}
        self.commands: list[str] = []
        self.lost_nodes: list[dict[str, str]] = []  # where head and worker were when the second node was lost
        self.done, self.made, self.zoos = 0, 0, [ZOO]

    def sh(self, *command: str, check: bool = True, **options: object) -> str:
        self.commands.append(" ".join(command).removeprefix(" ".join(CLUSTER) + " "))
        match command:
            case (*_, "node2", verb):
                if not self.verbs:
                    return "2 no such verb"
                self.nodes.setdefault("b", True)
                if verb in ("cut", "kill"):
                    self.lost_nodes.append({pod.partition("-")[0]: node for pod, node in self.pods.items()})
                self.lost = {"up": False, "cut": True, "mend": False, "kill": True}[verb]
                self._replace(lambda name, node: self.lost and node == "b")
                return "0 "
            case ("kubectl", ("cordon" | "uncordon") as verb, *names):
                self.nodes.update(dict.fromkeys(names, verb == "uncordon"))
            case ("kubectl", "drain", name, *_):
                self.nodes[name] = False
                self._replace(lambda pod, node: node == name and pod.startswith("worker"))
            case ("kubectl", "get", "nodes", *_):
                return json.dumps({"items": [self._node(name) for name in reversed(self.nodes)]})
            case ("kubectl", "get", "node", name, *_):
                return json.dumps(self._node(name))
            case (*_, "store", "rm", zoo, "--yes"):
                self.zoos.remove(zoo)
        return ""

    def kubectl(self, *arguments: str) -> str:
        if arguments[:2] == ("delete", "pod"):
            self._replace(lambda pod, node: pod == arguments[2])
        return "uid" if arguments[:2] == ("get", "rayjob") else ""

    def listed(self, selector: str) -> list[dict[str, Any]]:
        kind = "head" if selector == faults.HEAD else "worker"
        return [
            {"metadata": {"name": pod}, "spec": {"nodeName": node}}
            for pod, node in self.pods.items()
            if pod.startswith(kind)
        ]

    def status(self) -> dict[str, Any]:
        self.done += 20
        return {"done": self.done, "total": 10**6}

    def submit(self, zoo: str, *options: str) -> str:
        self.zoos.append(zoo)
        return zoo

    def _replace(self, lost: Callable[[str, str], bool]) -> None:
        for pod in [pod for pod, node in self.pods.items() if lost(pod, node)]:
            del self.pods[pod]
            self.made += 1
            takes = [name for name, open_ in self.nodes.items() if open_ and not (self.lost and name == "b")]
            self.pods[f"{pod.partition('-')[0]}-{self.made}"] = takes[0]

    def _node(self, name: str) -> dict[str, Any]:
        up = "True" if name == "a" or not self.lost else "Unknown"
        return {
            "metadata": {"name": name, "creationTimestamp": f"2026-11-30T10:00:0{'ab'.index(name)}Z"},
            "spec": {} if self.nodes[name] else {"unschedulable": True},
            "status": {"conditions": [{"type": "Ready", "status": up}]},
        }


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Step, FakeCluster], list[str]]:
    """Runs a step on a fake cluster. Returns what it skipped."""

    def on_cluster(step: Step, cluster: FakeCluster) -> list[str]:
        fakes: dict[str, Any] = {
            "sh": cluster.sh, "kubectl": cluster.kubectl, "pods": cluster.listed, "done": cluster.status,
            "ready": lambda selector: [pod["metadata"]["name"] for pod in cluster.listed(selector)],
            "submit": cluster.submit, "known_zoos": lambda: list(cluster.zoos),
            "deploy": lambda *settings: cluster.commands.append(f"deploy {' '.join(settings)}"),
            "make_namespace": lambda: None, "jobs": lambda: {"j": {"job": "j", "state": "running"}},
            "new_job": lambda uid: False,
        }  # fmt: skip
        return play(step, fakes, (nodes, faults), monkeypatch)

    return on_cluster


@pytest.mark.parametrize("step", [nodes.drain, nodes.cable, nodes.power])
def test_without_a_second_node_a_step_is_skipped_and_counted(step: Step, played: Any) -> None:
    cluster = FakeCluster(1, verbs=False)
    (text,) = played(step, cluster)
    assert text.startswith("there is no second node: no ")
    assert cluster.commands == ["node2 up", "kubectl get nodes -o json"]


@pytest.mark.parametrize("step", [nodes.cable, nodes.power])
def test_two_nodes_without_the_verbs_of_the_second_are_left_alone(step: Step, played: Any) -> None:
    cluster = FakeCluster(2, verbs=False)
    (text,) = played(step, cluster)
    assert text.startswith("there is no second node with the verbs of node2: no ")
    assert cluster.commands == ["node2 up", "kubectl get nodes -o json"]


@pytest.mark.parametrize(
    ("step", "verbs"),
    [
        (nodes.drain, ["up", "mend", "up"]),
        (nodes.cable, ["up", "cut", "mend", "cut", "mend", "mend", "up"]),
        (nodes.power, ["up", "kill", "mend", "up", "kill", "mend", "up", "mend", "up"]),
    ],
)
def test_a_step_ends_with_both_nodes_as_they_were(step: Step, verbs: list[str], played: Any) -> None:
    cluster = FakeCluster(1)
    assert played(step, cluster) == []
    assert [text.removeprefix("node2 ") for text in cluster.commands if text.startswith("node2")] == verbs
    assert cluster.nodes == {"a": True, "b": True} and not cluster.lost
    assert cluster.commands[2:4] == [
        " ".join([*IMAGE_TOOL, "load", surroundings.IMAGE]),
        "deploy exporter.nodeSelector.kubernetes\\.io/hostname=a",
    ]


@pytest.mark.parametrize("step", [nodes.cable, nodes.power])
def test_the_node_that_is_lost_has_the_workers_first_and_the_head_second(step: Step, played: Any) -> None:
    cluster = FakeCluster(2)
    played(step, cluster)
    assert cluster.lost_nodes == [{"head": "a", "worker": "b"}, {"head": "b", "worker": "a"}]
