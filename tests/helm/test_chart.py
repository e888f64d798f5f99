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
from zooforge.cluster.spec import Release, Target

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
    return {"clusterId": "c", "storage": {"url": "s3://my-bucket/zoos", "existingSecret": "zoo-store"}, **values}


def emitted(manifest: Manifest) -> None:
    """Check a custom resource against the hand-written schema of what we emit."""
    _validate(manifest, {**EMITTED, "$ref": f"#/definitions/{manifest['kind']}"})


def _validate(value: Any, schema: dict[str, Any]) -> None:
    """Like jsonschema.validate, but without checking the schema itself each time, which takes seconds for a CRD."""
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
        cluster_scoped = manifest["kind"].startswith("ValidatingAdmissionPolicy")
        assert manifest["metadata"].get("namespace") == (None if cluster_scoped else "zoos")
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


def test_logs_and_scratch_of_every_pod_are_bounded(case: Case) -> None:
    for pod in case.pods:
        for volume in pod["spec"].get("volumes", []):
            assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), volume
    for pod in case.ray_pods:
        ray = pod["spec"]["containers"][0]
        assert ray["resources"]["limits"]["ephemeral-storage"] == ray["resources"]["requests"]["ephemeral-storage"]
        env = {one["name"]: one.get("value", "") for one in ray["env"]}
        assert int(env["RAY_ROTATION_MAX_BYTES"]) * (1 + int(env["RAY_ROTATION_BACKUP_COUNT"])) <= 64 * 2**20


def test_pods_outlive_the_drain(case: Case) -> None:
    for pod in case.ray_pods:
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        drain = int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + 20


def test_a_run_is_removed_within_two_minutes_of_its_end() -> None:
    case = Case("defaults", {}, render(minimal()))
    for pod in case.ray_pods:
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        drain = int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert case.ray_job["spec"]["ttlSecondsAfterFinished"] + drain <= 120


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
    shared = head(minimal(workersPerGpu=2, workerGroups={"cpu": {"gpu": {"count": 1}}}))
    assert (two["ZOO_WORKERS_PER_GPU"], shared["ZOO_WORKERS_PER_GPU"]) == ("1", "2")
    assert "ZOO_MACHINE" not in two  # which of the two, only a worker knows
    assert (two["ZOO_LOG"], two["ZOO_IMAGE"]) == ("json", "zooforge:0.1.0")


