"""Decides what the supervisor does: submit and stop runs, remove leaked clusters and stuck pods. No requests."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .run_job import OVER, Submission, seconds_of
from .spec import RunRequest

MAX_FAILURES = 10
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0
DAY_SECONDS = 86400.0
LEAK_MARGIN_SECONDS = 300.0  # for KubeRay, which removes the cluster of an ended RayJob itself
STUCK_SECONDS = 60.0  # after its grace period, for the kubelet of the pod's node


@dataclass(frozen=True, slots=True)
class Action:
    """One action on one run, with its reason. ``wait`` does nothing now; it is only printed."""

    what: Literal["submit", "stop", "wait"]
    request: RunRequest
    why: str
    parts: int = 0


def decide(pending: Iterable[Mapping[str, Any]], known: Sequence[Submission], now: float) -> list[Action]:
    """The actions for runs that are wanted and unfinished according to the store, and have no live driver.

    A live RayJob is left alone, because KubeRay retries it. If a person stopped the RayJob, the stop is written to the
    store. A RayJob that Kueue suspended is queued: it counts as live unless a person stopped it. A RayJob that failed
    is submitted again after a pause that doubles with every failure in a row, and after ten the run is stopped.

    Args:
        pending: the output of `python -m zooforge.zoo_jobs.unattended pending`.
        known: the submissions of the release, sorted by zoo and number.
        now: Unix time, seconds.
    """
    actions = []
    for row in pending:
        request = RunRequest.from_json(json.dumps(row["request"]))
        parts = int(row.get("parts", 0))
        own = [one for one in known if one.request.run == row["run"]]
        newest = own[-1] if own else None
        if newest is None:
            actions.append(Action("submit", request, f"its RayJob {row['job']} is gone", parts))
        elif newest.stopped:
            actions.append(Action("stop", request, f"RayJob {newest.name} was stopped ({newest.stopped})"))
        elif newest.deployment in OVER:
            actions.append(_again(own, request, parts, now))
    return actions


def failed_without_a_trace(
    pending: Iterable[Mapping[str, Any]], known: Sequence[Submission], now: float
) -> list[Submission]:
    """The newest submission of each run that failed within a day, if the run is not pending.

    Either the store says that the run is finished or stopped, or the RayJob failed before its driver began.
    """
    newest = {one.request.run: one for one in known}
    for row in pending:
        newest.pop(row["run"], None)
    return [
        one
        for one in newest.values()
        if one.deployment == "Failed" and not one.stopped and one.ended is not None and now < one.ended + DAY_SECONDS
    ]


def never_begun(failed: Iterable[Submission], begun: Collection[str]) -> list[dict[str, Any]]:
    """Rows as in `pending` for failed submissions whose driver never began, for ``decide``.

    Args:
        begun: identifiers of the submissions whose drivers began, from the store.
    """
    return [
        {"run": one.request.run, "job": one.name, "request": json.loads(one.request.to_json()), "parts": one.parts}
        for one in failed
        if one.job_id not in begun
    ]


def _again(own: Sequence[Submission], request: RunRequest, parts: int, now: float) -> Action:
    """The action for a run whose newest RayJob is over, though the run is unfinished."""
    newest = own[-1]
    reason = f": {newest.reason}" if newest.reason else ""
    if newest.deployment == "Complete":
        return Action("submit", request, f"RayJob {newest.name} ended{reason}", parts)
    failures = failures_in_a_row(own, parts)
    why = f"RayJob {newest.name} failed ({failures} of {MAX_FAILURES} in a row without a new part){reason}"
    if failures >= MAX_FAILURES:
        return Action("stop", request, why)
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (failures - 1))
    if newest.ended is not None and now < newest.ended + pause:
        return Action("wait", request, f"{why}; submitted again in {newest.ended + pause - now:.0f} s")
    return Action("submit", request, why, parts)


def failures_in_a_row(own: Sequence[Submission], parts: int) -> int:
    """The number of newest submissions of a run that failed, none of which committed a part.

    Args:
        parts: the parts that the store has now. Each submission knows how many there were when it was made.
    """
    count = 0
    for one in reversed(own):
        if one.deployment != "Failed" or one.stopped:
            break
        count += 1
        if one.parts != parts:
            break
    return count


@dataclass(frozen=True, slots=True)
class Leak:
    """A Ray cluster that KubeRay should have removed."""

    name: str
    why: str


def leaks(rays: Iterable[Mapping[str, Any]], known: Sequence[Submission], ttl_seconds: float, now: float) -> list[Leak]:
    """The Ray clusters of runs whose RayJob is gone or ended longer ago than ``ttl_seconds``.

    Args:
        rays: the RayClusters of the release, read *before* ``known``: else a new RayJob would seem to be gone.
        known: the submissions of the release.
    """
    jobs = {one.name: one for one in known}
    leaked = []
    for ray in rays:
        metadata = ray["metadata"]
        owner = metadata.get("labels", {}).get("ray.io/originated-from-cr-name")
        if owner is None or metadata.get("deletionTimestamp"):
            continue
        job = jobs.get(owner)
        if job is None:
            since, why = seconds_of(metadata.get("creationTimestamp")), f"its RayJob {owner} is gone"
        elif job.deployment in OVER:
            since, why = job.ended, f"its RayJob {owner} {job.state} long ago"
        else:
            continue
        if since is not None and now > since + ttl_seconds + LEAK_MARGIN_SECONDS:
            leaked.append(Leak(metadata["name"], why))
    return leaked


@dataclass(frozen=True, slots=True)
class Stuck:
    """A Ray pod that was deleted and does not end, because nothing on its node answers."""

    name: str
    node: str


def stuck(pods: Iterable[Mapping[str, Any]], now: float) -> list[Stuck]:
    """The deleted Ray pods whose grace period ended more than ``STUCK_SECONDS`` ago.

    Only the kubelet of its node removes a pod. If the node is lost, KubeRay waits for the pod and starts no other
    pod of its group, and the run has no workers. What such a pod still computes when its node comes back is no
    danger: its claims are void, and a part is committed once.

    Args:
        pods: the pods of the release.
        now: Unix time, seconds.
    """
    found = []
    for pod in pods:
        metadata = pod["metadata"]
        ends = seconds_of(metadata.get("deletionTimestamp"))  # the end of the grace period
        if "ray.io/cluster" in metadata.get("labels", {}) and ends is not None and now > ends + STUCK_SECONDS:
            found.append(Stuck(metadata["name"], (pod.get("spec") or {}).get("nodeName") or ""))
    return found
