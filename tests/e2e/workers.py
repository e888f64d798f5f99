"""Steps that change the workers of a run: more are allowed in the middle of it, and a draining one is deleted twice."""

from __future__ import annotations

import json

from tests.e2e.faults import WORKER, finished, goes_on, remove
from tests.e2e.quiet import QuietRuns
from tests.e2e.surroundings import (
    LONG,
    ZOO,
    deploy,
    done,
    expect,
    known_zoos,
    kubectl,
    pods,
    ready,
    say,
    sh,
    skip,
    submit,
    wait,
    zoo_cluster,
)

MOST = 3  # workers that the run asks for


def raised(quiet: QuietRuns) -> None:
    """maxReplicas is raised in mid-run while no node takes pods: status says what is missing, and the run goes on."""
    nodes = sh("kubectl", "get", "nodes", "-o", "name").split()
    deploy(f"workerGroups.cpu.maxReplicas={MOST}")
    remove(ZOO)
    name = submit(ZOO, *LONG)
    ray = wait(120, "its Ray cluster exists", lambda: _ray_cluster(name))
    _allow(ray, 1)  # the driver has asked for no worker yet
    wait(400, "the run commits", lambda: ZOO in known_zoos() and done()["done"] > 40)
    expect(len(pods(WORKER)) == 1, "with maxReplicas 1 it has one worker")
    sh("kubectl", "cordon", *nodes)
    try:
        _allow(ray, MOST)
        wait(200, "status says how many workers the run waits for", lambda: _waits(name))
        wait(100, "and why the new pods do not start", lambda: "were unschedulable" in zoo_cluster("status"))
        expect(len(ready(WORKER)) == 1, "there is still one worker")
        goes_on("with it")
    finally:
        sh("kubectl", "uncordon", *nodes)
    wait(300, "with nodes that take pods more workers are Ready", lambda: len(ready(WORKER)) > 1)
    wait(200, "status says no more that the run waits", lambda: not _waits(name))
    goes_on("with them")
    finished()
    quiet.same(LONG)
    deploy()


def twice(quiet: QuietRuns) -> None:
    """A worker's pod that is draining is deleted again without grace; the run goes on with another worker."""
    deploy()
    remove(ZOO)
    submit(ZOO, *LONG)
    wait(400, "the run commits", lambda: ZOO in known_zoos() and done()["done"] > 40)
    before = ready(WORKER)
    pod = before[0]
    kubectl("delete", "pod", pod, "--wait=false")
    if _drains(pod):
        kubectl("delete", "pod", pod, "--grace-period=1", "--wait=false")
        say(f"{pod} was deleted again while it drained")
    else:
        skip(f"a draining worker was not deleted twice: {pod} left at once")
    goes_on("after that", 300)
    wait(200, f"{pod} is gone", lambda: not kubectl("get", "pod", pod, "--ignore-not-found", "-o", "name"))
    wait(200, "another worker takes its place",
         lambda: set(ready(WORKER)) - set(before) or done()["state"] == "finished")  # fmt: skip
    finished()
    quiet.same(LONG)


def _ray_cluster(job: str) -> str:
    """The Ray cluster of a RayJob; empty if it does not exist yet."""
    name = kubectl("get", "rayjob", job, "-o", "jsonpath={.status.rayClusterName}").strip()
    return name if name and kubectl("get", "raycluster", name, "--ignore-not-found", "-o", "name") else ""


def _allow(ray: str, most: int) -> None:
    """Set maxReplicas of the first worker group of a Ray cluster. Its RayJob keeps the template as it was."""
    change = [{"op": "replace", "path": "/spec/workerGroupSpecs/0/maxReplicas", "value": most}]
    kubectl("patch", "raycluster", ray, "--type=json", "-p", json.dumps(change))


def _waits(job: str) -> list[str]:
    """The reasons for which the run waits, as `zoo cluster status` gives them."""
    said: list[str] = json.loads(zoo_cluster("status", "--json"))["waits"]
    return [text for text in said if text.startswith(f"{job} works with")]


def _drains(pod: str) -> bool:
    text = kubectl("get", "pod", pod, "--ignore-not-found", "-o", "json")
    return bool(text) and "deletionTimestamp" in json.loads(text)["metadata"]