def test_rays_autoscaler_sees_the_gpus_of_every_group(case: Case) -> None:
    # Ray is slow to import, so only here.
    from ray.autoscaler._private.kuberay.autoscaling_config import _get_ray_resources_from_group_spec

    for spec in case.ray_clusters:
        for group in spec["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            gpus = [count for name, count in limits.items() if "/" in name]
            resources = _get_ray_resources_from_group_spec(group, is_head=False)
            assert [resources["GPU"]] == gpus if gpus else not resources.get("GPU")
            assert resources["CPU"] >= 1
        assert _get_ray_resources_from_group_spec(spec["headGroupSpec"], is_head=True)["CPU"] == 0


def test_gpus_of_any_name_are_requested_and_only_there(cases: dict[str, Case]) -> None:
    def gpus(case: Case) -> list[dict[str, Any]]:
        limits = [pod["spec"]["containers"][0]["resources"]["limits"] for pod in case.ray_pods]
        return [{k: v for k, v in one.items() if "/" in k} for one in limits]

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


def test_the_queue_is_named_on_the_objects_that_kueue_admits(cases: dict[str, Case]) -> None:
    label = "kueue.x-k8s.io/queue-name"
    assert cases["kueue"].ray_job["metadata"]["labels"][label] == "research"
    assert cases["kueue-cluster"].kind("RayCluster")[0]["metadata"]["labels"][label] == "research"


def test_credentials_are_files_and_never_environment_variables(case: Case) -> None:
    entries = [entry for pod in case.pods for entry in pod["spec"]["containers"][0].get("env", [])]
    assert "AWS_SECRET_ACCESS_KEY" not in {entry["name"] for entry in entries}
    from_secrets = {entry["name"] for entry in entries if "secretKeyRef" in entry.get("valueFrom", {})}
    assert from_secrets == {
        entry["name"] for entry in case.values.get("head", {}).get("env", []) if "valueFrom" in entry
    }


def test_only_the_autoscaler_and_the_supervisor_hold_an_api_token(case: Case) -> None:
    for pod in case.pods:
        container = pod["spec"]["containers"][0]
        assert pod["spec"]["automountServiceAccountToken"] == (container["name"] == "supervisor")
        assert "api-token" not in [mount["name"] for mount in container["volumeMounts"]]


def test_the_submitter_reads_no_secret_and_changes_only_runs(cases: dict[str, Case]) -> None:
    roles = {role["metadata"]["name"]: role["rules"] for role in cases["minimal"].kind("Role")}
    changed: dict[str, set[str]] = {"zoo-submitter": set(), "zoo-supervisor": set()}
    for name, rules in roles.items():
        for rule in rules:
            assert "secrets" not in rule["resources"]
            assert "*" not in rule["resources"] + rule["verbs"]
            if set(rule["verbs"]) - {"get", "list", "watch"}:
                changed[name] |= set(rule["resources"])
    assert changed["zoo-submitter"] == {"rayjobs", "pods/portforward"}
    assert changed["zoo-supervisor"] == {"rayjobs", "rayclusters", "poddisruptionbudgets", "pods"}


def test_no_role_reaches_the_loopback_of_the_embedded_store(cases: dict[str, Case]) -> None:
    def resources(values: dict[str, Any]) -> str:
        return str(Case("", {}, render(values)).kind("Role"))

    values = cases["embedded-store-passing"].values
    assert "pods/portforward" not in resources(values)
    guarded = {**values, "submitter": {"admissionPolicy": {"enabled": True}}}
    assert "pods/portforward" in resources(guarded)
    policies = Case("", {}, render(guarded)).kind("ValidatingAdmissionPolicy")
    (store,) = (one for one in policies if one["metadata"]["name"] == "zooforge-zoos-zoo-store")
    (rule,) = store["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CONNECT"], ["pods/portforward"])
    assert "startsWith('zoo-store-')" in store["spec"]["validations"][0]["expression"]


def test_the_admission_policy_names_every_image_secret_and_account_of_the_template(cases: dict[str, Case]) -> None:
    for name in ("own-secrets", "gpu"):
        values = {**cases[name].values}
        values["submitter"] = {**values.get("submitter", {}), "admissionPolicy": {"enabled": True}}
        case = Case(name, values, render(values))
        (policy,) = case.kind("ValidatingAdmissionPolicy")
        (binding,) = case.kind("ValidatingAdmissionPolicyBinding")
        assert binding["spec"]["policyName"] == policy["metadata"]["name"]
        assert binding["spec"]["validationActions"] == ["Deny"]
        variables = {one["name"]: one["expression"] for one in policy["spec"]["variables"]}
        containers = [pod["spec"]["containers"][0] for pod in case.ray_pods]
        assert set(json.loads(variables["images"])) == {container["image"] for container in containers}
        volumes = [volume for pod in case.ray_pods for volume in pod["spec"]["volumes"]]
        mounted = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
        assert set(json.loads(variables["secrets"])) == mounted
        sources = [entry.get("valueFrom", {}) for container in containers for entry in container["env"]]
        read = {source["secretKeyRef"]["name"] for source in sources if "secretKeyRef" in source}
        assert set(json.loads(variables["envSecrets"])) == mounted | read
        accounts = {pod["spec"]["serviceAccountName"] for pod in case.ray_pods}
        assert all(f"== '{account}'" in str(policy["spec"]["validations"]) for account in accounts)


