"""Steps that need a second node; without one they are skipped and counted.

The verbs of CLUSTER for it: `node2 up` starts it, or starts it again, `node2 cut` and `node2 mend` are for its network
cable, and `node2 kill` cuts its power. The embedded store, exporter and supervisor are on the first node.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from tests.e2e.faults import HEAD, WORKER, finished, goes_on, new_job, remove
from tests.e2e.quiet import QuietRuns
from tests.e2e.surroundings import (
    CLUSTER,
    IMAGE,
    IMAGE_TOOL,
    LONG,
    ZOO,
    deploy,
    done,
    expect,
    jobs,
    known_zoos,
    kubectl,
    make_namespace,
    pods,
    ready,
    say,
    sh,
    skip,
    submit,
    wait,
)

CUT_SECONDS = 180.0
# Until other workers have continued with the models of a node that is lost: a minute until Ray gives the workers up,
# their grace period of two, then one for the kubelet, one for the supervisor's next pass, and the start of workers.
WORKERS_SECONDS = 480.0
# The same for the head's node: KubeRay waits 300 s for the dashboard, the supervisor pauses, a Ray cluster starts.
HEAD_SECONDS = 900.0


def drain(quiet: QuietRuns) -> None:
    """The workers' node is drained, then the head's; a PodDisruptionBudget keeps the head, and the workers go on."""
    with _two_nodes("no node was drained", verbs=False) as names:
        if not names:
            return
        home, away = names
        _begin(head=home, workers=away)
        # Only the run's pods are evicted: others do not belong to this test.
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector")
        sh("kubectl", "drain", away, *options, WORKER, "--timeout=300s", seconds=400)
        expect(away not in _nodes(WORKER), f"the workers' node {away} is drained")
        goes_on("with the workers' node drained")
        sh("kubectl", "uncordon", away)
        said = sh("kubectl", "drain", home, *options, HEAD, "--timeout=60s", check=False, seconds=200)
        expect(_nodes(HEAD) == {home}, f"the budget keeps the head from being evicted: {said.strip()[-200:]}")
        goes_on("with the head's node cordoned")
        sh("kubectl", "uncordon", home)
        _end(quiet)


def cable(quiet: QuietRuns) -> None:
    """The cable of the workers' node is cut for three minutes and mended, then that of the head's node."""
    with _two_nodes("no cable was cut") as names:
        if not names:
            return
        first, second = names
        _begin(head=first, workers=second)
        cut_off = ready(WORKER)
        began = time.monotonic()
        _node2("cut")
        wait(WORKERS_SECONDS, "workers that replace those without a cable are Ready",
             lambda: set(ready(WORKER)) - set(cut_off))  # fmt: skip
        goes_on("with the workers' cable cut", WORKERS_SECONDS)
        time.sleep(max(0.0, CUT_SECONDS - (time.monotonic() - began)))
        _node2("mend")
        say(f"the cable is mended after {time.monotonic() - began:.0f} s")
        wait(120, f"{second} is Ready", lambda: _is_ready(second))
        wait(300, "each worker that had no cable is Ready again or gone",
             lambda: all(_pod_state(name).startswith(("Ready", "gone")) for name in cut_off))  # fmt: skip
        say(f"beside their replacements: {', '.join(f'{name} is {_pod_state(name)}' for name in cut_off)}")
        goes_on("with the workers' cable mended")
        uid = _begin_on_second(first, second)
        _node2("cut")
        time.sleep(CUT_SECONDS)
        say(f"with the head's cable cut for {CUT_SECONDS:.0f} s: {[row['state'] for row in jobs().values()]}")
        _node2("mend")
        wait(120, f"{second} is Ready", lambda: _is_ready(second))
        goes_on("with the head's cable mended")
        say("under a new RayJob" if new_job(uid) else "under its old RayJob")
        _end(quiet)


def power(quiet: QuietRuns) -> None:
    """The workers' node loses its power and starts again, then the head's node."""
    with _two_nodes("no power was cut") as names:
        if not names:
            return
        first, second = names
        _begin(head=first, workers=second)
        _node2("kill")
        time.sleep(10)  # the driver commits the parts that it has
        goes_on("without power at the workers' node", WORKERS_SECONDS)
        _start_again(second)
        uid = _begin_on_second(first, second)
        _node2("kill")
        time.sleep(10)
        goes_on("without power at the head's node", HEAD_SECONDS)
        say("under a new RayJob" if new_job(uid) else "under its old RayJob")
        _start_again(second)
        _end(quiet)


@contextlib.contextmanager
def _two_nodes(consequence: str, verbs: bool = True) -> Iterator[tuple[str, str] | None]:
    """Deploy the release on two nodes. Yields their names, the first one and the one that the verbs of `node2` are for.

    Args:
        consequence: what is said where this is not possible; None is yielded then.
        verbs: whether the block uses the verbs of `node2`.
    """
    can = sh(*CLUSTER, "node2", "up", check=False).startswith("0 ")
    nodes = _schedulable()
    if len(nodes) < 2 or (verbs and not can):
        skip(f"there is no second node{'' if len(nodes) < 2 else ' with the verbs of node2'}: {consequence}")
        yield None
        return
    first, second = nodes[0]["metadata"]["name"], nodes[-1]["metadata"]["name"]
    if not any(IMAGE in image["names"] for image in nodes[-1]["status"].get("images", [])):
        sh(*IMAGE_TOOL, "load", IMAGE)
    make_namespace()
    deploy(f"exporter.nodeSelector.kubernetes\\.io/hostname={first}")
    try:
        yield first, second
    finally:
        if can:
            _node2("mend", check=False)
            _node2("up", check=False)
        sh("kubectl", "uncordon", first, second, check=False)


def _schedulable() -> list[dict[str, Any]]:
    """The nodes that take pods, the oldest first."""
    nodes = json.loads(sh("kubectl", "get", "nodes", "-o", "json"))["items"]
    nodes = [node for node in nodes if not node["spec"].get("unschedulable")]
    return sorted(nodes, key=lambda node: str(node["metadata"]["creationTimestamp"]))


def _begin(head: str, workers: str) -> None:
    """Start a run from nothing, with its head on one node and its workers on the other."""
    remove(ZOO)
    sh("kubectl", "cordon", workers)
    submit(ZOO, *LONG)
    wait(400, "the run commits", lambda: ZOO in known_zoos() and done()["done"] > 40)
    _place(head, workers)


def _begin_on_second(first: str, second: str) -> str:
    """Move the head of the run to the second node and its workers to the first. Returns the uid of its RayJob."""
    _place(head=second, workers=first)
    goes_on(f"with its head on {second}")
    (name,) = [row["job"] for row in jobs().values() if row["state"] not in ("ended", "failed")]
    return kubectl("get", "rayjob", name, "-o", "jsonpath={.metadata.uid}")


def _place(head: str, workers: str) -> None:
    """Delete pods of the run that are on the wrong node, and wait until its head and its workers are on theirs."""
    sh("kubectl", "cordon", workers)
    for pod in pods(HEAD):
        if pod["spec"].get("nodeName") != head:
            kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=1", "--wait=false")
    wait(300, f"the head is on {head}", lambda: ready(HEAD) and _nodes(HEAD) == {head})
    sh("kubectl", "cordon", head)
    sh("kubectl", "uncordon", workers)
    for pod in pods(WORKER):
        if pod["spec"].get("nodeName") == head:
            kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    wait(400, f"its workers are on {workers}", lambda: ready(WORKER) and _nodes(WORKER) == {workers})
    sh("kubectl", "uncordon", head)


def _end(quiet: QuietRuns) -> None:
    finished()
    quiet.same(LONG)


def _node2(verb: str, check: bool = True) -> None:
    sh(*CLUSTER, "node2", verb, check=check)


def _start_again(node: str) -> None:
    """Start the second node after its power was cut."""
    _node2("mend", check=False)
    _node2("up")
    wait(120, f"{node} is Ready", lambda: _is_ready(node))


def _is_ready(node: str) -> bool:
    return _true(json.loads(sh("kubectl", "get", "node", node, "-o", "json"))["status"], "Ready")


def _pod_state(name: str) -> str:
    text = kubectl("get", "pod", name, "--ignore-not-found", "-o", "json")
    if not text:
        return "gone"
    status = json.loads(text)["status"]
    restarts = sum(one["restartCount"] for one in status.get("containerStatuses", []))
    return f"{'Ready' if _true(status, 'Ready') else 'not Ready'} after {restarts} restarts"


def _true(status: dict[str, Any], kind: str) -> bool:
    return any(one["type"] == kind and one["status"] == "True" for one in status.get("conditions", []))


def _nodes(selector: str) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods(selector) if pod["spec"].get("nodeName")}
