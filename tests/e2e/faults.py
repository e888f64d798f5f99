"""Steps that remove parts of a cluster during a run."""

from __future__ import annotations

import json
import time

from tests.e2e.monitoring import ClusterPrometheus, observed
from tests.e2e.quiet import QuietRuns
from tests.e2e.surroundings import (
    CLUSTER,
    HERE,
    IMAGE,
    LONG,
    MEDIUM,
    NAMESPACE,
    PYTHON,
    VALUES,
    ZOO,
    apply,
    deploy,
    done,
    expect,
    jobs,
    known_zoos,
    kubectl,
    make_namespace,
    ready,
    say,
    sh,
    skip,
    store,
    submit,
    wait,
    zoo_cluster,
)

RUN = f"zooforge.io/zoo={ZOO}"
HEAD, WORKER = f"{RUN},ray.io/node-type=head", f"{RUN},ray.io/node-type=worker"

# Parts of the chart that a release leaves out if it is only the store of another release.
NOT_OF_A_STORE = ("exporter", "supervisor", "podDisruptionBudget", "networkPolicy", "networkPolicy.egress")


def faults(quiet: QuietRuns) -> None:
    """Worker, head, operator and RayJob are removed in turn; manifests and totals in Prometheus equal a local run's."""
    with observed() as prometheus:
        _faults(quiet, prometheus)


def _faults(quiet: QuietRuns, prometheus: ClusterPrometheus | None) -> None:
    before = done()["done"] if ZOO in known_zoos() else 0
    name = submit(ZOO, *LONG)
    wait(300, "the run commits", lambda: done()["state"] == "live" and done()["done"] > before + 40)
    if prometheus:
        prometheus.expect_targets(ready(HEAD)[0], ready(WORKER)[0])
    kubectl("delete", "pod", ready(WORKER)[0], "--wait=false")
    goes_on("after a worker was deleted")
    first = ready(HEAD)[0]
    kubectl("delete", "pod", first, "--grace-period=1", "--wait=false")
    goes_on("after the head was lost")
    if prometheus:
        prometheus.expect_restart(first, ready(HEAD)[0])
    sh(*CLUSTER, "kill", "kuberay-operator", check=False)
    goes_on("without the operator")
    sh(*CLUSTER, "up", check=False)
    uid = kubectl("get", "rayjob", name, "-o", "jsonpath={.metadata.uid}")
    kubectl("delete", "rayjob", name, "--wait=false")
    wait(400, "the RayJob was deleted and its work goes on", lambda: new_job(uid) or done()["state"] == "finished")
    if not new_job(uid):  # on a busy machine the operator may return after the driver has trained everything
        skip("a RayJob that is deleted is submitted again: the run finished before its Ray cluster was deleted")
    finished()
    if prometheus:
        prometheus.expect_totals()
    quiet.same(LONG)


def goes_on(when: str, seconds: float = 400) -> None:
    """Wait until 30 more model-epochs are committed, or the rest if that is less."""
    mark = done()
    goal = max(mark["done"] + 1, min(mark["done"] + 31, mark["total"]))
    wait(seconds, f"{when} the run goes on", lambda: done()["done"] >= goal)


def finished(where: tuple[str, str] = HERE) -> None:
    wait(900, "the run finished", lambda: done(where=where)["state"] == "finished" and done(where=where)["version"])
    wait(300, "its job ended", lambda: all(row["state"] in ("ended", "failed") for row in jobs().values()))
    say(f"losses of the run: {json.dumps({key: n for key, n in done(where=where)['losses'].items() if n})}")


def remove(zoo: str) -> None:
    """Remove a zoo and its twins from the store, so that a run begins from nothing."""
    for name in sorted(known_zoos(), reverse=True):  # twins before the zoo that they descend from
        if name.startswith(zoo):
            with store() as env:
                sh(*PYTHON, "store", "rm", name, "--yes", env=env)


def new_job(uid: str) -> bool:
    """True if there is a RayJob with another uid."""
    items = json.loads(kubectl("get", "rayjobs", "-o", "json"))["items"]
    alive = [job for job in items if job.get("status", {}).get("jobDeploymentStatus") not in ("Complete", "Failed")]
    return bool(alive) and all(job["metadata"]["uid"] != uid for job in alive)


