"""End to end on a real Kubernetes: `make e2e`. Each step prints what it saw and how long it took.

CLUSTER and IMAGE_TOOL are commands with the verbs up, down, env, load, gpu, exec, kill and build, load; the project's
own, for kind and docker, lie in cluster/adapters. A step can be named alone: python tests/e2e/e2e.py faults
`chaos` names the slow faults: the namespace deleted in the middle of a run, the head without a node for six minutes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = shlex.split(os.environ.get("CLUSTER", str(ROOT / "cluster" / "adapters" / "kind")))
IMAGE_TOOL = shlex.split(os.environ.get("IMAGE_TOOL", str(ROOT / "cluster" / "adapters" / "docker")))
IMAGE = os.environ.get("IMAGE", "localhost/zooforge:dev")
NAMESPACE = os.environ.get("E2E_NAMESPACE", "zoos-e2e")
RELEASE, ZOO = "zooforge", "mnist5k-cnn-s"
STORE = (NAMESPACE, RELEASE)  # where the embedded store is
VALUES = Path(__file__).parent / "values.yaml"
PYTHON = [sys.executable, "-c", "import sys, zooforge; sys.exit(zooforge.main())"]
SMALL = ["--models", "0:32", "--epochs", "4", "--twin-epochs", "2"]
LONG = ["--models", "0:96", "--epochs", "24", "--no-twins"]
MEDIUM = ["--models", "0:48", "--epochs", "16", "--no-twins"]


def sh(*command: str, check: bool = True, env: dict[str, str] | None = None, seconds: float = 900) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, env={**os.environ, **(env or {})}
    )
    if check and done.returncode:
        raise SystemExit(f"FAIL  {shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    return done.stdout if check else f"{done.returncode} {done.stdout}{done.stderr}"


def kubectl(*arguments: str, check: bool = True) -> str:
    return sh("kubectl", "-n", NAMESPACE, *arguments, check=check)


def zoo_cluster(verb: str, *arguments: str, check: bool = True) -> str:
    return sh(*PYTHON, "cluster", verb, *arguments, "--namespace", NAMESPACE, check=check)


def deploy(*settings: str) -> None:
    """Install or upgrade the release; its store is the embedded one unless the settings name another."""
    options = [word for setting in settings for word in ("--set", setting)]
    zoo_cluster("deploy", "-f", str(VALUES), "--embedded-store", "--image", IMAGE, "--wait", "300", *options)


def say(text: str) -> None:
    print(f"pass  {text}", flush=True)


def expect(condition: object, what: str) -> None:
    if not condition:
        raise SystemExit(f"FAIL  {what}")
    say(what)


def wait(seconds: float, what: str, condition: Callable[[], Any]) -> Any:
    began = time.monotonic()
    while True:
        with contextlib.suppress(SystemExit, subprocess.TimeoutExpired):
            if found := condition():
                say(f"{what} after {time.monotonic() - began:.0f} s")
                return found
        if time.monotonic() - began > seconds:
            raise SystemExit(f"FAIL  not within {seconds:.0f} s: {what}\n{zoo_cluster('status', check=False)}")
        time.sleep(2)


def pods(selector: str) -> list[dict[str, Any]]:
    items = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]


def jobs() -> dict[str, dict[str, Any]]:
    rows = json.loads(zoo_cluster("status", "--json"))["runs"]
    return {row["job"]: row for row in rows}


@contextlib.contextmanager
def store() -> Iterator[dict[str, str]]:
    """Environment of a client outside the cluster, while a port-forward to the store lives."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    there, release = STORE
    secret = json.loads(sh("kubectl", "-n", there, "get", "secret", "zoo-store", "-o", "json"))["data"]["credentials"]
    command = ["kubectl", "-n", there, "port-forward", f"svc/{release}-store", f"{port}:8333"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "credentials"
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(secret))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forward:
            time.sleep(2)
            try:
                yield {
                    "AWS_SHARED_CREDENTIALS_FILE": str(path),
                    "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                    "AWS_REGION": "us-east-1",
                    "ZOO_STORE": "s3://zoos",
                }
            finally:
                forward.terminate()


