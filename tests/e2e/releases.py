"""Steps that test the release itself: install, a GPU group, least rights, bad input, uninstall."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.surroundings import (
    CLUSTER,
    IMAGE,
    NAMESPACE,
    RELEASE,
    RESEARCHER,
    ROOT,
    VALUES,
    ZOO,
    apply,
    deploy,
    done,
    expect,
    jobs,
    kubectl,
    make_namespace,
    manifests,
    pods,
    ready,
    sh,
    skip,
    store,
    submit,
    wait,
    zoo_cluster,
)


def install() -> None:
    """Install the chart in a restricted namespace: tokens, helm test, upgrade, least rights."""
    make_namespace()
    deploy("mode=cluster", "workerGroups.cpu.minReplicas=1")
    wait(300, "head and worker are Ready", lambda: len(ready(f"ray.io/cluster={RELEASE}")) == 2)
    tested = sh("helm", "test", RELEASE, "-n", NAMESPACE, "--logs", seconds=300)
    expect("FAIL" not in tested and "answers 401" in tested, "helm test passes, 401 without the token")
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
        or not pod["spec"]["securityContext"].get("runAsNonRoot")
    ]
    expect(not unrestricted, "no container has root, a writable root or a capability")
    kubectl("create", "serviceaccount", RESEARCHER, check=False)
    for account, verb, kind, answer in (
        (RELEASE, "get", "secrets", "no"),
        (RELEASE, "create", "pods", "no"),
        (RELEASE, "delete", "pods", "no"),
        (f"{RELEASE}-supervisor", "create", "rayjobs.ray.io", "yes"),
        (f"{RELEASE}-supervisor", "get", "secrets", "no"),
        (f"{RELEASE}-supervisor", "delete", "rayjobs.ray.io", "no"),
        (f"{RELEASE}-supervisor", "create", "pods", "no"),
        (RESEARCHER, "create", "rayjobs.ray.io", "yes"),
        (RESEARCHER, "get", "pods/log", "yes"),
        (RESEARCHER, "get", "secrets", "no"),
        (RESEARCHER, "create", "pods", "no"),
        (RESEARCHER, "create", "pods/exec", "no"),
    ):
        kind, _, sub = kind.partition("/")
        words = ["auth", "can-i", verb, kind, *(["--subresource", sub] if sub else [])]
        said = kubectl(*words, f"--as=system:serviceaccount:{NAMESPACE}:{account}", check=False)
        expect(said.split()[1] == answer, f"{account} may {verb} {kind}{'/' if sub else ''}{sub}: {answer}")
    deploy()
    wait(180, "the standing cluster is gone", lambda: not pods(f"ray.io/cluster={RELEASE}"))


@contextlib.contextmanager
def researcher() -> Iterator[dict[str, str]]:
    """The environment of a user who has only the submitter's Role."""
    token = kubectl("create", "token", RESEARCHER).strip()
    config = json.loads(sh("kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        yield {"KUBECONFIG": str(path)}


def admission() -> None:
    """A submitter can create no RayJob with other pods than the release's, and no port-forward to the store."""

    def pod(job: dict[str, Any]) -> Any:
        return job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]

    def worker(job: dict[str, Any]) -> Any:
        return job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]

    def volume(**source: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda job: worker(job)["volumes"].append({"name": "more", **source})

    token = {"name": "api-token", "mountPath": "/token"}
    secret = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}
    init = {"name": "i", "image": "localhost/other:1", "securityContext": {}}
    refused: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
        "another image": ("images must be one of", lambda job: pod(job)["containers"][0].update(image="other:1")),
        "an init container": ("images must be one of", lambda job: pod(job).update(initContainers=[init])),
        "another account": ("service account must be", lambda job: worker(job).update(serviceAccountName="default")),
        "a mounted token": ("token must not", lambda job: pod(job).update(automountServiceAccountToken=True)),
        "another Secret": ("volumes must be", volume(secret={"secretName": "other"})),
        "a folder of the host": ("volumes must be", volume(hostPath={"path": "/"})),
        "a Secret as environment": (
            "environment variables",
            lambda job: pod(job)["containers"][0]["env"].append(secret),
        ),
        "the autoscaler's token": (
            "only the autoscaler",
            lambda job: pod(job)["containers"][0]["volumeMounts"].append(token),
        ),
        "the host's network": ("of the host", lambda job: worker(job).update(hostNetwork=True)),
        "a privileged container": (
            "containers must not",
            lambda job: worker(job)["containers"][0]["securityContext"].update(privileged=True),
        ),
        "a submitter pod": ("submissionMode must be", lambda job: job["spec"].update(submissionMode="K8sJobMode")),
        "no token for Ray": (
            "Ray must ask",
            lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="disabled"),
        ),
        "an open head": (
            "the head must have no",
            lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"].update(serviceType="LoadBalancer"),
        ),
        "another autoscaler": (
            "the autoscaler must have",
            lambda job: job["spec"]["rayClusterSpec"]["autoscalerOptions"].update(image="other:1"),
        ),
    }
    kubectl("create", "serviceaccount", RESEARCHER, check=False)
    text = zoo_cluster("submit", ZOO, "--models", "0:2", "--dry-run")
    with researcher() as person, tempfile.TemporaryDirectory() as folder:

        def create(job: dict[str, Any]) -> str:
            path = Path(folder) / "job.yaml"
            path.write_text(yaml.safe_dump(job))
            words = ["create", "--dry-run=server", "--validate=false", "-f", str(path)]
            return sh("kubectl", "-n", NAMESPACE, *words, check=False, env=person)

        expect(create(yaml.safe_load(text)).startswith("0 "), "the admission policy takes the release's own RayJob")
        for what, (message, change) in refused.items():
            job = yaml.safe_load(text)
            change(job)
            said = create(job)
            expect(
                message in said and said.startswith("1 "), f"{what} is refused: {said.strip().splitlines()[-1][-160:]}"
            )
        store_pod = ready("app.kubernetes.io/component=store")[0]
        exporter_pod = ready("app.kubernetes.io/component=exporter")[0]
        said = _forward(store_pod, "9333", person)
        expect("takes no port-forward" in said, f"the store's loopback is out of reach: {said.strip()[-160:]}")
        expect("Forwarding from" in _forward(exporter_pod, "9095", person), "other pods can be forwarded to")
        expect("Forwarding from" in _forward(store_pod, "8333", {}), "an administrator can forward to the store")


