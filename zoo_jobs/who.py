"""The user and host of this process, and in a cluster its service account. Attempts record it. Never published."""

import getpass
import os
import platform
from collections.abc import Mapping
from typing import Any


def who(environment: Mapping[str, str]) -> dict[str, str]:
    """The ``user``, the ``host`` and the ``account`` (``namespace/name`` of a pod's service account, else empty)."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = f"uid {os.getuid()}"
    return {"user": user, "host": platform.node(), "account": environment.get("ZOO_ACCOUNT", "")}


def sentence(recorded: Mapping[str, Any]) -> str:
    """``USER on HOST`` of a recorded start or stop; in a cluster the service account. Empty for older records."""
    name = f"service account {recorded['account']}" if recorded.get("account") else str(recorded.get("user") or "")
    return f"{name} on {recorded['host']}" if name and recorded.get("host") else name
