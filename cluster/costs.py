"""Describes in words the cost of a submission, from the output of `zoo plan`. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

GiB = 2**30


def plan_options(asked: Mapping[str, Any]) -> list[str]:
    """The options of `zoo plan` for the options of `zoo cluster submit`. Twins are planned unless none are made."""
    named = (("--models", "models"), ("--epochs", "epochs"), ("--twin-epochs", "twin_epochs"))
    options = [word for option, key in named if asked[key] is not None for word in (option, str(asked[key]))]
    options += ["--allow-code"] if asked.get("allow_code") else []
    return options if asked["no_twins"] else [*options, "--twins"]


def sentences(plans: Sequence[Mapping[str, Any]], job: Mapping[str, Any]) -> list[str]:
    """One line per stage, one line for their sum if there are two stages, one line for the largest number of workers.

    Args:
        plans: the plan of the zoo and, if twins are made, the plan of the twins.
        job: the RayJob to submit.
    """
    lines = [_stage(plan) for plan in plans]
    if len(plans) > 1:
        zoo, twins = plans
        peak = max(zoo["peak_bytes"], zoo["final_bytes"] + twins["peak_bytes"])
        sums = {key: _sum(plans, key) for key in ("seconds", "dollars", "final_bytes")}
        lines.append(f"together: {_cost({**sums, 'peak_bytes': peak, 'machine': zoo['machine']})}")
    groups = job["spec"].get("rayClusterSpec", {}).get("workerGroupSpecs", [])
    workers = ", ".join(f"{group['maxReplicas']} {group['groupName']}" for group in groups)
    if workers:
        lines.append(f"at most {workers} workers")
    return lines


def _stage(plan: Mapping[str, Any]) -> str:
    what = f"{plan['num_models']:,} models to epoch {plan['num_epochs']}"
    return f"{plan['zoo']} (run {plan['run'][:8]}): {what}, {_cost(plan)}"


def _cost(plan: Mapping[str, Any]) -> str:
    hours = "hours not measured" if plan["seconds"] is None else f"{plan['seconds'] / 3600:.1f} h on {plan['machine']}"
    dollars = "dollars unknown" if plan["dollars"] is None else f"${plan['dollars']:.2f}"
    bytes_ = f"{plan['peak_bytes'] / GiB:.2f} GiB at the peak, {plan['final_bytes'] / GiB:.2f} GiB in the end"
    return f"{hours}, {dollars}, {bytes_}"


def _sum(plans: Sequence[Mapping[str, Any]], key: str) -> Any:
    values = [plan[key] for plan in plans]
    return None if any(value is None for value in values) else sum(values)
