"""The memory that this process may still allocate, on the machine or within its container's limit."""

import contextlib
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def host_free_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes free on the machine, or left of the container's limit (cgroup v2), whichever is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text())
        free = min(free, max(0, limit - int((cgroup / "memory.current").read_text())))
    return free
