"""Decides what the supervisor does: runs that have no driver any more are submitted again. No requests, no clock."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .run_job import Submission
from .spec import RunRequest


@dataclass(frozen=True, slots=True)
class Action:
    """One action on one run, with its reason."""

    what: Literal["submit", "stop"]
    request: RunRequest
    why: str


def decide(pending: Iterable[Mapping[str, Any]], known: Sequence[Submission]) -> list[Action]:
    """The actions for runs that are wanted and unfinished according to the store, and have no live driver.

    A live RayJob is left alone, because KubeRay retries it. If a person stopped the RayJob, the store is told so. A
    RayJob that Kueue suspended is queued: it counts as live unless a person stopped it.

    Args:
        pending: the output of `python -m zooforge.zoo_jobs.unattended pending`.
        known: the submissions of the release, sorted by zoo and number.
    """
    actions = []
    for row in pending:
        request = RunRequest.from_json(json.dumps(row["request"]))
        own = [one for one in known if one.request.run == row["run"]]
        newest = own[-1] if own else None
        if newest is None:
            actions.append(Action("submit", request, f"its RayJob {row['job']} is gone"))
        elif newest.stopped:
            actions.append(Action("stop", request, f"RayJob {newest.name} was stopped"))
        elif newest.deployment in ("Complete", "Failed"):
            why = (
                f"KubeRay gave RayJob {newest.name} up"
                if newest.deployment == "Failed"
                else f"RayJob {newest.name} ended"
            )
            actions.append(Action("submit", request, f"{why}{': ' + newest.reason if newest.reason else ''}"))
    return actions
