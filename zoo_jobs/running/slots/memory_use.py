"""The memory of this process's cgroup: what is used, the limit, and how many processes the kernel killed for memory."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self/cgroup")
GiB = 1024**3
FULL = 0.9  # share of the limit above which a node that vanished ended for lack of memory
NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as a number near 2^63


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of a cgroup at one moment.

    Attributes:
        used_bytes: of processes and shared memory, without the page cache, which the kernel takes back.
        limit_bytes: None where the cgroup has no limit.
        oom_kills: processes of the cgroup that the kernel has killed for memory since the cgroup was made.
    """

    used_bytes: int
    limit_bytes: int | None
    oom_kills: int

    @property
    def ratio(self) -> float:
        """Used memory as a ratio of the limit; 0 where there is no limit."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0

    def __str__(self) -> str:
        limit = "no limit" if self.limit_bytes is None else f"a limit of {self.limit_bytes / GiB:.2f} GiB"
        return f"{self.used_bytes / GiB:.2f} GiB used, {limit}"


def read_memory_use(cgroups: Path = CGROUPS, process: Path = PROCESS) -> MemoryUse | None:
    """The memory of this process's cgroup, of version 2 or 1; None where the system has neither."""
    for folder in _folders(cgroups, process):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return _version_2(folder) if (folder / "memory.events").exists() else _version_1(folder)
    return None


def _folders(cgroups: Path, process: Path) -> list[Path]:
    """Paths at which this process's cgroup may be mounted: its own, or the root as in most containers."""
    own: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in process.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    return [cgroups / own.get("", ""), cgroups, cgroups / "memory" / own.get("memory", ""), cgroups / "memory"]


def _version_2(folder: Path) -> MemoryUse:
    used = _numbers(folder / "memory.stat")
    limit = (folder / "memory.max").read_text().strip()
    kills = _numbers(folder / "memory.events")["oom_kill"]
    return MemoryUse(used["anon"] + used["shmem"], None if limit == "max" else int(limit), kills)


def _version_1(folder: Path) -> MemoryUse:
    used = _numbers(folder / "memory.stat")
    limit = int((folder / "memory.limit_in_bytes").read_text())
    kills = _numbers(folder / "memory.oom_control")["oom_kill"]
    return MemoryUse(used["total_rss"], None if limit >= NO_LIMIT else limit, kills)


def _numbers(file: Path) -> dict[str, int]:
    """The lines `name number` of a cgroup's file."""
    return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}


class MemoryWatch:
    """Tells which of the workers that were lost ended for lack of memory. No Ray.

    A worker that the kernel kills says nothing, and Ray reports only that its process or its node has died.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, str] = {}  # nodes of the present workers, by slot
        self._last: dict[int, MemoryUse] = {}  # their last answers, by slot
        self._kills: dict[str, int] = {}  # kills that are accounted for, by node

    def note(self, slot: int, node: str, use: MemoryUse | None) -> None:
        """Note what the worker of ``slot`` says of the memory of its node."""
        self._nodes[slot] = node
        if use is not None:
            self._last[slot] = use
            self._kills.setdefault(node, use.oom_kills)

    def forget(self, slot: int) -> None:
        """Forget the worker of ``slot``, which is replaced."""
        self._nodes.pop(slot, None)
        self._last.pop(slot, None)

    def evidence(self, slot: int, look: Callable[[str], MemoryUse | None]) -> str | None:
        """Evidence that the lost worker of ``slot`` ended for lack of memory; None if there is none.

        Args:
            look: reads the memory of a node now. Returns None if the node is gone.
        """
        node, last = self._nodes.get(slot), self._last.get(slot)
        self.forget(slot)
        if node is None or last is None:
            return None
        now = look(node)
        if now is None:
            if last.ratio < FULL:
                return None
            return f"its node was lost at {last}"
        if now.oom_kills <= self._kills[node]:
            return None
        self._kills[node] += 1  # each kill explains the loss of one worker
        return f"the kernel killed it for memory (exit 137); it was last seen at {last}"