def _forward(pod_name: str, port: str, env: dict[str, str]) -> str:
    """The output of a port-forward of three seconds."""
    command = ["timeout", "3", "kubectl", "-n", NAMESPACE, "port-forward", pod_name, f":{port}"]
    return sh(*command, check=False, env=env)


def gpu() -> None:
    """A group requests a GPU. Without a GPU the reason is shown; with one the group scales from 0 to 1 and back."""
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
    zoo = "digits8-gpu"  # a new run, because the others are pinned to an engine for CPUs
    with tempfile.TemporaryDirectory() as folder:
        text = (ROOT / "zoo_jobs" / "catalogue" / "digits8-cnn-s.yaml").read_text()
        spec = Path(folder) / f"{zoo}.yaml"
        spec.write_text(
            re.sub(r"(?m)^batch_size: .*", "batch_size: 16", re.sub(r"(?m)^name: .*", f"name: {zoo}", text))
        )
        name = submit(str(spec), "--models", "0:2", "--epochs", "1", "--no-twins")
    wait(300, "a run brings it back", lambda: ready("ray.io/group=gpu"))
    wait(400, f"{name} ended", lambda: jobs()[name]["state"] == "ended")
    status = done(zoo)
    expect(status["done"] == 4, f"its workers trained {status['done']} of {status['total']} model-epochs")
    wait(400, "afterwards it is taken away again", lambda: not pods("ray.io/group=gpu"))
    deploy()