def done(zoo: str = ZOO) -> dict[str, Any]:
    """`zoo status` of the zoo, from outside."""
    with store() as env:
        status: dict[str, Any] = json.loads(sh(*PYTHON, "status", zoo, "--json", env=env))
        return status


def manifests(env: dict[str, str]) -> dict[str, bytes]:
    """The bytes of the newest manifest of each zoo of a store."""
    code = (
        "import os, sys, json\n"
        "from storage.object_store import open_store\n"
        "s = open_store(os.environ['ZOO_STORE']); found = {}\n"
        "for stat in s.list('zoos/'):\n"
        "    if stat.key.endswith('/manifest.json'):\n"
        "        found[stat.key.split('/')[1]] = s.get(stat.key)[0].hex()\n"
        "print(json.dumps(found))\n"
    )
    return {name: bytes.fromhex(text) for name, text in json.loads(sh(sys.executable, "-c", code, env=env)).items()}


def same_as_local(options: list[str]) -> None:
    """Compare the cluster's manifests with those of the same request run here."""
    with tempfile.TemporaryDirectory() as folder:
        sh(*PYTHON, "run", ZOO, *options, "--store", folder, "--no-metrics", "--quiet")
        here = manifests({"ZOO_STORE": folder})
    with store() as env:
        there = manifests(env)
    expect(
        {k: v for k, v in there.items() if k in here} == here,
        f"{len(here)} manifests are those of a local run, byte for byte",
    )


def install() -> None:
    """Chart installed in a restricted namespace; tokens; helm test; upgrade of an autoscaled cluster; least rights."""
    kubectl("create", "namespace", NAMESPACE, check=False)
    sh("kubectl", "label", "--overwrite", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    deploy("mode=cluster", "workerGroups.cpu.minReplicas=1")
    wait(300, "head and worker are Ready", lambda: len(ready(f"ray.io/cluster={RELEASE}")) == 2)
    expect(
        "FAIL" not in sh("helm", "test", RELEASE, "-n", NAMESPACE, "--logs", seconds=300),
        "helm test passes, 401 without the token",
    )
    before = {pod["metadata"]["uid"] for pod in pods(f"ray.io/cluster={RELEASE}")}
    deploy("mode=cluster", "workerGroups.cpu.minReplicas=1", "workerGroups.cpu.maxReplicas=3")
    time.sleep(15)
    expect(
        before == {pod["metadata"]["uid"] for pod in pods(f"ray.io/cluster={RELEASE}")}, "helm upgrade restarts no pod"
    )
    unrestricted = [
        container["name"]
        for pod in pods("")
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
        if not container["securityContext"].get("readOnlyRootFilesystem")
        or container["securityContext"].get("capabilities") != {"drop": ["ALL"]}
    ]
    expect(not unrestricted, "no container has a writable root or a capability")
    account = f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}"
    for verb, kind in (("get", "secrets"), ("create", "pods"), ("delete", "pods")):
        expect(
            "no" in kubectl("auth", "can-i", verb, kind, account, check=False), f"Ray's account may not {verb} {kind}"
        )
    deploy()
    wait(180, "the standing cluster is gone", lambda: not pods(f"ray.io/cluster={RELEASE}"))


def ready(selector: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in pods(selector)
        if all(status["ready"] for status in pod["status"].get("containerStatuses") or [{"ready": False}])
    ]


def run() -> None:
    """One run from train to verify, the same submitted twice, its manifests compared with a local run's."""
    submitted = zoo_cluster("submit", ZOO, *SMALL, "--yes")
    expect("lives already" in zoo_cluster("submit", ZOO, *SMALL, "--yes"), f"{submitted.strip()}; twice is one run")
    expect(
        zoo_cluster("submit", ZOO, "--epochs", "9", "--yes", check=False).startswith("1 "), "another request is refused"
    )
    name = submitted.split()[-1]
    wait(600, f"{name} ended", lambda: jobs()[name]["state"] == "ended")
    expect("8 equal" in zoo_cluster("logs", ZOO, check=False), "the driver's log is the pod's")
    same_as_local(SMALL)


