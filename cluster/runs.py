"""Finds, submits, stops and follows the runs of a release."""

import contextlib
import getpass
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from . import run_job
from .client import Cluster
from .errors import (
    AlreadyExists,
    AnotherRequestLives,
    ClusterError,
    InputError,
    NotAllowed,
    NotInstalled,
    ObjectMissing,
    UnknownField,
    nearest,
)
from .pods import PodView, view
from .run_job import Submission
from .spec import PREFIX, Manifest, Release, RunRequest, Target
from .supervise import Leak, Stuck, leaks, stuck

POLL_SECONDS = 2.0


def find_release(cluster: Cluster, target: Target) -> Release | None:
    config = cluster.find("configmaps", target.namespace, target.runs_config)
    return None if config is None else Release.from_config(config["data"], target)


def release_of(cluster: Cluster, target: Target) -> Release:
    """The settings of the release. Raises NotInstalled if there is no such release."""
    release = find_release(cluster, target)
    if release is None:
        raise NotInstalled(
            f"no release {target.release!r} in namespace {target.namespace!r}: "
            f"ConfigMap {target.runs_config} is missing; "
            "install it with `zoo cluster deploy`, or name another one with --namespace and --release"
        )
    return release


def known_submissions(cluster: Cluster, target: Target) -> list[Submission]:
    """The submissions of the release, sorted by zoo and number. Raises NotInstalled if KubeRay's CRDs are missing."""
    try:
        jobs = cluster.list("rayjobs", target.namespace, f"{PREFIX}/release={target.release}")
    except ObjectMissing:
        raise NotInstalled("the cluster knows no RayJobs; `zoo cluster install-operator` installs KubeRay") from None
    return run_job.submissions(jobs)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The result of a submission: RayJob ``name`` was made now, or was live already with the same request."""

    name: str
    made: bool


def prepare(
    cluster: Cluster, target: Target, release: Release, request: RunRequest, parts: int = 0
) -> Submitted | Manifest:
    """The RayJob to create; or the running one that has the same request.

    Raises:
        AnotherRequestLives: a run of this zoo is live with another request.
    """
    known = known_submissions(cluster, target)
    for one in known:
        if one.request.zoo != request.zoo or not one.live:
            continue
        if one.request == request:
            return Submitted(one.name, made=False)
        raise AnotherRequestLives(
            f"{one.name} is live with another request ({one.request.to_json()}); "
            f"stop it first: zoo cluster stop {request.zoo}"
        )
    number = run_job.next_number(known, request.run)
    standing = standing_cluster(cluster, target) if release.mode == "cluster" else None
    return run_job.fill(release, request, number, release.origin, secrets.token_hex(4), standing, parts)


def standing_cluster(cluster: Cluster, target: Target) -> Manifest | None:
    """Spec of the release's standing Ray cluster; None if there is none, or this user may not read it."""
    try:
        ray = cluster.find("rayclusters", target.namespace, target.release)
    except NotAllowed:
        return None
    return None if ray is None else ray["spec"]


def create(cluster: Cluster, target: Target, job: Manifest) -> Submitted:
    """Create a RayJob. If another submitter made one of this name first, theirs counts if the request is the same."""
    name = job["metadata"]["name"]
    try:
        cluster.create("rayjobs", target.namespace, job)
        return Submitted(name, made=True)
    except AlreadyExists:
        theirs = run_job.submission(cluster.get("rayjobs", target.namespace, name))
        ours = RunRequest.from_json(job["metadata"]["annotations"][f"{PREFIX}/request"])
        if theirs is not None and theirs.request == ours:
            return Submitted(name, made=False)
        raise AnotherRequestLives(f"{name} was submitted just now with another request; submit again") from None
    except ObjectMissing:
        raise NotInstalled("the cluster knows no RayJobs; `zoo cluster install-operator` installs KubeRay") from None
    except UnknownField as error:
        raise NotInstalled(
            f"the cluster's KubeRay is too old: it knows no {error.field}; "
            "`zoo cluster install-operator` brings it up to date"
        ) from None


def ray_clusters(cluster: Cluster, target: Target) -> list[Manifest]:
    """The Ray clusters of the release."""
    return cluster.list("rayclusters", target.namespace, f"{PREFIX}/release={target.release}")


def leaked_clusters(cluster: Cluster, target: Target, release: Release, now: float) -> list[Leak]:
    """Ray clusters of ended or deleted RayJobs that KubeRay did not remove in time; none for a standing cluster."""
    ttl = release.template["spec"].get("ttlSecondsAfterFinished")
    if ttl is None:
        return []
    rays = ray_clusters(cluster, target)
    return leaks(rays, known_submissions(cluster, target), float(ttl), now) if rays else []


