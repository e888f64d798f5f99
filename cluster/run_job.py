"""Makes the RayJob of a run from the release's template and a request, and reads it back. No requests, no clock."""

import copy
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernetes.utils import parse_quantity

from .errors import InputError
from .spec import PREFIX, Manifest, Release, RunRequest

MAX_NAME = 47  # KubeRay's limit for the name of a RayJob
MAX_ZOO = 34
JOB_ID = re.compile(r"\bZOO_JOB=(\S+)")
QUEUE = "kueue.x-k8s.io/queue-name"
OVER = ("Complete", "Failed")
STATES = {"Initializing": "starting", "Waiting": "starting", "Running": "running", "Retrying": "retrying"}


@dataclass(frozen=True, slots=True)
class Submission:
    """A submitted RayJob: the fields that submitting, following and stopping need."""

    name: str
    number: int
    request: RunRequest
    deployment: str
    job: str
    suspended: bool
    stopped: str
    """The time at which `zoo cluster stop` stopped it, and who did so; empty if nobody did."""
    cluster: str
    reason: str
    ended: float | None = None
    """Unix time of the end, seconds; None if it has not ended."""
    parts: int = 0
    """Parts of the run that were committed when it was submitted."""
    created: float | None = None
    """Unix time at which it was submitted, seconds."""
    deadline_seconds: int | None = None
    """Seconds that it may wait for its pods; None: no limit."""
    job_id: str = ""
    """Identifies the submission in the store, unlike ``name``, which begins again in a new namespace."""
    queue: str = ""
    """The LocalQueue from which Kueue admits it by ending its suspension; empty without Kueue."""

    @property
    def live(self) -> bool:
        """True if it has neither ended nor been stopped. A queued submission is live."""
        waits = self.suspended or self.deployment == "Suspended"
        return self.deployment not in OVER and (not waits or bool(self.queue and not self.stopped))

    @property
    def state(self) -> str:
        """The state as `zoo cluster status` shows it."""
        if self.stopped or (self.suspended and self.deployment == "Suspended" and not self.queue):
            return "stopped"
        if self.deployment == "Complete":
            return "ended"
        if self.deployment == "Failed":
            return "failed"
        return STATES.get(self.deployment, "queued" if self.suspended else "starting")


def job_name(zoo: str, run: str, number: int) -> str:
    """``<zoo>-<run8>-<n>``. Raises InputError if KubeRay would refuse it."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", zoo):
        raise InputError(
            f"zoo {zoo!r} cannot name a RayJob: it must begin with a letter and have only a-z, 0-9 and '-'; "
            "give the spec another name"
        )
    name = f"{zoo}-{run[:8]}-{number}"
    if len(zoo) > MAX_ZOO or len(name) > MAX_NAME:
        raise InputError(
            f"zoo {zoo!r} has {len(zoo)} characters and KubeRay leaves {MAX_ZOO} of a RayJob's {MAX_NAME}; "
            "give the spec a shorter name"
        )
    return name


def submission(job: Mapping[str, Any]) -> Submission | None:
    """The submission of a RayJob; None if `zoo cluster` did not make the RayJob."""
    metadata, status = job["metadata"], job.get("status") or {}
    text = (metadata.get("annotations") or {}).get(f"{PREFIX}/request")
    number = metadata["name"].rpartition("-")[2]
    if text is None or not number.isdigit():
        return None
    return Submission(
        name=metadata["name"],
        number=int(number),
        request=RunRequest.from_json(text),
        deployment=status.get("jobDeploymentStatus", ""),
        job=status.get("jobStatus", ""),
        suspended=bool(job["spec"].get("suspend")),
        stopped=metadata["annotations"].get(f"{PREFIX}/stopped", ""),
        cluster=status.get("rayClusterName", ""),
        reason=status.get("message") or status.get("reason") or "",
        ended=seconds_of(status.get("endTime")),
        parts=int(metadata["annotations"].get(f"{PREFIX}/parts", 0)),
        created=seconds_of(metadata.get("creationTimestamp")),
        deadline_seconds=job["spec"].get("preRunningDeadlineSeconds"),
        job_id=found[1] if (found := JOB_ID.search(job["spec"].get("entrypoint", ""))) else "",
        queue=metadata.get("labels", {}).get(QUEUE, ""),
    )


def seconds_of(time: str | None) -> float | None:
    """A time of the Kubernetes API, such as 2026-11-24T10:00:00Z, as Unix time; None for None."""
    return None if time is None else datetime.fromisoformat(time).timestamp()


def submissions(jobs: Iterable[Mapping[str, Any]]) -> list[Submission]:
    """The submissions among RayJobs, sorted by zoo and number."""
    known = [one for job in jobs if (one := submission(job)) is not None]
    return sorted(known, key=lambda one: (one.request.zoo, one.request.run, one.number))


def next_number(known: Sequence[Submission], run: str) -> int:
    return 1 + max((one.number for one in known if one.request.run == run), default=0)


def fill(
    release: Release,
    request: RunRequest,
    number: int,
    origin: str,
    nonce: str,
    standing: Mapping[str, Any] | None = None,
    parts: int = 0,
) -> Manifest:
    """The RayJob to create: the template with name, labels, entrypoint and the limit on workers.

    Args:
        origin: identifies the release; by it a supervisor knows its own runs in a store that several releases share.
        nonce: drawn for each submission. Numbers begin again with 1 in a new namespace, so names may repeat.
        standing: spec of the standing Ray cluster, if the release has one and this user may read it.
        parts: parts of the run that are committed now; the supervisor counts failures without progress by it.
    """
    name = job_name(request.zoo, request.run, number)
    labels = {f"{PREFIX}/zoo": request.zoo, f"{PREFIX}/run": request.run[:8]}
    job = copy.deepcopy(release.template)
    metadata, spec = job["metadata"], job["spec"]
    metadata["name"] = name
    metadata["labels"] = {**metadata["labels"], **labels}
    metadata["annotations"] = {**metadata.get("annotations", {}), f"{PREFIX}/request": request.to_json()}
    if parts:
        metadata["annotations"][f"{PREFIX}/parts"] = str(parts)
    spec["jobId"] = name
    slots = None
    if "rayClusterSpec" in spec:
        cluster = spec["rayClusterSpec"]
        if request.max_workers is not None:
            limit_workers(cluster["workerGroupSpecs"], request.max_workers)
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = group["template"]["metadata"]
            pod["labels"] = {**pod["labels"], **labels}
        slots = num_slots(cluster)
    elif standing is not None:
        slots = num_slots(standing)
        slots = slots if request.max_workers is None else min(slots, request.max_workers)
    spec["entrypoint"] = entrypoint(release, request, f"{name}.{nonce}", origin, slots)
    return job


def budget(ray: Mapping[str, Any], name: str) -> Manifest:
    """The PodDisruptionBudget that keeps node drains from evicting the head of a Ray cluster."""
    metadata = ray["metadata"]
    owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": metadata["name"], "uid": metadata["uid"]}
    labels = {key: value for key, value in metadata["labels"].items() if key.startswith(f"{PREFIX}/")}
    head = {"ray.io/cluster": metadata["name"], "ray.io/node-type": "head"}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        # RayClusters have no scale subresource, so Kubernetes accepts only an integer minAvailable.
        "spec": {"minAvailable": 1, "selector": {"matchLabels": head}},
    }


def entrypoint(release: Release, request: RunRequest, job: str, origin: str, slots: int | None) -> str:
    """The command line of the driver, quoted for the head's shell."""
    environment = [f"ZOO_JOB={job}", f"ZOO_ORIGIN={origin}", f"ZOO_REQUEST={request.to_json()}"]
    environment += [f"ZOO_MAX_LIVES={release.max_lives}", f"ZOO_MAX_RUN_HOURS={release.max_hours:g}"]
    words = ["exec", "env", *environment, "python", "-m", "zooforge.zoo_jobs.unattended", "run", request.zoo]
    words += ["--store", release.store]
    if slots is not None:
        words += ["--slots", str(slots)]
    return shlex.join(words)


