"""Checks whether a cluster can run zoos: one line per check, with the remedy if it fails."""

import base64
import contextlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kubernetes.utils import parse_quantity

from .client import Cluster
from .errors import ClusterError, NotAllowed, ObjectMissing
from .pods import view
from .spec import Manifest, Release, Target

MIN_KUBERNETES = (1, 29)
MIN_OPERATOR = (1, 6, 2)
MIN_DRIVER = 525  # the oldest NVIDIA driver that runs CUDA 12, and so the oldest for any build of the image
INSIDE_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: ``ok`` is None if nothing could be checked, ``found`` says what the state is."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""

    def line(self) -> str:
        word = {True: "pass", False: "FAIL", None: "skip"}[self.ok]
        remedy = f"; {self.remedy}" if self.ok is False and self.remedy else ""
        return f"{word}  {self.name}: {self.found}{remedy}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def checks(cluster: Cluster, target: Target, release: Release | None, inside: bool) -> Iterator[Check]:
    """Make all checks, the quick ones first. ``inside`` starts a pod for about a minute."""
    yield kubernetes_version(cluster)
    yield from custom_resources(cluster)
    yield operator(cluster)
    if release is None:
        yield Check(
            "release", None, f"none called {target.release} in {target.namespace} yet; `zoo cluster deploy` makes it"
        )
        return
    yield Check("release", True, f"{target.release} in {target.namespace}, mode {release.mode}, store {release.store}")
    spec = ray_cluster_spec(cluster, target, release)
    yield from capacity(cluster, spec)
    yield from gpu_drivers(cluster, spec)
    yield storage_class(cluster, target)
    credentials = secret(cluster, target, release)
    yield credentials
    yield quota(cluster, target)
    if inside and credentials.ok is False:
        yield Check("from inside", None, "no pod starts without its Secret")
    elif inside:
        yield from from_inside(cluster, target, spec)


def kubernetes_version(cluster: Cluster) -> Check:
    version = cluster.version()
    number = tuple(int(re.sub(r"\D", "", version[key]) or 0) for key in ("major", "minor"))
    return Check(
        "Kubernetes",
        number >= MIN_KUBERNETES,
        f"{version['gitVersion']} at {cluster.host}",
        f"{'.'.join(map(str, MIN_KUBERNETES))} or later is needed",
    )


def custom_resources(cluster: Cluster) -> Iterator[Check]:
    for name, needs in (("rayclusters.ray.io", "authOptions"), ("rayjobs.ray.io", "preRunningDeadlineSeconds")):
        try:
            crd = cluster.find("customresourcedefinitions", None, name)
        except NotAllowed:
            yield Check(f"CRD {name}", None, "this user may not look at CRDs")
            continue
        if crd is None:
            yield Check(f"CRD {name}", False, "missing", "`zoo cluster install-operator` installs KubeRay")
            continue
        fields = served_fields(crd)
        yield Check(
            f"CRD {name}",
            needs in fields,
            "v1 served" if needs in fields else f"v1 has no field {needs}, so it is older than 1.6",
            "`zoo cluster install-operator` brings it up to date",
        )


def served_fields(crd: Mapping[str, Any]) -> set[str]:
    """The fields of ``spec`` in version v1, if that version is served."""
    for version in crd["spec"]["versions"]:
        if version["name"] == "v1" and version["served"]:
            return set(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])
    return set()


def operator(cluster: Cluster) -> Check:
    try:
        deployments = cluster.list("deployments", None, "app.kubernetes.io/name=kuberay-operator")
    except NotAllowed:
        return Check("KubeRay operator", None, "this user may not look at other namespaces")
    if not deployments:
        return Check("KubeRay operator", None, "there is no Deployment of it; does it run elsewhere?")
    deployment = deployments[0]
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
    match = re.search(r":v?(\d+)\.(\d+)\.(\d+)", image)
    old = match is not None and tuple(int(part) for part in match.groups()) < MIN_OPERATOR
    where = f"{image} in {deployment['metadata']['namespace']}"
    remedy = f"{'.'.join(map(str, MIN_OPERATOR))} or later is needed: `zoo cluster install-operator`"
    if old:
        return Check("KubeRay operator", False, f"{where} is too old", remedy)
    return Check("KubeRay operator", ready > 0, f"{where}, {ready} ready", "look at its log: it is not ready")


def ray_cluster_spec(cluster: Cluster, target: Target, release: Release) -> Manifest:
    own: Manifest | None = release.template["spec"].get("rayClusterSpec")
    return own or cluster.get("rayclusters", target.namespace, target.release)["spec"]