def faults() -> None:
    """Worker, head, operator and RayJob are lost, one after the other; the manifests are those of a quiet run."""
    selector = f"zooforge.io/zoo={ZOO}"
    name = zoo_cluster("submit", ZOO, *LONG, "--yes").split()[-1]
    before = done()["done"] if ZOO in known_zoos() else 0
    wait(300, "the run commits", lambda: done()["state"] == "live" and done()["done"] > before + 40)
    kubectl("delete", "pod", ready(f"{selector},ray.io/node-type=worker")[0], "--wait=false")
    goes_on("after a worker was deleted")
    kubectl("delete", "pod", ready(f"{selector},ray.io/node-type=head")[0], "--grace-period=1", "--wait=false")
    goes_on("after the head was lost")
    sh(*CLUSTER, "kill", "kuberay-operator", check=False)
    goes_on("without the operator")
    sh(*CLUSTER, "up", check=False)
    uid = kubectl("get", "rayjob", name, "-o", "jsonpath={.metadata.uid}")
    kubectl("delete", "rayjob", name, "--wait=false")
    wait(400, "the supervisor submitted again", lambda: new_job(uid))
    wait(900, "the run finished", lambda: done()["state"] == "finished" and done()["version"])
    wait(300, "its job ended", lambda: all(row["state"] == "ended" for row in jobs().values()))
    same_as_local(LONG)


def goes_on(when: str) -> None:
    mark = done()["done"]
    wait(400, f"{when} the run goes on", lambda: done()["done"] > mark + 30)


def known_zoos() -> list[str]:
    with store() as env:
        return [row["zoo"] for row in json.loads(sh(*PYTHON, "store", "ls", "--json", env=env))]


def new_job(uid: str) -> bool:
    """Whether a RayJob lives that is not the one of this uid."""
    items = json.loads(kubectl("get", "rayjobs", "-o", "json"))["items"]
    alive = [job for job in items if job.get("status", {}).get("jobDeploymentStatus") not in ("Complete", "Failed")]
    return bool(alive) and all(job["metadata"]["uid"] != uid for job in alive)


def stop() -> None:
    """Stopped stays stopped; submitted again it goes on."""
    options = ["--models", "0:96", "--epochs", "30", "--no-twins"]
    name = zoo_cluster("submit", ZOO, *options, "--yes").split()[-1]
    before = done()["done"]
    wait(300, "the run commits", lambda: done()["done"] > before + 20)
    zoo_cluster("stop", ZOO)
    wait(200, "its pods are gone", lambda: not pods(f"zooforge.io/zoo={ZOO}"))
    time.sleep(150)  # two looks of the supervisor
    expect(
        [row["job"] for row in jobs().values() if row["state"] in ("running", "starting")] == [],
        "it stays stopped for 150 s",
    )
    mark = done()
    expect(mark["state"] == "stopped", f"the store says stopped: {mark['reason']}")
    again = zoo_cluster("submit", ZOO, *options, "--yes").split()[-1]
    expect(again != name, f"{again} goes on")
    wait(300, "it commits again", lambda: done()["done"] > mark["done"])
    wait(600, "it ended", lambda: jobs()[again]["state"] == "ended")


def caps() -> None:
    """A cap of 0 dollars stops before the first unit; a spec that crashes costs three attempts."""
    options = ["--models", "0:8", "--epochs", "2", "--no-twins", "--max-dollars", "0", "--dollars-per-hour", "1"]
    zoo = "digits8-cnn-s"
    name = zoo_cluster("submit", zoo, *options, "--yes").split()[-1]
    wait(300, "with a cap of 0 dollars the run ended", lambda: jobs()[name]["state"] == "ended")
    status = done(zoo)
    expect(status["state"] == "stopped" and status["done"] == 0, f"stopped with nothing trained: {status['reason']}")


