"""What the supervisor does about what it sees: runs that nobody drives any more are submitted again. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .run_job import Submission
from .spec import RunRequest


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do about one zoo's run."""

    what: Literal["submit", "stop"]
    request: RunRequest
    why: str


def decide(pending: Iterable[Mapping[str, Any]], known: Sequence[Submission]) -> list[Action]:
    """What to do about runs that the store says are wanted, unfinished and without a live driver.

    A RayJob that is live is KubeRay's to retry. One that a person suspended is stopped: the store is told. With Kueue
    a suspended one is queued, and live for us as long as nobody marked it as stopped.

    Args:
        pending: what `python -m zooforge.zoo_jobs.unattended pending` lists.
        known: the release's submissions, by zoo and number.
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