def namespace(quiet: QuietRuns) -> None:
    """A run's namespace is deleted and deployed again; its store is in another namespace, and the run goes on."""
    elsewhere = f"{NAMESPACE}-store"
    where = (elsewhere, "outside")
    values = ["-f", str(VALUES), "--embedded-store", "--image", IMAGE, "--wait", "300"]
    off = [word for part in NOT_OF_A_STORE for word in ("--set", f"{part}.enabled=false")]
    sh(*PYTHON, "cluster", "deploy", *values, *off, "--namespace", elsewhere, "--release", "outside")
    credentials = json.loads(sh("kubectl", "-n", elsewhere, "get", "secret", "zoo-store", "-o", "json"))["data"]

    def deploy_again(*settings: str) -> None:
        make_namespace()
        apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "zoo-store"}, "data": credentials})
        outside = ["--store", "s3://zoos", "--secret", "zoo-store"]
        for setting in (f"storage.endpoint=http://outside-store.{elsewhere}.svc:8333", "embeddedStore.enabled=false",
                        "networkPolicy.egress.enabled=false", *settings):  # fmt: skip
            outside += ["--set", setting]
        zoo_cluster("deploy", "-f", str(VALUES), "--image", IMAGE, "--wait", "300", *outside)

    # One worker at first, and short drains: otherwise the run ends before the namespace is deleted.
    deploy_again("workerGroups.cpu.maxReplicas=1", "drain.timeoutSeconds=20", "drain.gracePeriodSeconds=40")
    submit(ZOO, *LONG)
    wait(400, "the run commits", lambda: ZOO in known_zoos(where) and done(where=where)["done"] > 100)
    sh("kubectl", "delete", "namespace", NAMESPACE, "--wait=true", "--timeout=300s", seconds=400)
    mark = done(where=where)
    expect(
        mark["done"] < mark["total"],
        f"the namespace is gone with {mark['done']} of {mark['total']} model-epochs committed, losses {mark['losses']}",
    )
    deploy_again()
    wait(500, "the supervisor of the new release submitted again", jobs)
    finished(where)
    quiet.same(LONG, where)
    zoo_cluster("undeploy", "--yes")
    sh("kubectl", "delete", "namespace", elsewhere, NAMESPACE, "--wait=true", "--timeout=300s", seconds=700)


def unschedulable(quiet: QuietRuns) -> None:
    """The head is lost and fits no node for six minutes, longer than KubeRay waits for a dashboard by default."""
    label = "zooforge.io/e2e-head"
    nodes = sh("kubectl", "get", "nodes", "-o", "name").split()
    sh("kubectl", "label", "--overwrite", *nodes, f"{label}=here")
    dotted = label.replace(".", "\\.")
    deploy(f"head.nodeSelector.{dotted}=here")
    before = done()["done"] if ZOO in known_zoos() else 0
    name = submit(ZOO, *MEDIUM)
    wait(400, "the run commits", lambda: ZOO in known_zoos() and done()["done"] > before + 100)
    uid = kubectl("get", "rayjob", name, "-o", "jsonpath={.metadata.uid}")
    sh("kubectl", "label", *nodes, f"{label}-")
    try:
        kubectl("delete", "pod", ready(HEAD)[0], "--grace-period=1", "--wait=false")
        began = time.monotonic()
        wait(200, "status says why the head waits", lambda: "no node has the requested labels" in zoo_cluster("status"))
        time.sleep(max(0.0, 360 - (time.monotonic() - began)))
        say(f"after six minutes the RayJob is {jobs()[name]['state']}: {jobs()[name]['reason']}")
    finally:
        sh("kubectl", "label", "--overwrite", *nodes, f"{label}=here")
    wait(600, "with a node again the run goes on", lambda: done()["state"] in ("live", "finished"))
    say("under a RayJob that the supervisor submitted" if new_job(uid) else "under its old RayJob")
    finished()
    quiet.same(MEDIUM)
    sh("kubectl", "label", *nodes, f"{label}-")
    deploy()