def crash() -> None:
    """A run that ends with an error as soon as it begins: three attempts, and never a worker."""
    zoo = "eurosat-cnn-s-seed" if "eurosat-cnn-s-seed" in catalogue() else next(iter(set(catalogue()) - {ZOO}))
    run_id = json.loads(sh(*PYTHON, "plan", zoo, "--json"))[0]["run"]
    put = "from storage.object_store import open_store; import os, sys; "
    put += "open_store(os.environ['ZOO_STORE']).put(sys.argv[1], b'no record')"
    with store() as env:
        sh(sys.executable, "-c", put, f"runs/{run_id}/parts/0000000-00000000/00000.json", env=env)
    name = zoo_cluster("submit", zoo, "--models", "0:8", "--no-twins", "--yes").split()[-1]
    workers: set[str] = set()

    def ended() -> bool:
        selector = f"zooforge.io/zoo={zoo},ray.io/node-type=worker"
        workers.update(pod["metadata"]["name"] for pod in pods(selector))
        return jobs()[name]["state"] == "ended"

    wait(600, "a run that crashes at once is given up", ended)
    expect(not workers, "no worker was started for it")
    attempts = "from storage.object_store import open_store; from storage.runs import read_attempts, read_control; "
    attempts += "import os, sys, json; s = open_store(os.environ['ZOO_STORE']); c = read_control(s, sys.argv[1]); "
    attempts += "print(json.dumps([len(read_attempts(s, sys.argv[1])), c.wanted, c.reason]))"
    with store() as env:
        number, wanted, reason = json.loads(sh(sys.executable, "-c", attempts, run_id, env=env))
    expect((number, wanted) == (3, "stopped"), f"{number} attempts, then {wanted}: {reason}")


def catalogue() -> list[str]:
    return [row["name"] for row in json.loads(sh(*PYTHON, "list", "--json"))]


def gpu() -> None:
    """A group that asks for a GPU: explained where there is none, 0 to 1 and back to 0 where there is one."""
    sh(*CLUSTER, "gpu", "0")
    deploy("workerGroups.cpu.enabled=false", "workerGroups.gpu.gpu.count=1", "workerGroups.gpu.maxReplicas=1",
           "mode=cluster", "workerGroups.gpu.minReplicas=1")  # fmt: skip
    wait(200, "status explains the pod that waits", lambda: "enough of nvidia.com/gpu" in zoo_cluster("status"))
    expect(
        "FAIL  room for workers of group gpu" in zoo_cluster("preflight", "--no-inside", check=False),
        "preflight explains it too",
    )
    sh(*CLUSTER, "gpu", "1")
    wait(200, "with a GPU on the node it is scheduled", lambda: ready("ray.io/group=gpu"))
    deploy("workerGroups.cpu.enabled=false", "workerGroups.gpu.gpu.count=1", "workerGroups.gpu.maxReplicas=1",
           "mode=cluster", "workerGroups.gpu.idleTimeoutSeconds=20")  # fmt: skip
    wait(400, "without work it is taken away", lambda: not pods("ray.io/group=gpu"))
    zoo = "digits8-gpu"  # a run of its own: others are pinned to the engine of CPUs
    with tempfile.TemporaryDirectory() as folder:
        text = (ROOT / "zoo_jobs" / "catalogue" / "digits8-cnn-s.yaml").read_text()
        spec = Path(folder) / f"{zoo}.yaml"
        spec.write_text(
            re.sub(r"(?m)^batch_size: .*", "batch_size: 16", re.sub(r"(?m)^name: .*", f"name: {zoo}", text))
        )
        options = ["--models", "0:2", "--epochs", "1", "--no-twins", "--yes"]
        name = zoo_cluster("submit", str(spec), *options).split()[-1]
    wait(300, "a run brings it back", lambda: ready("ray.io/group=gpu"))
    wait(400, f"{name} ended", lambda: jobs()[name]["state"] == "ended")
    status = done(zoo)
    expect(status["done"] == 4, f"its workers trained {status['done']} of {status['total']} model-epochs")
    wait(400, "afterwards it is taken away again", lambda: not pods("ray.io/group=gpu"))
    deploy()


