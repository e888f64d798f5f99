"""Formats the lines of a pod's log for a terminal: JSON events become sentences. Pure."""

import json

ALREADY_SAID = ("time", "level", "message", "source", "run", "exception")


def readable(line: str) -> str:
    """``17:03:59 info  part committed (epoch=3 models=6)``. Other lines are returned unchanged."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict) or not {"time", "level", "message"} <= set(event):
        return line
    values = " ".join(f"{name}={value}" for name, value in event.items() if name not in ALREADY_SAID)
    exception = f"\n{event['exception']}" if "exception" in event else ""
    clock = str(event["time"])[11:19]
    return f"{clock} {event['level']}  {event['message']}" + (f" ({values})" if values else "") + exception
