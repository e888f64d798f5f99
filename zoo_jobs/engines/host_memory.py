"""Memory that this process may still take: of the machine, or of its container where that has less."""

import contextlib
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def host_free_bytes(cgroup: Path = CGROUP) -> int:
    """Free memory of the machine, or what its container's limit (cgroup v2) leaves, if that is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text())
        free = min(free, max(0, limit - int((cgroup / "memory.current").read_text())))
    return free
