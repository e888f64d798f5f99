"""The pool of slots with Ray: one long-lived actor per slot, and the data once per node. Imports Ray."""

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable
from typing import Any

import ray

from ...data.prepared import PreparedData
from ...engines.device_errors import is_broken, is_out_of_memory
from ...errors import ZooError
from ...planning.units import Task
from ..driver import Done
from ..inputs import Run
from ..notice import Notice
from .memory_use import MemoryWatch
from .ray_worker import RayWorker, memory_of_node
from .worker import WorkerContext

logger = logging.getLogger(__name__)

WAITING_SECONDS = 60.0  # before the first warning that workers have not started; doubled up to an hour
LONGEST_WAITING_SECONDS = 3600.0
MEMORY_SECONDS = 10.0  # between two questions about the memory of a worker's node


class WorkerLost(ZooError):
    """A worker's process or its node has ended."""


def memory_shortage(text: str) -> str:
    """The numbers within Ray's long message about a worker that it killed, or the message's first line."""
    numbers = re.search(r"was ([\d.]+ ?\w+ used / [\d.]+ ?\w+ limit)", text)
    return f"Ray killed it at {numbers[1]} of its node" if numbers else (text.strip().splitlines() or [""])[0]


def loss_reason(text: str) -> str:
    """The reason within Ray's long message about a lost worker, or the message's first sentence."""
    text = " ".join(text.split())
    reason = re.search(r"The actor is dead because (?:it was )?(.+?)\.(?: |$)", text)
    kind = re.search(r"Worker exit type: (\w+)", text)
    sentence = reason[1] if reason else text.partition(". ")[0].rstrip(".")
    return sentence + (f" ({kind[1]})" if kind else "")


