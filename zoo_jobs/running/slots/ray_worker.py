"""The Ray actor of one slot, and what a driver can ask about the actor's node. Imports Ray."""

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
import ray.util.scheduling_strategies

from ... import logs
from ...events import Advance
from ...planning import machines
from ...planning.units import Task
from ..notice import Notice, node_notice_seconds
from .memory_use import MemoryUse, read_memory_use
from .worker import Worker, WorkerContext

WATCH_SECONDS = 2.0  # between two checks whether the node is draining
LOOK_SECONDS = 20.0  # time for a node to answer how many processes its kernel has killed


class RayWorker:
    """One slot. The actor has one thread for work and one for control, so that a notice arrives during an epoch."""

    def __init__(self, context: WorkerContext, shared: Sequence[Any]) -> None:
        """Args:
        shared: Ray references to the run and the data, so that each node holds one copy.
        """
        logs.set_up(verbose=False)
        run, data = ray.get(list(shared))
        self._notice, self._gpu_share = Notice(), context.num_gpus or 1
        self._worker = Worker(context, run, data, self._notice)
        notice_seconds = node_notice_seconds(os.environ, context.notice_seconds)
        watch = threading.Thread(target=self._watch, args=(notice_seconds,), daemon=True)
        watch.start()

    def advance(self, task: Task, part: int) -> Advance:
        return self._worker.advance(task, part)

    def price(self) -> float | None:
        """Dollars per hour of this slot; None if its machine has no price."""
        return machines.slot_price(os.environ, self._gpu_share)

    def memory(self) -> tuple[str, MemoryUse | None]:
        """The id of this worker's node, and the memory of its container."""
        return ray.get_runtime_context().get_node_id(), read_memory_use()

    def leave(self, reason: Any, seconds: float) -> None:
        self._notice.give(reason, seconds)

    def _watch(self, notice_seconds: float) -> None:
        node = ray.get_runtime_context().get_node_id()
        while not self._notice.given:
            if node in draining_nodes():
                self._notice.give("preempted", notice_seconds)
            time.sleep(WATCH_SECONDS)


def draining_nodes() -> set[str]:
    """Ids of nodes that have to leave (SIGTERM, spot notice).

    This API of Ray is private, so nothing relies on it: without it a worker loses the part that it trains.
    """
    with contextlib.suppress(AttributeError, RuntimeError, ImportError):
        return {node if isinstance(node, str) else node.hex() for node in ray._private.state.state.get_draining_nodes()}
    return set()


def memory_of_node(node: str) -> MemoryUse | None:
    """The memory of a node's container now; None if the node is gone or does not answer."""
    on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    call = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_node)(read_memory_use).remote()
    with contextlib.suppress(ray.exceptions.RayError):
        use: MemoryUse | None = ray.get(call, timeout=LOOK_SECONDS)
        return use
    ray.cancel(call, force=True)
    return None