def limit_workers(groups: list[dict[str, Any]], most: int) -> None:
    """Lower the limits of the groups, in their order, so that at most ``most`` workers can run."""
    left = most
    for group in groups:
        for key in ("maxReplicas", "minReplicas", "replicas"):
            if key in group:
                group[key] = min(group[key], left)
        left -= group["maxReplicas"]
    if not any(group["maxReplicas"] for group in groups):
        raise InputError(f"--max-workers {most}: no worker could start; allow at least 1")


def num_slots(cluster: Mapping[str, Any]) -> int:
    """Number of tasks that all workers of a Ray cluster run at once: one or more per GPU of the GPU groups, or one per
    core.

    If any group has GPUs, the cores of the other groups do not count: all actors of a run are of one kind.

    Args:
        cluster: the spec of a RayCluster. ``ZOO_WORKERS_PER_GPU`` of its head is the number of slots of a GPU.
    """
    per_gpu = workers_per_gpu(cluster)
    cpus = gpus = 0
    for group in cluster["workerGroupSpecs"]:
        gpu, cpu = _num_gpus(group), _container(group)["resources"]["limits"]["cpu"]
        gpus += group["maxReplicas"] * gpu
        cpus += group["maxReplicas"] * (0 if gpu else whole_cores(str(cpu)))
    return per_gpu * gpus or cpus or 1


def workers_per_gpu(cluster: Mapping[str, Any]) -> int:
    """``ZOO_WORKERS_PER_GPU`` of the head of a Ray cluster, 1 without it."""
    return int(_environment(cluster["headGroupSpec"]).get("ZOO_WORKERS_PER_GPU", 1))


def worker_machines(cluster: Mapping[str, Any]) -> list[str]:
    """The machines (``ZOO_MACHINE``) of the groups that run tasks, each once, in the order of the groups.

    Groups without GPUs are left out where any group has GPUs, as in `num_slots`; groups that name no machine always.
    """
    groups = cluster["workerGroupSpecs"]
    running = [group for group in groups if _num_gpus(group)] or groups
    named = (_environment(group).get("ZOO_MACHINE") for group in running)
    return list(dict.fromkeys(name for name in named if name))


def machine_options(cluster: Mapping[str, Any]) -> list[str]:
    """The options of `zoo plan` for the machine of the workers; none if the groups name no machine, or several."""
    machines = worker_machines(cluster)
    return ["--on", machines[0], "--workers-per-gpu", str(workers_per_gpu(cluster))] if len(machines) == 1 else []


def _container(group: Mapping[str, Any]) -> Mapping[str, Any]:
    container: Mapping[str, Any] = group["template"]["spec"]["containers"][0]
    return container


def _environment(group: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in _container(group).get("env", []) if "value" in entry}


def _num_gpus(group: Mapping[str, Any]) -> int:
    limits = _container(group)["resources"]["limits"]
    return sum(int(count) for name, count in limits.items() if "/" in name)


def whole_cores(quantity: str) -> int:
    """The number of CPUs that KubeRay gives Ray for a CPU limit: whole cores, rounded up."""
    cores: int = math.ceil(parse_quantity(quantity))
    return max(1, cores)
