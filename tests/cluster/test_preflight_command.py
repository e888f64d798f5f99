"""`zoo cluster preflight` with an API server over HTTP: its checks, and the remedy for each failure."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import CORE, CRDS, config_data, template
from tests.support.fake_api import FakeAPI
from zooforge.cluster import selftest, zoo_command


def test_preflight_says_pass_fail_or_skip_with_the_remedy(api: FakeAPI, zoo: Any) -> None:
    api.put("api/v1/nodes", "n", status={"allocatable": {"cpu": "1", "memory": "8Gi"}})
    api.put("apis/apps/v1/namespaces/ray/deployments", "kuberay-operator",
            metadata={"namespace": "ray", "labels": {"app.kubernetes.io/name": "kuberay-operator"}},
            spec={"template": {"spec": {"containers": [{"image": "quay.io/kuberay/operator:v1.5.2"}]}}})  # fmt: skip
    said = zoo("preflight")
    assert said.status == 2
    assert "pass  Kubernetes: v1.36.0" in said.out
    assert "FAIL  KubeRay operator: quay.io/kuberay/operator:v1.5.2 in ray is too old; 1.6.2 or later" in said.out
    assert "pass  room for the head" in said.out
    assert "FAIL  room for workers of group cpu: 2 cpu, 4Gi memory: fits on none of 1 nodes" in said.out
    assert "FAIL  Secret zoo-store: missing; kubectl -n zoos create secret generic zoo-store" in said.out
    assert "skip  from inside: no pod starts without its Secret" in said.out


def gpu_node(api: FakeAPI, name: str, **labels: str) -> None:
    offered = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
    api.put("api/v1/nodes", name, metadata={"labels": labels}, status={"allocatable": offered})


def asking_for_gpus(api: FakeAPI) -> None:
    data = config_data()
    job = template()
    worker = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    worker["resources"] = {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 1}}
    data["rayjob.yaml"] = yaml.safe_dump(job)
    api.put(f"{CORE}/configmaps", "zooforge-runs", data=data)


def test_preflight_looks_at_the_driver_of_gpu_nodes(api: FakeAPI, zoo: Any) -> None:
    gpu_node(api, "n")
    assert "GPU driver" not in zoo("preflight", "--no-inside").out  # no group asks for one
    asking_for_gpus(api)
    assert "pass  GPU driver for nvidia.com/gpu: 1 of 1 nodes, not labelled" in zoo("preflight", "--no-inside").out
    gpu_node(api, "n", **{"nvidia.com/cuda.driver-version.full": "580.65.06"})
    assert "1 of 1 nodes, CUDA driver 580.65.06" in zoo("preflight", "--no-inside").out
    gpu_node(api, "old", **{"nvidia.com/cuda.driver.major": "470", "nvidia.com/cuda.driver.minor": "57"})
    said = zoo("preflight", "--no-inside").out
    assert "FAIL  GPU driver for nvidia.com/gpu: 2 of 2 nodes, CUDA driver 470.57, 580.65.06; CUDA builds need" in said
    del api.objects["/api/v1/nodes/n"], api.objects["/api/v1/nodes/old"]
    assert (
        "skip  GPU driver for nvidia.com/gpu: no node offers nvidia.com/gpu now" in zoo("preflight", "--no-inside").out
    )


@pytest.mark.parametrize(
    ("claim", "classes", "line"),
    [
        (None, [], "skip  storage class: the release asks for no volume"),
        ({"phase": "Bound"}, [], "pass  storage class: 1 volume claims are bound"),
        ({}, ["fast"], "FAIL  storage class: claim data asks for the default and there is none; there are fast; set"),
        ({}, ["default"], "pass  storage class: the default exists; claim data waits to be bound"),
        ({"class": "slow"}, ["fast"], "FAIL  storage class: claim data asks for slow; there are fast; set embedded"),
        ({"class": "fast"}, ["fast"], "pass  storage class: fast exists; claim data waits to be bound"),
    ],
)
def test_preflight_says_whether_a_volume_claim_can_be_bound(
    api: FakeAPI, zoo: Any, claim: dict[str, str] | None, classes: list[str], line: str
) -> None:
    for name in classes:
        marks = {"storageclass.kubernetes.io/is-default-class": "true"} if name == "default" else {}
        api.put("apis/storage.k8s.io/v1/storageclasses", name, metadata={"annotations": marks})
    if claim is not None:
        api.put(f"{CORE}/persistentvolumeclaims", "data", spec={"storageClassName": claim.get("class")},
                metadata={"labels": {"app.kubernetes.io/instance": "zooforge"}},
                status={"phase": claim.get("phase", "Pending")})  # fmt: skip
    assert line in zoo("preflight", "--no-inside").out


@pytest.mark.parametrize(
    ("space_comes_back", "said"), [(True, "off, or old versions expire"), (None, "the server does not say")]
)
def test_a_bucket_that_frees_the_space_of_deleted_objects_passes(
    space_comes_back: bool | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo_command, "run", lambda *_: json.dumps({"space_comes_back": space_comes_back}))
    assert said in selftest.space_comes_back("s3://b")


def test_a_bucket_that_keeps_every_version_fails_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo_command, "run", lambda *_: json.dumps({"space_comes_back": False}))
    assert selftest.main(["--store", "s3://b", "--versions"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  bucket versioning: on" in said
    assert "NoncurrentVersionExpiration" in said


def test_preflight_before_the_first_deploy_checks_the_existing_objects(api: FakeAPI, zoo: Any) -> None:
    del api.objects[f"/{CORE}/configmaps/zooforge-runs"]
    said = zoo("preflight")
    assert said.status == 0
    assert "`zoo cluster deploy` makes it" in said.out


def test_missing_crds_are_named_by_preflight(api: FakeAPI, zoo: Any) -> None:
    del api.objects[f"/{CRDS}/rayjobs.ray.io"]
    said = zoo("preflight", "--no-inside")
    assert said.status == 2
    assert "FAIL  CRD rayjobs.ray.io: missing; `zoo cluster install-operator` installs KubeRay" in said.out
