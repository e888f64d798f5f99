"""End to end on a real Kubernetes: `make e2e`. Each step prints what it saw and how long it took.

CLUSTER and IMAGE_TOOL are commands with the verbs up, down, env, load, gpu, exec, kill and build, load; the project's
own, for kind and docker, lie in cluster/adapters. A step can be named alone: python tests/e2e/e2e.py faults
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
NAMESPACE, RELEASE, ZOO = "zoos-e2e", "zooforge", "mnist5k-cnn-s"
VALUES = Path(__file__).parent / "values.yaml"
PYTHON = [sys.executable, "-c", "import sys, zooforge; sys.exit(zooforge.main())"]
SMALL = ["--models", "0:32", "--epochs", "4", "--twin-epochs", "2"]
LONG = ["--models", "0:96", "--epochs", "24", "--no-twins"]


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
    secret = json.loads(kubectl("get", "secret", "zoo-store", "-o", "json"))["data"]["credentials"]
    command = ["kubectl", "-n", NAMESPACE, "port-forward", f"svc/{RELEASE}-store", f"{port}:8333"]
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


def gpu() -> None:
    """A group that asks for a GPU: explained where there is none, scheduled where there is one."""
    deploy("workerGroups.cpu.enabled=false", "workerGroups.gpu.gpu.count=1", "workerGroups.gpu.maxReplicas=1",
           "mode=cluster", "workerGroups.gpu.minReplicas=1")  # fmt: skip
    wait(200, "status explains the pod that waits", lambda: "enough of nvidia.com/gpu" in zoo_cluster("status"))
    expect(
        "FAIL  room for workers of group gpu" in zoo_cluster("preflight", "--no-inside", check=False),
        "preflight explains it too",
    )
    sh(*CLUSTER, "gpu", "1")
    wait(200, "with a GPU on the node it is scheduled", lambda: ready("ray.io/group=gpu"))
    deploy()


def uninstall() -> None:
    """The release leaves nothing but what it says."""
    zoo_cluster("undeploy", "--yes")
    left = kubectl("get", "deploy,cronjob,svc,cm,sa,role,rayjob,raycluster,pdb,netpol", "-o", "name")
    ours = [line for line in left.split() if not re.search(r"kube-root-ca.crt|serviceaccount/default", line)]
    expect(not ours, "nothing of the release is left")


STEPS = {
    "install": install,
    "run": run,
    "faults": faults,
    "stop": stop,
    "caps": caps,
    "gpu": gpu,
    "uninstall": uninstall,
}


def main(names: list[str]) -> None:
    if not names:
        sh(*CLUSTER, "up")
    for line in sh(*CLUSTER, "env").splitlines():
        if match := re.match(r"export (\w+)=(.*)", line):
            value = shlex.split(match[2])[0] if match[2] else ""
            os.environ[match[1]] = value.replace("$PATH", os.environ["PATH"])
    if not names:
        sh(*IMAGE_TOOL, "build", str(ROOT), IMAGE, seconds=3600)
        sh(*IMAGE_TOOL, "load", IMAGE)
    began = time.monotonic()
    for name in names or list(STEPS):
        print(f"----  {name}: {(STEPS[name].__doc__ or '').strip()}", flush=True)
        at = time.monotonic()
        STEPS[name]()
        print(f"----  {name}: {time.monotonic() - at:.0f} s", flush=True)
    print(f"----  everything: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