def test_the_embedded_store_shows_only_s3_and_keeps_its_claim(cases: dict[str, Case]) -> None:
    case = cases["embedded-store"]
    service = next(s for s in case.kind("Service") if s["metadata"]["name"] == "zoo-store")
    assert [port["port"] for port in service["spec"]["ports"]] == [8333]
    policy = next(p for p in case.kind("NetworkPolicy") if p["metadata"]["name"] == "zoo-store")
    assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"port": "s3"}]]
    assert case.kind("PersistentVolumeClaim")[0]["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    }
    assert cases["embedded-store-passing"].kind("PersistentVolumeClaim") == []


def test_helm_test_tries_the_closed_ports_at_the_address_of_the_stores_pod(cases: dict[str, Case]) -> None:
    case = cases["embedded-store"]
    args = case.kind("Pod")[0]["spec"]["containers"][0]["args"]
    closed = [args[i + 1] for i, word in enumerate(args) if word == "--closed"]
    hosts = {address.partition(":")[0] for address in closed}
    assert hosts == {"zoo-store-pod.zoos.svc"}
    service = next(s for s in case.kind("Service") if s["metadata"]["name"] == "zoo-store-pod")
    assert service["spec"]["clusterIP"] == "None"


def test_every_cronjob_has_deadlines(case: Case) -> None:
    for job in case.kind("CronJob"):
        assert job["spec"]["startingDeadlineSeconds"] > 0
        assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0


def test_the_chart_s_own_budget_is_that_of_the_standing_cluster_alone(cases: dict[str, Case]) -> None:
    assert cases["minimal"].kind("PodDisruptionBudget") == []
    (budget,) = cases["standing-cluster"].kind("PodDisruptionBudget")
    head = {"ray.io/cluster": "zoo", "ray.io/node-type": "head"}
    assert budget["spec"] == {"minAvailable": 1, "selector": {"matchLabels": head}}


def test_releases_of_two_clusters_tell_their_runs_apart() -> None:
    def settings(cluster: str) -> dict[str, Any]:
        runs = next(m for m in render({**minimal(), "clusterId": cluster}) if m["metadata"]["name"] == "zoo-runs")
        return dict(runs["data"])

    here, there = (Release.from_config(settings(name), Target("zoos", "zoo")) for name in ("a", "b"))
    assert (here.origin, there.origin) == ("a/zoos/zoo", "b/zoos/zoo")


def test_a_disabled_feature_leaves_no_objects(cases: dict[str, Case]) -> None:
    assert sorted({m["kind"] for m in cases["open"].manifests}) == ["ConfigMap", "Pod", "RayCluster", "ServiceAccount"]


def test_alerts_and_dashboards_come_from_their_files(cases: dict[str, Case]) -> None:
    case = cases["monitoring"]
    assert len(case.kind("PrometheusRule")) == len(list((CHART / "rules").glob("*.yaml")))
    rules = [r for m in case.kind("PrometheusRule") for group in m["spec"]["groups"] for r in group["rules"]]
    links = {r["annotations"]["runbook_url"].partition("#")[0] for r in rules if "alert" in r}
    assert links == {"https://wiki.example.com/zooforge/runbooks"}
    expressions = {(r["alert"], r["labels"].get("cause")): r["expr"] for r in rules if "alert" in r}
    assert expressions["MetricsAbsent", None] == 'absent(zooforge_build_info{namespace="zoos",pod=~"zoo-exporter-.+"})'
    assert '{namespace="zoos",persistentvolumeclaim="zoo-store"}' in expressions["DiskFilling", "volume"]
    assert 'zooforge_store_free_bytes{namespace="zoos"}' in expressions["DiskFilling", "store"]
    assert not [r for r in rules if 'namespace=~".*"' in r["expr"]]
    boards = [m for m in case.kind("ConfigMap") if m["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert len(boards) == len(list((CHART / "dashboards").glob("*.json")))
    for board in boards:
        (text,) = board["data"].values()
        json.loads(text)
    ports = {e["port"] for m in case.kind("PodMonitor") for e in m["spec"]["podMetricsEndpoints"]}
    declared = {p["name"] for pod in case.pods for p in pod["spec"]["containers"][0].get("ports", [])}
    assert ports <= declared


REFUSED = {
    "no identity of the cluster": (minimal(clusterId=""), "could not tell their runs apart"),
    "a typo": (minimal(storge={}), "storge"),
    "a typo in a group": (minimal(workerGroups={"cpu": {"maxReplica": 2}}), "maxReplica"),
    "no store": ({"clusterId": "c", "storage": {"existingSecret": "s"}}, "there is no place for zoos"),
    "no credentials": ({"clusterId": "c", "storage": {"url": "s3://my-bucket/zoos"}}, "kubectl create secret"),
    "two kinds of credentials": (
        {
            "clusterId": "c",
            "storage": {"url": "s3://my-bucket", "credentials": "workload-identity", "existingSecret": "s"},
        },
        "would not be used",
    ),
    "two stores": (minimal(embeddedStore={"enabled": True}), "a release has one store"),
    "an embedded store without a Secret": (
        {"clusterId": "c", "storage": {"credentials": "anonymous"}, "embeddedStore": {"enabled": True}},
        "the store reads its keys from the Secret",
    ),
    "a queue and the autoscaler": (minimal(queue={"name": "q"}), "Kueue admits a fixed number of pods"),
    "a grace period that cuts the drain": (minimal(drain={"timeoutSeconds": 110}), "at least 20 s longer"),
    "more kept than allowed": (minimal(workerGroups={"cpu": {"minReplicas": 5}}), "maxReplicas must not be smaller"),
    "replicas and the autoscaler": (
        minimal(workerGroups={"cpu": {"replicas": 2}}),
        "both would set the number of workers",
    ),
    "neither replicas nor the autoscaler": (minimal(autoscaler={"enabled": False}), "would never have a worker"),
    "no group": (minimal(workerGroups={"cpu": {"enabled": False}}), "nothing would train"),
    "a group with a bad name": (minimal(workerGroups={"GPU": {}}), "starts with a letter"),
    "a token Secret without tokens": (
        minimal(auth={"enabled": False, "existingSecret": "s"}),
        "anyone who reaches the dashboard",
    ),
    "tokens with an old Ray": (minimal(rayVersion="2.40.0"), "supports tokens from version 2.52"),
    "egress without a policy": (
        minimal(networkPolicy={"egress": {"enabled": True, "storeCidrs": ["1.2.3.0/24"]}}),
        "egress is part of the policy",
    ),
    "egress without the store": (
        minimal(networkPolicy={"enabled": True, "egress": {"enabled": True}}),
        "could not reach the store",
    ),
    "egress without the API server": (
        minimal(networkPolicy={"enabled": True, "egress": {"enabled": True, "storeCidrs": ["1.2.3.0/24"]}}),
        "could not reach the API server",
    ),
    "a request above its limit": (
        minimal(workerGroups={"cpu": {"cpu": "500m", "cpuRequest": "1"}}),
        "workerGroups.cpu.cpuRequest is 1 and workerGroups.cpu.cpu, the limit, is 500m",
    ),
    "a request of the head above its limit": (minimal(head={"cpuRequest": "2001m"}), "must not exceed its limit"),
    "less memory than shared memory": (
        minimal(workerGroups={"cpu": {"memory": "1Gi", "objectStoreMemory": 1006632960}}),
        "workerGroups.cpu.memory is 1Gi, but /dev/shm (objectStoreMemory and 64Mi) takes 1073741824 bytes",
    ),
    "two MIG slices in a pod": (
        minimal(workerGroups={"gpu": {"gpu": {"count": 2, "resource": "nvidia.com/mig-1g.10gb"}}}),
        "a process can use one MIG slice only",
    ),
    "more workers per GPU than cores": (
        minimal(workersPerGpu=3, workerGroups={"gpu": {"cpu": "1500m", "gpu": {"count": 1}}}),
        "workerGroups.gpu.cpu is 1500m, but 3 workers share its GPUs",
    ),
    "half a worker per GPU": (minimal(workersPerGpu=0), "workersPerGpu"),
    "budgets without the supervisor": (minimal(supervisor={"enabled": False}), "the supervisor makes the budget"),
    "no account": (minimal(serviceAccount={"create": False}), "name the service account"),
    "a long name": (minimal(fullnameOverride="a" * 41), "40"),
    "a bad bucket": ({"clusterId": "c", "storage": {"url": "gs://bucket", "existingSecret": "s"}}, "storage"),
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