def bad() -> None:
    """Bad input gives one line with the remedy and status 2, and creates nothing."""
    before = kubectl("get", "rayjobs", "-o", "name")
    with tempfile.TemporaryDirectory() as folder:
        long_name = Path(folder) / "long.yaml"
        text = (ROOT / "zoo_jobs" / "catalogue" / f"{ZOO}.yaml").read_text()
        long_name.write_text(re.sub(r"(?m)^name: .*", f"name: {'a' * 35}", text))
        nobody = Path(folder) / "kubeconfig"
        server = {"server": "https://127.0.0.1:9", "insecure-skip-tls-verify": True}
        nobody.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "a",
                    "clusters": [{"name": "a", "cluster": server}],
                    "users": [{"name": "a", "user": {}}],
                    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                }
            )
        )
        cases: list[tuple[str, list[str], dict[str, str]]] = [
            ("set KUBECONFIG", ["submit", ZOO, "--yes"], {"KUBECONFIG": f"{folder}/none"}),
            ("does not answer", ["submit", ZOO, "--yes"], {"KUBECONFIG": str(nobody)}),
            ("did you mean", ["submit", f"{ZOO}x", "--yes"], {}),
            ("34", ["submit", str(long_name), "--yes"], {}),
            ("zoo cluster deploy", ["submit", ZOO, "--yes", "--release", "another"], {}),
            ("--models", ["submit", ZOO, "--yes", "--models", "9:3"], {}),
            ("did you mean", ["deploy", "--image", IMAGE, "--set", "workerDefault.cpu=2", "--release", "another"], {}),
        ]
        for words, arguments, env in cases:
            status, _, said = zoo_cluster(*arguments, check=False, env=env).partition(" ")
            right = status == "2" and len(said.strip().splitlines()) == 1 and words in said
            expect(right, f"{' '.join(arguments[:2])}: {said.strip()}")
    for what, wanted, options in (
        ("a Secret that is missing", "Secret nothere: missing", ["--secret", "nothere", "--image", IMAGE]),
        ("a bucket that is forbidden", "from inside", ["--secret", "wrong", "--image", IMAGE]),
        ("an image that is missing", "from inside", ["--secret", "zoo-store", "--image", "localhost/nothere:1"]),
    ):
        keys = base64.b64encode(b"[default]\naws_access_key_id = A\naws_secret_access_key = B\n").decode()
        apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"}, "data": {"credentials": keys}})
        off = [word for key in ("exporter", "supervisor") for word in ("--set", f"{key}.enabled=false")]
        off += ["--set", "networkPolicy.egress.enabled=false"]  # else the chart asks for the store's address blocks
        off += ["--set", "podDisruptionBudget.enabled=false"]  # the supervisor makes budgets
        off += ["--set", "embeddedStore.enabled=false", "--set", f"storage.endpoint=http://{RELEASE}-store:8333"]
        zoo_cluster("deploy", "-f", str(VALUES), "--store", "s3://zoos", "--release", "another", *options, *off)
        status, _, said = zoo_cluster("preflight", "--release", "another", check=False).partition(" ")
        failed = [line for line in said.splitlines() if line.startswith("FAIL")]
        right = status == "2" and any(wanted in line for line in failed)
        expect(right, f"{what}: {failed[0] if failed else said}")
    zoo_cluster("undeploy", "--release", "another", "--yes")
    kubectl("delete", "secret", "wrong")
    expect(kubectl("get", "rayjobs", "-o", "name") == before, "nothing was made")


def uninstall() -> None:
    """Uninstalling the release leaves only its volume claim and names it; a new install has the old zoos."""
    folder, volume = os.environ.get("E2E_VOLUME"), "zooforge-e2e"
    if folder:  # of the node, writable for uid 1000; where there is no storage class
        spec = {"capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": volume,
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder}}  # fmt: skip
        apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec})
        deploy(f"embeddedStore.storageClassName={volume}")
        name = submit("digits8-cnn-s", "--models", "0:2", "--epochs", "1", "--no-twins")
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
        skip("no volume claim was tried: E2E_VOLUME names no folder of the node")
    zoo_cluster("undeploy", "--yes")
    left = kubectl("get", "deploy,cronjob,svc,cm,sa,role,rayjob,raycluster,pdb,netpol", "-o", "name")
    policies = sh("kubectl", "get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name")
    left += "\n".join(name for name in policies.split() if NAMESPACE in name)
    ours = [
        line
        for line in left.split()
        if not re.search(rf"kube-root-ca.crt|serviceaccount/(default|{RESEARCHER})$", line)
    ]
    expect(not ours, "nothing of the release is left")