def secret() -> None:
    """The store's secret key is nowhere but in its Secret: not in objects, events, logs, status or the store."""
    text = base64.b64decode(json.loads(kubectl("get", "secret", "zoo-store", "-o", "json"))["data"]["credentials"])
    key = re.search(rb"aws_secret_access_key *= *(\S+)", text)
    assert key is not None
    planted = [key[1].decode(), base64.b64encode(key[1]).decode().rstrip("=")[:-1]]
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    seen = {kind: kubectl("get", kind, "-o", "yaml", check=False) for kind in kinds if kind != "secrets"}
    for pod in pods(""):
        name = pod["metadata"]["name"]
        seen[f"log of {name}"] = kubectl("logs", name, "--all-containers", "--prefix", check=False)
    seen["status"] = zoo_cluster("status", "--json")
    seen["helm values"] = sh("helm", "get", "values", RELEASE, "-n", NAMESPACE, "--all")
    walk = "from storage.object_store import open_store; import os, sys; s = open_store(os.environ['ZOO_STORE'])\n"
    walk += "for stat in s.list(''):\n"
    walk += "    if stat.key.endswith(('.json', '.jsonl')): print(s.get(stat.key)[0].decode(errors='replace'))\n"
    with store() as env:
        seen["the store's records and logs"] = sh(sys.executable, "-c", walk, env=env)
    found = [where for where, text in seen.items() if any(value in text for value in planted)]
    expect(not found, f"the secret key is not in {sum(map(len, seen.values())):,} characters of {len(seen)} listings")


def uninstall() -> None:
    """The release leaves nothing but its volume claim, and says so; installed again it finds its zoos."""
    folder, volume = os.environ.get("E2E_VOLUME"), "zooforge-e2e"
    if folder:  # of the node, writable for uid 1000; where there is no storage class
        spec = {"capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": volume,
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder}}  # fmt: skip
        made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(made, file)
            file.flush()
            sh("kubectl", "apply", "-f", file.name)
        deploy(f"embeddedStore.storageClassName={volume}")
        name = zoo_cluster(
            "submit", "digits8-cnn-s", "--models", "0:2", "--epochs", "1", "--no-twins", "--yes"
        ).split()[-1]
        wait(300, f"{name} ended on a volume", lambda: jobs()[name]["state"] == "ended")
        with store() as env:
            before = manifests(env)
        said = zoo_cluster("undeploy", "--yes")
        claim = f"{RELEASE}-store"
        expect(f"kept: volume claim {claim}" in said, said.strip().splitlines()[-1])
        expect(f"persistentvolumeclaim/{claim}" in kubectl("get", "pvc", "-o", "name"), "the claim is there")
        deploy(f"embeddedStore.storageClassName={volume}")
        with store() as env:
            expect(manifests(env) == before != {}, "installed again, the release has its zoos")
    else:
        say("no volume claim was looked at: E2E_VOLUME names no folder of the node")
    zoo_cluster("undeploy", "--yes")
    left = kubectl("get", "deploy,cronjob,svc,cm,sa,role,rayjob,raycluster,pdb,netpol", "-o", "name")
    ours = [line for line in left.split() if not re.search(r"kube-root-ca.crt|serviceaccount/default", line)]
    expect(not ours, "nothing of the release is left")


def namespace() -> None:
    """The whole namespace is deleted in the middle of a run, whose store is elsewhere, and deployed again."""
    elsewhere = f"{NAMESPACE}-store"
    values = ["-f", str(VALUES), "--embedded-store", "--image", IMAGE, "--wait", "300"]
    off = [w for key in ("exporter", "supervisor", "networkPolicy") for w in ("--set", f"{key}.enabled=false")]
    sh(*PYTHON, "cluster", "deploy", *values, *off, "--namespace", elsewhere, "--release", "outside")
    credentials = json.loads(sh("kubectl", "-n", elsewhere, "get", "secret", "zoo-store", "-o", "json"))["data"]
    endpoint = f"http://outside-store.{elsewhere}.svc:8333"

    def deploy_again() -> None:
        kubectl("create", "namespace", NAMESPACE, check=False)
        sh("kubectl", "label", "--overwrite", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "zoo-store"}, "data": credentials}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(made, file)
            file.flush()
            kubectl("apply", "-f", file.name)
        outside = ["--store", "s3://zoos", "--secret", "zoo-store", "--set", f"storage.endpoint={endpoint}"]
        zoo_cluster("deploy", "-f", str(VALUES), "--image", IMAGE, "--wait", "300", *outside,
                    "--set", "embeddedStore.enabled=false")  # fmt: skip

    deploy_again()
    global STORE
    STORE = (elsewhere, "outside")
    try:
        zoo_cluster("submit", ZOO, *LONG, "--yes")
        wait(400, "the run commits", lambda: ZOO in known_zoos() and done()["done"] > 100)
        sh("kubectl", "delete", "namespace", NAMESPACE, "--wait=true", "--timeout=300s", seconds=400)
        mark = done()["done"]
        expect(mark < 96 * 25, f"the namespace is gone with {mark} of {96 * 25} model-epochs committed")
        deploy_again()
        wait(500, "the supervisor of the new release submitted again", jobs)
        wait(900, "the run finished", lambda: done()["state"] == "finished" and done()["version"])
        same_as_local(LONG)
    finally:
        STORE = (NAMESPACE, RELEASE)
    zoo_cluster("undeploy", "--yes")
    sh("kubectl", "delete", "namespace", elsewhere, NAMESPACE, "--wait=true", "--timeout=300s", seconds=700)