def stuck_pods(cluster: Cluster, target: Target, now: float) -> list[Stuck]:
    """Pods of the release's Ray clusters that were deleted and do not end."""
    return stuck(cluster.list("pods", target.namespace, f"{PREFIX}/release={target.release}"), now)


def protect_heads(cluster: Cluster, target: Target) -> list[str]:
    """Make the missing PodDisruptionBudgets, one for the head of each Ray cluster of a run. Returns their names.

    A budget belongs to the RayCluster and is removed with it. A RayJob is no owner for it: an ended RayJob has no pod,
    so its budget would be violated for ever.
    """
    selector = f"{PREFIX}/release={target.release}"
    known = {budget["metadata"]["name"] for budget in cluster.list("poddisruptionbudgets", target.namespace, selector)}
    made = []
    for ray in cluster.list("rayclusters", target.namespace, selector):
        name = f"{ray['metadata']['name']}-head"
        if name in known or ray["metadata"].get("deletionTimestamp"):
            continue
        with contextlib.suppress(AlreadyExists):
            cluster.create("poddisruptionbudgets", target.namespace, run_job.budget(ray, name))
            made.append(name)
    return made


def newest(known: list[Submission], zoo: str | None) -> Submission:
    """The newest submission of a zoo. Without a name there must be only one zoo, else InputError is raised."""
    zoos = sorted({one.request.zoo for one in known})
    if zoo is None:
        live = sorted({one.request.zoo for one in known if one.live})
        if len(live or zoos) != 1:
            raise InputError(f"name a zoo: {', '.join(live or zoos) or 'nothing was submitted here yet'}")
        zoo = (live or zoos)[0]
    own = [one for one in known if zoo in (one.request.zoo, one.name)]
    if not own:
        close = nearest(zoo, zoos)
        offer = f"did you mean {close!r}?" if close else f"submitted are: {', '.join(zoos) or 'none'}"
        raise InputError(f"no run of {zoo!r} in this release; {offer}")
    return max(own, key=lambda one: (one.live, one.number))


def stop(cluster: Cluster, target: Target, one: Submission) -> str:
    """Stop a run with one patch, so that it is not started again. Workers commit first. Returns what was done."""
    job = cluster.get("rayjobs", target.namespace, one.name)
    by = f"{datetime.now(UTC).isoformat(timespec='seconds')} by {getpass.getuser()}"
    if "clusterSelector" in job["spec"] or one.queue:
        # KubeRay cannot suspend a job of a standing cluster, and Kueue would start a suspended job again.
        cluster.delete("rayjobs", target.namespace, one.name)
        return f"RayJob {one.name} is deleted"
    patch = {"metadata": {"annotations": {f"{PREFIX}/stopped": by}}, "spec": {"suspend": True}}
    cluster.patch("rayjobs", target.namespace, one.name, patch)
    return f"RayJob {one.name} is suspended"


def pods_of(cluster: Cluster, target: Target) -> list[PodView]:
    """The pods of the release, each with the reason why it does not run."""
    events = cluster.list("events", target.namespace)
    views: dict[str, PodView] = {}
    for selector in (f"{PREFIX}/release={target.release}", f"app.kubernetes.io/instance={target.release}"):
        for pod in cluster.list("pods", target.namespace, selector):
            views[pod["metadata"]["name"]] = view(pod, events)
    return [views[name] for name in sorted(views)]


def head_pod(cluster: Cluster, target: Target, one: Submission) -> str | None:
    """Name of the head pod of a submission; None if there is none at the moment."""
    if not one.cluster:
        return None
    heads = cluster.list("pods", target.namespace, f"ray.io/cluster={one.cluster},ray.io/node-type=head")
    alive = [pod for pod in heads if not pod["metadata"].get("deletionTimestamp")]
    return alive[0]["metadata"]["name"] if alive else None


def follow(cluster: Cluster, target: Target, one: Submission, say: Callable[[str], None]) -> Iterator[str]:
    """Yield the driver's lines until the run ends, over restarts of its head. ``say`` gets what is waited for."""
    last, said = "", ""
    while True:
        present = run_job.submission(cluster.get("rayjobs", target.namespace, one.name))
        if present is None:
            raise ClusterError(f"RayJob {one.name} lost its annotation {PREFIX}/request")
        pod = head_pod(cluster, target, present)
        if pod is not None and pod != last:
            try:
                yield from cluster.log(target.namespace, pod, "ray-head", follow=True)
                last = pod
            except (InputError, ObjectMissing):
                pass  # the container has not started yet
        elif not present.live:
            say(f"{present.name} {present.state}{': ' + present.reason if present.reason else ''}")
            return
        if pod is None and (text := f"{present.name} is {present.state}; waiting for its head") != said:
            said = text
            say(text)
        time.sleep(POLL_SECONDS)


def warn(text: str) -> None:
    sys.stderr.write(f"{text}\n")