class RayPool:
    """``driver.Pool`` with one Ray actor per slot. ``close`` ends the actors."""

    def __init__(self, slots: int, context: WorkerContext, run: Run, data: PreparedData) -> None:
        self.slots = slots
        # No restarts by Ray: the driver sees every loss, and the task begins again from the store.
        actor = ray.remote(
            num_cpus=1, num_gpus=context.num_gpus, max_restarts=0, max_task_retries=0, concurrency_groups={"control": 1}
        )(RayWorker)
        shared = [ray.put(run), ray.put(data)]
        self._context = context
        self._make: Callable[[], Any] = lambda: actor.remote(self._context, shared)
        self._actors: list[Any] = [None] * slots
        self._prices: dict[int, float | None] = {}  # dollars per hour, by slot, of the workers that have started
        self._requested: dict[Any, tuple[int, Any]] = {}
        self._warning_pause = WAITING_SECONDS
        self._next_warning = time.monotonic() + self._warning_pause
        self._memory = MemoryWatch()
        self._memory_calls: dict[Any, tuple[int, Any]] = {}
        self._memory_asked = -math.inf
        self._calls: dict[Any, tuple[int, Any]] = {}
        for slot in range(slots):
            self._request_worker(slot)

    @property
    def dollars_per_hour(self) -> float | None:
        """Price of the workers that have started; None if the price of one of them is not known."""
        prices = list(self._prices.values())
        known = [price for price in prices if price is not None]
        return sum(known) if prices and len(known) == len(prices) else None

    def _request_worker(self, slot: int) -> None:
        """Request a worker. Ray keeps the request until a node has room, and an autoscaler sees it."""
        actor = self._actors[slot] = self._make()
        self._prices.pop(slot, None)
        self._memory.forget(slot)
        self._ask_memory(slot)
        self._requested[actor.price.options(concurrency_group="control").remote()] = (slot, actor)

    def _note_started(self) -> None:
        """Note which workers have started, and say which have not. The others work meanwhile."""
        if not self._requested:
            self._warning_pause = WAITING_SECONDS
            self._next_warning = time.monotonic() + self._warning_pause
            return
        answered, _ = ray.wait(list(self._requested), num_returns=len(self._requested), timeout=0)
        for call in answered:
            slot, actor = self._requested.pop(call)
            with contextlib.suppress(ray.exceptions.RayError):  # the call that failed with the worker reports the loss
                price = ray.get(call)
                if self._actors[slot] is actor:
                    self._prices[slot] = price
        if self._requested and time.monotonic() >= self._next_warning:
            self._warning_pause = min(LONGEST_WAITING_SECONDS, 2 * self._warning_pause)
            self._next_warning = time.monotonic() + self._warning_pause
            started = self.slots - len({slot for slot, _ in self._requested.values()})
            offered = {kind: ray.cluster_resources().get(kind, 0) for kind in ("CPU", "GPU")}
            logger.warning(
                f"{started} of {self.slots} workers have started"
                f"{'; the run continues with them' if started else ''}; waiting for the cluster to offer room, "
                "as its autoscaler may",
                extra={"kind": "room", "wanted": self.slots, "cpus": offered["CPU"], "gpus": offered["GPU"]},
            )

    def _watch_memory(self) -> None:
        """Note what workers say of their memory, and ask those that have started again when it is time."""
        if self._memory_calls:
            answered, _ = ray.wait(list(self._memory_calls), num_returns=len(self._memory_calls), timeout=0)
            for call in answered:
                slot, actor = self._memory_calls.pop(call)
                with contextlib.suppress(ray.exceptions.RayError):  # the call that failed with it reports the loss
                    node, use = ray.get(call)
                    if self._actors[slot] is actor:
                        self._memory.note(slot, node, use)
        if time.monotonic() - self._memory_asked < MEMORY_SECONDS:
            return
        self._memory_asked = time.monotonic()
        asked = {slot for slot, _ in self._memory_calls.values()}
        for slot in self._prices.keys() - asked:
            self._ask_memory(slot)

    def _ask_memory(self, slot: int) -> None:
        actor = self._actors[slot]
        self._memory_calls[actor.memory.options(concurrency_group="control").remote()] = (slot, actor)

    def submit(self, slot: int, task: Task, part: int) -> None:
        actor = self._actors[slot]
        self._calls[actor.advance.remote(task, part)] = (slot, actor)

    def wait(self, timeout_seconds: float) -> list[Done]:
        self._note_started()
        self._watch_memory()
        if not self._calls:
            time.sleep(timeout_seconds)
            return []
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_seconds)
        return [self._done(call) for call in ready]

    def leave(self, notice: Notice) -> None:
        reason = notice.reason or "stopped"
        for actor in self._actors:
            actor.leave.options(concurrency_group="control").remote(reason, notice.seconds_left)

    @property
    def chunk_models(self) -> int | None:
        return self._context.chunk_models

    def halve_chunk(self, num_models: int) -> int:
        self._context = self._context.with_half_chunk(num_models)
        return self._context.chunk_models or 1

    def replace(self, slot: int) -> None:
        ray.kill(self._actors[slot])
        self._request_worker(slot)  # on another node: Ray places nothing on a draining one

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _done(self, call: Any) -> Done:
        slot, actor = self._calls.pop(call)
        try:
            return Done(slot, ray.get(call))
        except ray.exceptions.OutOfMemoryError as error:
            logger.info("a worker was killed for memory", extra={"slot": slot, "error": str(error)})
            return Done(slot, None, WorkerLost(memory_shortage(str(error))), lost=True, out_of_memory=True)
        except (
            ray.exceptions.RayActorError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.ObjectLostError,
        ) as error:
            logger.info("a worker was lost", extra={"slot": slot, "error": str(error)})
            if self._actors[slot] is not actor:
                return Done(slot, None, WorkerLost(loss_reason(str(error))), lost=True)
            evidence = None
            if not getattr(error, "preempted", False):
                evidence = self._memory.evidence(slot, memory_of_node)
            if evidence is not None:
                return Done(slot, None, WorkerLost(evidence), lost=True, out_of_memory=True)
            self.replace(slot)
            return Done(slot, None, WorkerLost(loss_reason(str(error))), lost=True)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if is_broken(cause) and self._actors[slot] is actor:
                logger.info("a worker's GPU failed", extra={"slot": slot, "error": str(cause)})
                self.replace(slot)
            return Done(slot, None, cause, out_of_memory=is_out_of_memory(cause))
