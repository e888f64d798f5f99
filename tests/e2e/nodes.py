"""Steps that need a second node; on one node they are skipped and counted."""

from __future__ import annotations

import json

from tests.e2e.faults import HEAD, WORKER, finished, goes_on
from tests.e2e.quiet import QuietRuns
from tests.e2e.surroundings import LONG, ZOO, done, expect, known_zoos, kubectl, pods, ready, sh, skip, submit, wait


def drain(quiet: QuietRuns) -> None:
    """The workers' node is drained, then the head's: its PodDisruptionBudget refuses the head, workers go on."""
    nodes = json.loads(sh("kubectl", "get", "nodes", "-o", "json"))["items"]
    names = [node["metadata"]["name"] for node in nodes if not node["spec"].get("unschedulable")]
    if len(names) < 2:
        skip("there is no second node: no node was drained")
        return
    before = done()["done"] if ZOO in known_zoos() else 0
    submit(ZOO, *LONG)
    wait(300, "the run commits", lambda: done()["state"] == "live" and done()["done"] > before + 40)
    (home,) = (pod["spec"]["nodeName"] for pod in pods(HEAD))
    try:
        # The worker may share the head's node at first: a new one has to go elsewhere.
        sh("kubectl", "cordon", home)
        for worker in pods(WORKER):
            if worker["spec"]["nodeName"] == home:
                kubectl("delete", "pod", worker["metadata"]["name"], "--wait=false")
        wait(
            300, "a worker is on another node", lambda: ready(WORKER) and _nodes(WORKER) and home not in _nodes(WORKER)
        )
        away = min(_nodes(WORKER))
        sh("kubectl", "uncordon", home)
        # Only the run's pods are evicted: the embedded store may be on either node, with a volume that ends with it.
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector")
        sh("kubectl", "drain", away, *options, WORKER, "--timeout=300s", seconds=400)
        expect(away not in _nodes(WORKER), f"the workers' node {away} is drained")
        goes_on("with the workers' node drained")
        sh("kubectl", "uncordon", away)
        said = sh("kubectl", "drain", home, *options, HEAD, "--timeout=60s", check=False, seconds=200)
        expect(_nodes(HEAD) == {home}, f"the budget keeps the head from being evicted: {said.strip()[-200:]}")
        goes_on("with the head's node cordoned")
    finally:
        sh("kubectl", "uncordon", *names, check=False)
    finished()
    quiet.same(LONG)


def _nodes(selector: str) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods(selector) if pod["spec"].get("nodeName")}
