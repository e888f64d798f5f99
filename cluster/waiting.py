"""Says what runs wait for: drivers that do not start, and workers that were requested. No requests, no clock."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .run_job import Submission

DRIVER_SECONDS = 3600.0  # time for a driver to begin if the RayJob has no deadline
BEGINNING = ("", "New", "Initializing", "Waiting")


def late(known: Iterable[Submission], now: float) -> list[str]:
    """A sentence for each live submission whose driver should have begun by ``now``, Unix time in seconds.

    KubeRay fails such a RayJob itself, unless the operator is down or Ray keeps the job PENDING.
    """
    said = []
    for one in known:
        waits = one.deployment in BEGINNING or one.job == "PENDING"
        if not (one.live and waits) or one.suspended or one.created is None:
            continue
        limit = one.deadline_seconds or DRIVER_SECONDS
        if now - one.created > limit:
            state = "Ray keeps its job PENDING" if one.job == "PENDING" else "its pods are not ready"
            said.append(
                f"{one.name} was submitted {(now - one.created) / 60:,.0f} min ago and its driver has not begun within "
                f"{limit / 60:,.0f} min: {state}; see the pods below, and whether the operator runs"
            )
    return said


def missing_workers(rays: Iterable[Mapping[str, Any]], known: Sequence[Submission]) -> list[str]:
    """A sentence for each Ray cluster of a live submission that has fewer workers than its autoscaler requested."""
    jobs = {one.cluster: one.name for one in known if one.live and one.cluster}
    said = []
    for ray in rays:
        name, status = ray["metadata"]["name"], ray.get("status") or {}
        wanted, ready = int(status.get("desiredWorkerReplicas", 0)), int(status.get("readyWorkerReplicas", 0))
        if name in jobs and ready < wanted:
            groups = (ray.get("spec") or {}).get("workerGroupSpecs") or []
            most = sum(int(group.get("maxReplicas", 0)) for group in groups)
            said.append(
                f"{jobs[name]} works with {ready} workers and waits for {wanted - ready} more "
                f"that its autoscaler requested (at most {most}); it continues with the workers that exist"
            )
    return said
