"""The steps that change a run's workers, on a fake cluster: what they do to it, and what they find wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e import faults, runs, workers
from tests.e2e.surroundings import ZOO
from tests.support.e2e_steps import Step, play

JOB, RAY = "job-1", "ray-1"


class FakeRun:
    """One node and one run, whose autoscaler keeps as many workers as it may."""

    def __init__(self, *, says_what_it_waits_for: bool = True, drains: bool = True) -> None:
        self.says, self.drains = says_what_it_waits_for, drains
        self.open, self.most, self.made, self.done = True, workers.MOST, 1, 0
        self.workers = ["worker-0"]
        self.draining: list[str] = []
        self.zoos = [ZOO, f"{ZOO}-twin"]
        self.commands: list[str] = []

    def _look(self) -> None:
        """The autoscaler looks once."""
        while self.open and len(self.workers) < self.most:
            self.workers.append(f"worker-{self.made}")
            self.made += 1

    def sh(self, *command: str, **options: object) -> str:
        self.commands.append(" ".join(command[-4:]))
        match command:
            case ("kubectl", "get", "nodes", *_):
                return "node/a\n"
            case ("kubectl", ("cordon" | "uncordon") as verb, "node/a"):
                self.open = verb == "uncordon"
            case (*_, "store", "rm", zoo, "--yes"):
                self.zoos.remove(zoo)
        return ""

    def kubectl(self, *arguments: str) -> str:
        match arguments:
            case ("get", "rayjob", *_):
                return RAY
            case ("get", "raycluster", name, *_):
                return f"raycluster/{name}"
            case ("patch", "raycluster", name, "--type=json", "-p", text):
                assert name == RAY
                (change,) = json.loads(text)
                self.most = change["value"]
                del self.workers[self.most :]
                self.commands.append(f"{change['op']} {change['path']} {self.most}")
            case ("delete", "pod", name, "--wait=false"):
                self.workers.remove(name)
                self.draining += [name] if self.drains else []
            case ("delete", "pod", name, "--grace-period=1", "--wait=false"):
                self.draining.remove(name)
                self.commands.append("deleted twice")
            case ("get", "pod", name, *_):
                return json.dumps({"metadata": {"deletionTimestamp": "now"}}) if name in self.draining else ""
        return ""

    def zoo_cluster(self, verb: str, *options: str) -> str:
        missing = workers.MOST - len(self.workers) if self.most > 1 and self.says else 0
        said = [f"{JOB} works with {len(self.workers)} workers and waits for {missing} more"] if missing else []
        if "--json" in options:
            return json.dumps({"waits": said})
        return "" if self.open else "0/1 nodes are available: 1 node(s) were unschedulable"

    def ready(self, selector: str) -> list[str]:
        assert selector == faults.WORKER
        self._look()
        return list(self.workers)

    def status(self) -> dict[str, Any]:
        self.done += 20
        return {"done": self.done, "total": 10**6, "state": "live"}

    def submit(self, zoo: str, *options: str) -> str:
        self.zoos.append(zoo)
        return JOB


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Step, FakeRun], list[str]]:
    """Runs a step on a fake run. Returns what it skipped."""

    def on_run(step: Step, run: FakeRun) -> list[str]:
        fakes: dict[str, Any] = {
            "sh": run.sh, "kubectl": run.kubectl, "zoo_cluster": run.zoo_cluster, "ready": run.ready,
            "pods": run.ready, "done": run.status, "submit": run.submit, "known_zoos": lambda: list(run.zoos),
            "deploy": lambda *settings: run.commands.append(f"deploy {' '.join(settings)}".strip()),
        }  # fmt: skip
        return play(step, fakes, (workers, faults), monkeypatch)

    return on_run


def test_more_workers_are_allowed_while_no_node_takes_pods(played: Any) -> None:
    run = FakeRun()
    assert played(workers.raised, run) == []
    path = "replace /spec/workerGroupSpecs/0/maxReplicas"
    assert run.commands == [
        "get nodes -o name",
        f"deploy workerGroups.cpu.maxReplicas={workers.MOST}",
        f"store rm {ZOO}-twin --yes",
        f"store rm {ZOO} --yes",
        f"{path} 1",
        "kubectl cordon node/a",
        f"{path} {workers.MOST}",
        "kubectl uncordon node/a",
        "deploy",
    ]


def test_a_status_that_does_not_say_what_the_run_waits_for_fails_and_leaves_the_nodes_open(played: Any) -> None:
    run = FakeRun(says_what_it_waits_for=False)
    with pytest.raises(SystemExit, match="status says how many workers the run waits for"):
        played(workers.raised, run)
    assert run.open


def test_a_worker_that_drains_is_deleted_twice(played: Any) -> None:
    run = FakeRun()
    assert played(workers.twice, run) == []
    assert "deleted twice" in run.commands and "worker-0" not in run.workers


def test_a_worker_that_leaves_at_once_is_skipped_and_counted(played: Any) -> None:
    run = FakeRun(drains=False)
    (text,) = played(workers.twice, run)
    assert text == "a draining worker was not deleted twice: worker-0 left at once"
    assert "deleted twice" not in run.commands


@pytest.mark.parametrize(
    ("pods", "state", "left"),
    [("", "ended", ""), ("pod/head\nraycluster.ray.io/r\n", "ended", "pod/head, raycluster.ray.io/r"),
     ("", "running", "job-2")],
)  # fmt: skip
def test_what_runs_after_the_end_of_a_run_is_named(
    pods: str, state: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "kubectl", lambda *arguments: pods)
    monkeypatch.setattr(runs, "jobs", lambda: {"job-2": {"job": "job-2", "state": state}})
    if left:
        with pytest.raises(SystemExit, match=f"120 s after the end of the run these are left of it: {left}"):
            runs.nothing_runs()
    else:
        runs.nothing_runs()
