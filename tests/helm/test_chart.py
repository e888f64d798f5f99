"""The chart, rendered offline: every feature's values file, the schema, and the combinations that must be refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import crds
from tests.support.chart_render import CASES, CHART, Case, Manifest, RenderFailed, lint, load, missing, render

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

EMITTED = json.loads((Path(__file__).parent / "emitted.schema.json").read_text())
DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: Case(name, load(name), render(load(name))) for name in CASES}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


def minimal(**values: Any) -> dict[str, Any]:
    return {"storage": {"url": "s3://my-bucket/zoos", "existingSecret": "zoo-store"}, **values}


def emitted(manifest: Manifest) -> None:
    """Check a custom resource against the hand-written schema of what we emit."""
    _validate(manifest, {**EMITTED, "$ref": f"#/definitions/{manifest['kind']}"})


def _validate(value: Any, schema: dict[str, Any]) -> None:
    """As jsonschema.validate, which checks the schema itself each time: seconds for a CRD."""
    if error := jsonschema.exceptions.best_match(jsonschema.Draft7Validator(schema).iter_errors(value)):
        raise error


@pytest.mark.parametrize("name", CASES)
def test_lint_finds_nothing(name: str) -> None:
    assert lint(load(name)) == []


def test_every_custom_resource_has_only_known_fields(case: Case) -> None:
    for manifest in case.manifests:
        if manifest["apiVersion"].startswith(("ray.io/", "monitoring.coreos.com/")):
            emitted(manifest)
    emitted(case.ray_job)


def test_every_pod_is_restricted(case: Case) -> None:
    for pod in case.pods:
        _validate(pod["spec"], {**EMITTED, "$ref": "#/definitions/podSpec"})


def test_names_are_short_enough_and_labelled(case: Case) -> None:
    limits = {"RayCluster": 53, "CronJob": 52, "RayJob": 47}
    for manifest in case.manifests:
        if manifest["metadata"]["name"] == "extra":
            continue
        name = manifest["metadata"]["name"]
        assert DNS_1035.match(name)
        assert len(name) <= limits.get(manifest["kind"], 63)
        assert manifest["metadata"]["namespace"] == "zoos"
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "zooforge"


def test_ray_pods_leave_the_operators_labels_alone(case: Case) -> None:
    for pod in case.ray_pods:
        taken = {
            key for key in pod["metadata"]["labels"] if key.startswith(("app.kubernetes.io/", "helm.sh/", "ray.io/"))
        }
        assert taken == set()


def test_submitted_runs_carry_no_label_by_which_a_deploying_tool_would_prune_them(case: Case) -> None:
    labels = case.ray_job["metadata"]["labels"]
    assert not [key for key in labels if key.startswith(("app.kubernetes.io/", "argocd.argoproj.io/", "helm.sh/"))]


def test_nothing_secret_or_random_is_rendered(case: Case) -> None:
    assert case.kind("Secret") == []
    assert render(case.values) == case.manifests


def test_requests_equal_limits_for_memory_and_replicas_are_left_to_the_autoscaler(case: Case) -> None:
    for spec in case.ray_clusters:
        for group in spec["workerGroupSpecs"]:
            assert ("replicas" in group) == (not spec["enableInTreeAutoscaling"])
    for pod in case.ray_pods:
        resources = pod["spec"]["containers"][0]["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_pods_outlive_the_drain(case: Case) -> None:
    for pod in case.ray_pods:
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        drain = int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + 20


def test_rendered_objects_pass_the_real_schemas(case: Case) -> None:
    checked = 0
    for manifest in [*case.manifests, case.ray_job]:
        if schema := crds.of_kinds().get((manifest["apiVersion"], manifest["kind"])):
            _validate(manifest, schema)
            checked += 1
    assert checked


@pytest.mark.parametrize(
    ("where", "key"), [(("spec",), "suspended"), (("spec", "rayClusterSpec", "headGroupSpec"), "template2")]
)
def test_the_real_schemas_refuse_a_field_that_the_operator_does_not_know(
    cases: dict[str, Case], where: tuple[str, ...], key: str
) -> None:
    job = copy.deepcopy(cases["minimal"].ray_job)
    place = job
    for name in where:
        place = place[name]
    place[key] = True
    with pytest.raises(jsonschema.ValidationError, match=f"'{key}' was unexpected"):
        _validate(job, crds.of_kinds()["ray.io/v1", "RayJob"])


def test_a_standing_cluster_and_the_cluster_of_a_run_are_the_same(cases: dict[str, Case]) -> None:
    standing = cases["standing-cluster"]
    run = Case("run", {}, render({**standing.values, "mode": "job"}))
    assert standing.kind("RayCluster")[0]["spec"] == run.ray_job["spec"]["rayClusterSpec"]
    assert standing.ray_job["spec"]["clusterSelector"] == {"ray.io/cluster": "zoo"}


def test_groups_take_the_defaults_and_their_own_falsy_values() -> None:
    values = minimal(
        workerDefaults={"spot": True, "minReplicas": 2, "machine": "l4"},
        workerGroups={"cpu": {"spot": False, "minReplicas": 0, "machine": ""}},
    )
    spec = Case("", {}, render(values)).ray_clusters[0]["workerGroupSpecs"][0]
    env = {e["name"]: e["value"] for e in spec["template"]["spec"]["containers"][0]["env"]}
    assert (spec["minReplicas"], env["ZOO_PRICE_CLASS"], env["ZOO_MACHINE"]) == (0, "on-demand", "")


def test_a_driver_is_told_whether_its_workers_have_gpus_and_what_they_cost(cases: dict[str, Case]) -> None:
    def head(values: dict[str, Any]) -> dict[str, str]:
        container = Case("", {}, render(values)).ray_clusters[0]["headGroupSpec"]["template"]["spec"]["containers"][0]
        return {entry["name"]: entry["value"] for entry in container["env"]}

    one = head(
        minimal(workerGroups={"cpu": {"enabled": False}, "spot": {"spot": True, "machine": "l4", "gpu": {"count": 2}}})
    )
    assert (one["ZOO_WORKER_GPUS"], one["ZOO_PRICE_CLASS"], one["ZOO_MACHINE"]) == ("2", "spot", "l4")
    two = head(minimal(workerGroups={"cpu": {"machine": "c3-44"}, "more": {"noticeSeconds": 15}}))
    assert (one["ZOO_NOTICE_SECONDS"], two["ZOO_NOTICE_SECONDS"]) == ("90", "15")
    assert two["ZOO_WORKER_GPUS"] == "0"
    assert "ZOO_MACHINE" not in two  # which of the two, only a worker knows
    assert (two["ZOO_LOG"], two["ZOO_IMAGE"]) == ("json", "zooforge:0.1.0")


def test_gpus_of_any_name_are_requested_and_only_there(cases: dict[str, Case]) -> None:
    def gpus(case: Case) -> list[dict[str, Any]]:
        found = [pod["spec"]["containers"][0]["resources"]["limits"] for pod in case.ray_pods]
        return [{k: v for k, v in limits.items() if "/" in k} for limits in found]

    assert gpus(cases["gpu"]) == [{}, {"nvidia.com/gpu": 1}]
    assert gpus(cases["mig"]) == [{}, {"nvidia.com/mig-1g.10gb": 1}]


def test_images_follow_registry_digest_and_group(cases: dict[str, Case]) -> None:
    def images(case: Case) -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in case.ray_pods]

    digest = "sha256:" + "0123456789abcdef" * 4
    assert images(cases["gpu"]) == ["zooforge:0.1.0", "zooforge:0.1.0-cu130"]
    assert images(cases["mig"]) == ["zooforge:0.1.0", f"zooforge@{digest}"]
    assert images(cases["air-gapped"]) == [f"registry.example.org:5000/mirror/zooforge@{digest}"] * 2


def test_a_short_notice_shortens_the_drain_of_its_group(cases: dict[str, Case]) -> None:
    drains = {}
    for group in cases["spot"].ray_clusters[0]["workerGroupSpecs"]:
        env = {e["name"]: e.get("value") for e in group["template"]["spec"]["containers"][0]["env"]}
        drains[group["groupName"]] = (
            env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"],
            env["ZOO_NOTICE_SECONDS"],
            env["ZOO_PRICE_CLASS"],
        )
    assert drains == {"cpu": ("60", "120", "on-demand"), "spot": ("15", "15", "spot")}


def test_the_queue_is_named_on_what_kueue_admits(cases: dict[str, Case]) -> None:
    label = "kueue.x-k8s.io/queue-name"
    assert cases["kueue"].ray_job["metadata"]["labels"][label] == "research"
    assert cases["kueue-cluster"].kind("RayCluster")[0]["metadata"]["labels"][label] == "research"


def test_credentials_are_files_and_never_environment_variables(case: Case) -> None:
    text = json.dumps(case.pods)
    assert "AWS_SECRET_ACCESS_KEY" not in text
    assert "secretKeyRef" not in text


def test_only_the_autoscaler_and_the_supervisor_hold_an_api_token(case: Case) -> None:
    for pod in case.pods:
        container = pod["spec"]["containers"][0]
        assert pod["spec"]["automountServiceAccountToken"] == (container["name"] == "supervisor")
        assert "api-token" not in [mount["name"] for mount in container["volumeMounts"]]


def test_the_submitter_reads_no_secret_and_changes_only_runs(cases: dict[str, Case]) -> None:
    roles = {role["metadata"]["name"]: role["rules"] for role in cases["minimal"].kind("Role")}
    for rule in roles["zoo-submitter"] + roles["zoo-supervisor"]:
        assert "secrets" not in rule["resources"]
        assert "*" not in rule["resources"] + rule["verbs"]
        if set(rule["verbs"]) - {"get", "list", "watch"}:
            assert set(rule["resources"]) <= {"rayjobs", "pods/portforward"}


def test_the_embedded_store_shows_only_s3_and_keeps_its_claim(cases: dict[str, Case]) -> None:
    case = cases["embedded-store"]
    service = next(s for s in case.kind("Service") if s["metadata"]["name"] == "zoo-store")
    assert [port["port"] for port in service["spec"]["ports"]] == [8333]
    policy = next(p for p in case.kind("NetworkPolicy") if p["metadata"]["name"] == "zoo-store")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "s3"}]}]
    assert case.kind("PersistentVolumeClaim")[0]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert cases["embedded-store-passing"].kind("PersistentVolumeClaim") == []


def test_switches_off_leave_nothing_behind(cases: dict[str, Case]) -> None:
    assert sorted({m["kind"] for m in cases["open"].manifests}) == ["ConfigMap", "Pod", "RayCluster", "ServiceAccount"]


def test_alerts_and_dashboards_come_from_their_files(cases: dict[str, Case]) -> None:
    case = cases["monitoring"]
    assert len(case.kind("PrometheusRule")) == len(list((CHART / "rules").glob("*.yaml")))
    rules = [r for m in case.kind("PrometheusRule") for group in m["spec"]["groups"] for r in group["rules"]]
    links = {r["annotations"]["runbook_url"].partition("#")[0] for r in rules if "alert" in r}
    assert links == {"https://wiki.example.com/zooforge/runbooks"}
    boards = [m for m in case.kind("ConfigMap") if m["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert len(boards) == len(list((CHART / "dashboards").glob("*.json")))
    for board in boards:
        (text,) = board["data"].values()
        json.loads(text)
    ports = {e["port"] for m in case.kind("PodMonitor") for e in m["spec"]["podMetricsEndpoints"]}
    declared = {p["name"] for pod in case.pods for p in pod["spec"]["containers"][0].get("ports", [])}
    assert ports <= declared


REFUSED = {
    "a typo": (minimal(storge={}), "storge"),
    "a typo in a group": (minimal(workerGroups={"cpu": {"maxReplica": 2}}), "maxReplica"),
    "no store": ({"storage": {"existingSecret": "s"}}, "where shall zoos be kept"),
    "no credentials": ({"storage": {"url": "s3://my-bucket/zoos"}}, "kubectl create secret"),
    "two kinds of credentials": (
        {"storage": {"url": "s3://my-bucket", "credentials": "workload-identity", "existingSecret": "s"}},
        "would not be used",
    ),
    "two stores": (minimal(embeddedStore={"enabled": True}), "the embedded store is the store then"),
    "an embedded store without a Secret": (
        {"storage": {"credentials": "anonymous"}, "embeddedStore": {"enabled": True}},
        "its identity comes from the Secret",
    ),
    "a queue and the autoscaler": (minimal(queue={"name": "q"}), "Kueue admits a fixed number of pods"),
    "a grace period that cuts the drain": (minimal(drain={"timeoutSeconds": 110}), "at least 20 s longer"),
    "more kept than allowed": (minimal(workerGroups={"cpu": {"minReplicas": 5}}), "at least as many must be allowed"),
    "replicas and the autoscaler": (minimal(workerGroups={"cpu": {"replicas": 2}}), "two would fight"),
    "neither replicas nor the autoscaler": (minimal(autoscaler={"enabled": False}), "would never have a worker"),
    "no group": (minimal(workerGroups={"cpu": {"enabled": False}}), "nothing would train"),
    "a group with a bad name": (minimal(workerGroups={"GPU": {}}), "starts with a letter"),
    "a token Secret without tokens": (
        minimal(auth={"enabled": False, "existingSecret": "s"}),
        "anyone who reaches the dashboard",
    ),
    "tokens with an old Ray": (minimal(rayVersion="2.40.0"), "knows tokens from 2.52 on"),
    "egress without a policy": (
        minimal(networkPolicy={"egress": {"enabled": True, "storeCidrs": ["1.2.3.0/24"]}}),
        "egress is part of the policy",
    ),
    "egress without the store": (
        minimal(networkPolicy={"enabled": True, "egress": {"enabled": True}}),
        "could not reach the store",
    ),
    "no account": (minimal(serviceAccount={"create": False}), "name the service account"),
    "a long name": (minimal(fullnameOverride="a" * 41), "40"),
    "a bad bucket": ({"storage": {"url": "gs://bucket", "existingSecret": "s"}}, "storage"),
    "a secret instead of its name": (
        minimal(storage={"url": "s3://my-bucket", "secretAccessKey": "x"}),
        "secretAccessKey",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_cannot_work_are_refused_with_a_sentence(what: str) -> None:
    values, sentence = REFUSED[what]
    with pytest.raises(RenderFailed, match=re.escape(sentence)):
        render(values)


def test_a_release_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(RenderFailed, match="has 41 characters and at most 40 are possible"):
        render(minimal(), release="a" * 41)
