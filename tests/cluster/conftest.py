"""Fixtures of the cluster tests: a fake API server with a release, a kubeconfig, and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.fake_api import FakeAPI, running
from zooforge.cluster import zoo_command
from zooforge.cluster.errors import InputError
from zooforge.cluster.spec import Release, Target
from zooforge.zoo_jobs import cli

RAY = "apis/ray.io/v1/namespaces/zoos"
CORE = "api/v1/namespaces/zoos"
CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def pod_template(resources: dict[str, Any]) -> dict[str, Any]:
    container = {
        "name": "ray",
        "image": "zooforge:test",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "ZOO_STORE", "value": "s3://bucket/zoos"}],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "shared-memory", "emptyDir": {}}]
    spec = {"serviceAccountName": "zooforge", "containers": [container], "volumes": volumes}
    return {"metadata": {"labels": {"zooforge.io/release": "zooforge"}}, "spec": spec}


def template(mode: str = "job") -> dict[str, Any]:
    """The part of the chart's output that these tests need; tests/helm tests the rest."""
    groups = [
        {
            "groupName": "cpu",
            "minReplicas": 0,
            "maxReplicas": 3,
            "template": pod_template({"cpu": "2", "memory": "4Gi"}),
        },
        {
            "groupName": "more",
            "minReplicas": 1,
            "maxReplicas": 2,
            "template": pod_template({"cpu": "500m", "memory": "1Gi"}),
        },
    ]
    cluster = {"headGroupSpec": {"template": pod_template({"cpu": "1", "memory": "2Gi"})}, "workerGroupSpecs": groups}
    own = (
        {"clusterSelector": {"ray.io/cluster": "zooforge"}}
        if mode == "cluster"
        else {"rayClusterSpec": cluster, "ttlSecondsAfterFinished": 600}
    )
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"labels": {"zooforge.io/release": "zooforge"}},
        "spec": {"submissionMode": "HTTPMode", **own},
    }


def config_data(mode: str = "job") -> dict[str, str]:
    settings = {
        "release": "zooforge", "mode": mode, "image": "zooforge:test", "store": "s3://bucket/zoos",
        "endpoint": "http://s3:8333", "region": "us-east-1", "credentials": "secret", "credentialsSecret": "zoo-store",
        "autoscaler": True, "auth": True, "exporter": True, "supervisor": True, "clusterId": "c1",
        "podDisruptionBudget": True, "maxLives": 500, "maxHours": 2160,
    }  # fmt: skip
    return {"settings.json": json.dumps(settings), "rayjob.yaml": yaml.safe_dump(template(mode))}


@pytest.fixture
def target() -> Target:
    return Target("zoos")


@pytest.fixture
def release(target: Target) -> Release:
    return Release.from_config(config_data(), target)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAPI]:
    """An API server with a release in it, which the kubeconfig points to."""
    fake = FakeAPI()
    fake.objects["/version"] = {"gitVersion": "v1.36.0", "major": "1", "minor": "36"}
    fields = {"authOptions": {}, "preRunningDeadlineSeconds": {}}
    schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": fields}}}}
    for name in ("rayclusters.ray.io", "rayjobs.ray.io"):
        fake.put(CRDS, name, spec={"versions": [{"name": "v1", "served": True, "schema": schema}]})
    fake.put(f"{CORE}/configmaps", "zooforge-runs", data=config_data())
    for variable in ("ZOO_NAMESPACE", "ZOO_RELEASE", "ZOO_KUBE_CONTEXT", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    with running(fake):
        monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path)))
        yield fake


RUN = "4e261bdc3f742728126c3fc6c7922184"
PLAN = {
    "zoo": "mnist5k-cnn-s", "run": RUN, "num_models": 2560, "num_epochs": 50, "seconds": 7200.0, "dollars": 1.5,
    "machine": "l4", "peak_bytes": 2**31, "final_bytes": 2**30,
}  # fmt: skip


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(zoo: str, options: Any = ()) -> list[dict[str, Any]]:
        if zoo == "mnist5k-cnn":
            raise InputError("unknown zoo 'mnist5k-cnn'; did you mean 'mnist5k-cnn-s'?")
        name = zoo if not zoo.endswith(".yaml") else Path(zoo).stem
        if "--on" in options:
            machine, shares = options[options.index("--on") + 1], int(options[options.index("--workers-per-gpu") + 1])
            if machine == "abacus":
                raise InputError("unknown machine 'abacus'; accepted: l4, h200-141g")
            return [{**PLAN, "zoo": name, "machine": machine, "seconds": 7200.0 / shares}]
        twins = {**PLAN, "zoo": f"{name}-vd", "num_epochs": 25, "seconds": 3600.0, "dollars": 0.75}
        return [{**PLAN, "zoo": name}, *([twins] if "--twins" in options else [])]

    monkeypatch.setattr(zoo_command, "plan", plan)


class Said:
    """Exit status, stdout and stderr of one command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def zoo(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Said:
        status = cli.main(["cluster", *arguments])
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run
