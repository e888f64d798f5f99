"""Explains in words the state of a pod, and why it does not start. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

REMEDIES = (
    (
        r"Insufficient (\S+/\S+|\S*gpu\S*)",
        "no node offers enough of {0}: `zoo cluster preflight` shows what nodes offer",
    ),
    (r"Insufficient (\S+)", "no node has enough {0} left: lower the group's requests, or add nodes"),
    (r"untolerated taint", "every node that fits has a taint: set the group's tolerations"),
    (r"didn't match Pod's node affinity/selector", "no node has the requested labels: check the group's nodeSelector"),
    (r"were unschedulable", "a node is cordoned, or not ready: kubectl get nodes"),
    (r"unbound immediate PersistentVolumeClaims", "its volume claim is not bound: check the storage class"),
    (r"exceeded quota", "the namespace's quota is used up"),
)
WAITING = {
    "ImagePullBackOff": "the image cannot be pulled: check image.* and image.pullSecrets",
    "ErrImagePull": "the image cannot be pulled: check image.* and image.pullSecrets",
    "ErrImageNeverPull": "the image is not on the node and pullPolicy is Never: `make image-load`",
    "InvalidImageName": "the image has no valid name: check image.*",
    "CreateContainerConfigError": "a Secret or ConfigMap that it mounts is missing",
    "CrashLoopBackOff": "it ends again and again: `zoo cluster logs` shows why",
    "CreateContainerError": "the container cannot be made: see the message",
}
MEMORY = "raise the memory of the head or of its worker group"


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod as `zoo cluster status` shows it.

    ``reason`` says why it does not run, or that it ran out of memory before; empty if it runs.
    """

    name: str
    component: str
    group: str
    run: str
    phase: str
    ready: bool
    restarts: int
    node: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def view(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> PodView:
    """Describe a pod of the API, given the events of its namespace (events of other pods are ignored)."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    phase = status.get("phase", "Unknown")
    if metadata.get("deletionTimestamp"):
        phase = "Terminating"
    main = status.get("containerStatuses") or []
    return PodView(
        name=metadata["name"],
        component=labels.get("ray.io/node-type") or labels.get("app.kubernetes.io/component") or "",
        group=labels.get("ray.io/group", ""),
        run=labels.get("zooforge.io/run", ""),
        phase=phase,
        ready=bool(main) and all(state.get("ready") for state in main),
        restarts=sum(int(state.get("restartCount", 0)) for state in states),
        node=(pod.get("spec") or {}).get("nodeName") or "",
        reason="" if phase in ("Succeeded", "Terminating") else _reason(metadata["name"], status, states, events),
    )


def _reason(name: str, status: Mapping[str, Any], states: list[Any], events: Iterable[Mapping[str, Any]]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return explain(condition.get("message") or "waiting for a node")
    for state in states:
        for moment in ("state", "lastState"):
            ended = (state.get(moment) or {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                again = "" if moment == "state" else " and started again"
                return f"OOMKilled ({ended.get('exitCode')}): {state.get('name')} ran out of memory{again}: {MEMORY}"
    for state in states:
        waiting = (state.get("state") or {}).get("waiting") or {}
        if why := waiting.get("reason"):
            if why in ("PodInitializing", "ContainerCreating"):
                continue
            ended = (state.get("lastState") or {}).get("terminated") or {}
            last = f"; it ended with {ended.get('reason')} ({ended.get('exitCode')})" if ended else ""
            message = " ".join((waiting.get("message") or "").split())
            return f"{why}: {WAITING.get(why) or message}{last}" + (
                f" ({message})" if why in WAITING and message else ""
            )
    if status.get("phase") == "Pending":
        for event in reversed(list(events)):
            if (event.get("involvedObject") or {}).get("name") == name and event.get("type") == "Warning":
                return f"{event.get('reason')}: {' '.join(str(event.get('message')).split())}"
    if status.get("phase") == "Failed":
        return f"{status.get('reason') or 'failed'}: {status.get('message') or 'see its log'}"
    return ""


def explain(message: str) -> str:
    """The scheduler's message, preceded by the remedy if one is known."""
    text = " ".join(message.split())
    for pattern, remedy in REMEDIES:
        if match := re.search(pattern, text):
            groups = [group.rstrip(".,") for group in match.groups()]
            return f"{remedy.format(*groups)} (the scheduler says: {text})"
    return text


def table(rows: list[list[str]]) -> list[str]:
    """Rows as lines with aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