def capacity(cluster: Cluster, spec: Mapping[str, Any]) -> Iterator[Check]:
    """Whether, for each kind of pod, a node exists that the pod fits on while the node is empty."""
    try:
        nodes = cluster.list("nodes", None)
    except NotAllowed:
        yield Check("nodes", None, "this user may not look at nodes")
        return
    for name, pod, most in _groups(spec):
        requests = _requests(pod)
        selector = pod["spec"].get("nodeSelector") or {}
        fitting = [
            node["metadata"]["name"]
            for node in nodes
            if all((node["metadata"].get("labels") or {}).get(k) == v for k, v in selector.items())
            and not lacking(requests, node["status"]["allocatable"])
        ]
        asked = ", ".join(f"{value} {key}" for key, value in requests.items())
        if fitting:
            yield Check(f"room for {name}", True, f"{asked}: fits on {len(fitting)} of {len(nodes)} nodes")
            continue
        gpus = [key for key in requests if "/" in key]
        offers = [f"{node['status']['allocatable'].get(key, 0)} {key}" for node in nodes for key in gpus]
        detail = f"; nodes offer {', '.join(offers)}" if offers else ""
        yield Check(
            f"room for {name}",
            False if most else None,
            f"{asked}: fits on none of {len(nodes)} nodes{detail}",
            "add nodes, lower the request, or check nodeSelector; a pool that scales from zero shows no node yet",
        )