def unschedulable() -> None:
    """The head is lost and no node takes it for six minutes, longer than KubeRay waits for a dashboard."""
    label = "zooforge.io/e2e-head"
    nodes = sh("kubectl", "get", "nodes", "-o", "name").split()
    sh("kubectl", "label", "--overwrite", *nodes, f"{label}=here")
    kubectl("create", "namespace", NAMESPACE, check=False)
    dotted = label.replace(".", "\\.")
    deploy(f"head.nodeSelector.{dotted}=here")
    selector = f"zooforge.io/zoo={ZOO}"
    name = zoo_cluster("submit", ZOO, *MEDIUM, "--yes").split()[-1]
    wait(400, "the run commits", lambda: ZOO in known_zoos() and done()["done"] > 100)
    uid = kubectl("get", "rayjob", name, "-o", "jsonpath={.metadata.uid}")
    sh("kubectl", "label", *nodes, f"{label}-")
    try:
        kubectl("delete", "pod", ready(f"{selector},ray.io/node-type=head")[0], "--grace-period=1", "--wait=false")
        began = time.monotonic()
        wait(200, "status says why the head waits", lambda: "no node has the labels asked for" in zoo_cluster("status"))
        time.sleep(max(0.0, 360 - (time.monotonic() - began)))
        say(f"after six minutes the RayJob is {jobs()[name]['state']}: {jobs()[name]['reason']}")
    finally:
        sh("kubectl", "label", "--overwrite", *nodes, f"{label}=here")
    wait(600, "with a node again the run goes on", lambda: done()["state"] in ("live", "finished"))
    say("under a RayJob that the supervisor submitted" if new_job(uid) else "under its old RayJob")
    wait(900, "the run finished", lambda: done()["state"] == "finished" and done()["version"])
    wait(300, "its job ended", lambda: all(row["state"] in ("ended", "failed") for row in jobs().values()))
    same_as_local(MEDIUM)
    sh("kubectl", "label", *nodes, f"{label}-")
    deploy()


CHAOS: dict[str, Callable[[], None]] = {"install": install, "unschedulable": unschedulable, "namespace": namespace}
STEPS: dict[str, Callable[[], None]] = {
    "install": install,
    "run": run,
    "faults": faults,
    "stop": stop,
    "caps": caps,
    "crash": crash,
    "gpu": gpu,
    "secret": secret,
    "uninstall": uninstall,
}


def main(names: list[str]) -> None:
    whole = names in ([], ["chaos"])
    if whole:
        sh(*CLUSTER, "up")
    for line in sh(*CLUSTER, "env").splitlines():
        if match := re.match(r"export (\w+)=(.*)", line):
            value = shlex.split(match[2])[0] if match[2] else ""
            os.environ[match[1]] = value.replace("$PATH", os.environ["PATH"])
    if whole:
        sh(*IMAGE_TOOL, "build", str(ROOT), IMAGE, seconds=3600)
        sh(*IMAGE_TOOL, "load", IMAGE)
    began = time.monotonic()
    steps = CHAOS if names == ["chaos"] else STEPS
    for name in list(steps) if whole else names:
        step = {**CHAOS, **STEPS}[name]
        print(f"----  {name}: {(step.__doc__ or '').strip()}", flush=True)
        at = time.monotonic()
        step()
        print(f"----  {name}: {time.monotonic() - at:.0f} s", flush=True)
    print(f"----  everything: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