def _requests(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    requests: Mapping[str, Any] = pod["spec"]["containers"][0]["resources"]["requests"]
    return requests


def _groups(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    yield "the head", spec["headGroupSpec"]["template"], 1
    for group in spec["workerGroupSpecs"]:
        yield f"workers of group {group['groupName']}", group["template"], group["maxReplicas"]


def lacking(requests: Mapping[str, Any], allocatable: Mapping[str, Any]) -> list[str]:
    """The requested resources of which the node offers less."""
    return [k for k, value in requests.items() if parse_quantity(value) > parse_quantity(allocatable.get(k, 0))]


def gpu_drivers(cluster: Cluster, spec: Mapping[str, Any]) -> Iterator[Check]:
    """For each GPU resource that a group requests, the driver version in the labels of the nodes that offer it."""
    wanted = {key for _, pod, _ in _groups(spec) for key in _requests(pod) if key.startswith("nvidia.com/")}
    if not wanted:
        return
    remedy = "GPU nodes need NVIDIA's driver and device plugin, as the GPU operator installs them"
    try:
        nodes = cluster.list("nodes", None)
    except NotAllowed:
        yield Check("GPU driver", None, "this user may not look at nodes")
        return
    for key in sorted(wanted):
        offering = [node for node in nodes if parse_quantity(node["status"]["allocatable"].get(key, 0)) > 0]
        if not offering:
            yield Check(f"GPU driver for {key}", None, f"no node offers {key} now; {remedy}")
            continue
        versions = sorted({driver_version(node) for node in offering})
        known = [version for version in versions if version]
        driver = f"CUDA driver {', '.join(known)}" if known else "not labelled with a driver version"
        old = [version for version in known if int(version.partition(".")[0]) < MIN_DRIVER]
        state = f"{len(offering)} of {len(nodes)} nodes, {driver}"
        newer = f"CUDA builds need driver {MIN_DRIVER} or later: upgrade it, or use another build of the image"
        yield Check(f"GPU driver for {key}", not old, state, newer)


def driver_version(node: Mapping[str, Any]) -> str:
    """The driver version in the labels of gpu-feature-discovery, such as ``580.65``; empty if there are none."""
    labels = node["metadata"].get("labels") or {}
    for prefix in ("nvidia.com/cuda.driver-version", "nvidia.com/cuda.driver"):
        if full := labels.get(f"{prefix}.full"):
            return str(full)
        if major := labels.get(f"{prefix}.major"):
            return f"{major}.{labels.get(f'{prefix}.minor', '0')}"
    return ""


def storage_class(cluster: Cluster, target: Target) -> Check:
    """True if the embedded store's volume claim can be bound. Without such a claim there is nothing to check."""
    try:
        claims = cluster.list(
            "persistentvolumeclaims", target.namespace, f"app.kubernetes.io/instance={target.release}"
        )
        classes = cluster.list("storageclasses", None)
    except NotAllowed:
        return Check("storage class", None, "this user may not look at volume claims or storage classes")
    names = {one["metadata"]["name"] for one in classes}
    if not claims:
        return Check("storage class", None, "the release asks for no volume")
    for claim in claims:
        if (claim.get("status") or {}).get("phase") == "Bound":
            continue
        wanted = claim["spec"].get("storageClassName")
        there = f"there are {', '.join(sorted(names)) or 'none'}"
        name = claim["metadata"]["name"]
        remedy = (
            "set embeddedStore.storageClassName to one of them, or to `-` for a volume that ends with the pod; then "
            f"remove the claim that waits: kubectl -n {target.namespace} delete pvc {name}"
        )
        if wanted is None and not any(_is_default(one) for one in classes):
            return Check(
                "storage class", False, f"claim {name} asks for the default and there is none; {there}", remedy
            )
        if wanted and wanted not in names:
            return Check("storage class", False, f"claim {name} asks for {wanted}; {there}", remedy)
        return Check("storage class", True, f"{wanted or 'the default'} exists; claim {name} waits to be bound")
    return Check("storage class", True, f"{len(claims)} volume claims are bound")


def _is_default(storage_class: Mapping[str, Any]) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return annotations.get("storageclass.kubernetes.io/is-default-class") == "true"


def secret(cluster: Cluster, target: Target, release: Release) -> Check:
    name = release.credentials_secret
    if release.credentials != "secret":
        return Check("credentials", None, f"{release.credentials}: no Secret to look at")
    try:
        content = cluster.find("secrets", target.namespace, name)
    except NotAllowed:
        return Check(f"Secret {name}", None, "this user may not read Secrets; the check from inside says more")
    if content is None:
        remedy = f"kubectl -n {target.namespace} create secret generic {name} --from-file=credentials=FILE"
        return Check(f"Secret {name}", False, "missing", remedy)
    texts = [base64.b64decode(value) for value in (content.get("data") or {}).values()]
    has_keys = any(b"aws_access_key_id" in text for text in texts)
    return Check(f"Secret {name}", has_keys, f"has {len(texts)} keys", "it must hold an AWS shared credentials file")


def quota(cluster: Cluster, target: Target) -> Check:
    try:
        quotas = cluster.list("resourcequotas", target.namespace)
    except NotAllowed:
        return Check("quota", None, "this user may not look at quotas")
    full = [
        f"{key} {used} of {quota['status']['hard'][key]}"
        for quota in quotas
        for key, used in (quota["status"].get("used") or {}).items()
        if parse_quantity(used) >= parse_quantity(quota["status"]["hard"][key])
    ]
    if full:
        return Check("quota", False, f"used up: {', '.join(full)}", "raise it, or lower what runs")
    return Check("quota", True, f"{len(quotas)} in the namespace, none used up")


def from_inside(cluster: Cluster, target: Target, spec: Mapping[str, Any]) -> Iterator[Check]:
    """Start a pod with the image, service account and mounts of the head, and let it try the store."""
    pod = probe_pod(spec, target, f"{target.release}-preflight-{secrets.token_hex(3)}")
    name = pod["metadata"]["name"]
    try:
        cluster.create("pods", target.namespace, pod)
    except NotAllowed:
        yield Check("from inside", None, "this user may not create pods")
        return
    except ClusterError as error:
        yield Check("from inside", False, str(error))
        return
    try:
        yield from _watch_probe(cluster, target, name)
    finally:
        with contextlib.suppress(ObjectMissing):
            cluster.delete("pods", target.namespace, name)


def _watch_probe(cluster: Cluster, target: Target, name: str) -> Iterator[Check]:
    deadline = time.monotonic() + INSIDE_SECONDS
    while True:
        pod = cluster.get("pods", target.namespace, name)
        phase = pod["status"].get("phase")
        if phase in ("Succeeded", "Failed"):
            break
        reason = view(pod, cluster.list("events", target.namespace)).reason
        if re.match(r"(ErrImage|ImagePull|InvalidImage|CreateContainer)", reason) or time.monotonic() > deadline:
            yield Check("from inside", False, reason or f"the pod is still {phase} after {INSIDE_SECONDS} s")
            return
        time.sleep(1)
    for line in cluster.log(target.namespace, name, "probe"):
        word, _, text = line.partition("  ")
        if word in ("pass", "FAIL"):
            name, colon, rest = (
                text.partition(": ") if text.startswith("bucket versioning") else ("from inside", "", text)
            )
            remedy = "" if colon else "the store must be reachable with the pods' credentials"
            yield Check(name, word == "pass", rest or text, remedy)
    if phase == "Failed" and (pod["status"].get("containerStatuses") or [{}])[0].get("state", {}).get(
        "terminated", {}
    ).get("exitCode") not in (0, 1):
        yield Check("from inside", False, "the image does not run `zoo`; is it built from this version?")


def probe_pod(spec: Mapping[str, Any], target: Target, name: str) -> Manifest:
    """A pod with the image, service account and mounts of the head that only tries the store."""
    template = spec["headGroupSpec"]["template"]["spec"]
    head = template["containers"][0]
    used = [mount for mount in head["volumeMounts"] if mount["name"] != "shared-memory"]
    names = {mount["name"] for mount in used}
    store = next(entry["value"] for entry in head["env"] if entry["name"] == "ZOO_STORE")
    keys = ("serviceAccountName", "automountServiceAccountToken", "securityContext", "imagePullSecrets")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "zooforge",
                "app.kubernetes.io/instance": target.release,
                "app.kubernetes.io/component": "test",
            },
        },
        "spec": {
            **{key: template[key] for key in keys if key in template},
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": INSIDE_SECONDS,
            "volumes": [volume for volume in template["volumes"] if volume["name"] in names],
            "containers": [
                {
                    **{key: head[key] for key in ("image", "imagePullPolicy", "env", "securityContext")},
                    "name": "probe",
                    "args": ["python", "-m", "zooforge.cluster.selftest", "--store", store, "--versions"],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "256Mi"},
                        "limits": {"cpu": "1", "memory": "256Mi"},
                    },
                    "volumeMounts": used,
                }
            ],
        },
    }
