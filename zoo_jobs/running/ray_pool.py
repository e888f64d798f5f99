"""Slots as Ray actors: one long-lived actor per slot, the data once per node. The only module that imports Ray."""

import contextlib
import logging
import math
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray._private.utils as ray_utils
import ray.util.scheduling_strategies

from .. import logs
from ..data.prepared import PreparedData
from ..engines.choose import make_engine
from ..engines.contract import Program
from ..engines.device_errors import is_broken, is_out_of_memory
from ..errors import InputError, Interrupted, ZooError
from ..events import Advance
from ..planning import machines
from ..planning.units import Task
from .driver import Done
from .inputs import Run
from .memory_use import MemoryUse, MemoryWatch, read_memory_use
from .notice import Notice, node_notice_seconds
from .worker import Worker, WorkerContext

logger = logging.getLogger(__name__)

MiB = 1024 * 1024
START_ATTEMPTS = 3
CONNECT_SECONDS = 10.0
WATCH_SECONDS = 2.0  # between two checks whether the node is draining
WAITING_SECONDS = 60.0  # before the first warning that workers have not started; doubled up to an hour
LONGEST_WAITING_SECONDS = 3600.0
MEMORY_SECONDS = 10.0  # between two questions about the memory of a worker's node
LOOK_SECONDS = 20.0  # for a node to say how many processes its kernel has killed


class _Worker:
    """One slot. The actor has one thread for work and one for control, so that a notice arrives during an epoch."""

    def __init__(self, context: WorkerContext, shared: Sequence[Any]) -> None:
        """Args:
        shared: Ray references to the run and the data, so that each node holds one copy.
        """
        logs.set_up(verbose=False)
        run, data = ray.get(list(shared))
        self._notice = Notice()
        self._worker = Worker(context, run, data, self._notice)
        notice_seconds = node_notice_seconds(os.environ, context.notice_seconds)
        watch = threading.Thread(target=self._watch, args=(notice_seconds,), daemon=True)
        watch.start()

    def advance(self, task: Task, part: int) -> Advance:
        return self._worker.advance(task, part)

    def price(self) -> float | None:
        """Dollars per hour of this slot; None if its machine has no price."""
        return machines.slot_price(os.environ)

    def memory(self) -> tuple[str, MemoryUse | None]:
        """The id of this worker's node, and the memory of its container."""
        return ray.get_runtime_context().get_node_id(), read_memory_use()

    def leave(self, reason: Any, seconds: float) -> None:
        self._notice.give(reason, seconds)

    def _watch(self, notice_seconds: float) -> None:
        node = ray.get_runtime_context().get_node_id()
        while not self._notice.given:
            if node in _draining_nodes():
                self._notice.give("preempted", notice_seconds)
            time.sleep(WATCH_SECONDS)


def _draining_nodes() -> set[str]:
    """Ids of nodes that have to leave (SIGTERM, spot notice).

    This API of Ray is private, so nothing relies on it: without it a worker loses the part that it trains.
    """
    with contextlib.suppress(AttributeError, RuntimeError, ImportError):
        return {node if isinstance(node, str) else node.hex() for node in ray._private.state.state.get_draining_nodes()}
    return set()


def _memory_of_node(node: str) -> MemoryUse | None:
    """The memory of a node's container now; None if the node is gone or does not answer."""
    on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    call = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_node)(read_memory_use).remote()
    with contextlib.suppress(ray.exceptions.RayError):
        use: MemoryUse | None = ray.get(call, timeout=LOOK_SECONDS)
        return use
    ray.cancel(call, force=True)
    return None


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
        )(_Worker)
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
                f"{started or 'no'} of {self.slots} workers have started"
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
                evidence = self._memory.evidence(slot, _memory_of_node)
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


@contextlib.contextmanager
def connected(address: str, slots: int | None, data_bytes: int, on_gpus: bool = False) -> Iterator[int]:
    """Connect to a Ray cluster while the block runs. Gives the number of slots: the CPUs or GPUs that it offers.

    At least 1: where the cluster offers none yet, the request for a worker makes its autoscaler start one. More GPUs
    than this machine has will not come; a worker without one would wait for ever, so ``slots`` is capped there.

    ``local`` starts one on this machine's loopback; anything else is the address of a cluster. The environment must
    have been prepared by ``ray_environment`` before this module was imported.
    """
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": True}
    try:
        with _own_signals():
            if address == "local":
                _start_local(slots or len(os.sched_getaffinity(0)), data_bytes, common)
            else:
                _check_listens(address)
                try:
                    ray.init(address=address, **common)
                except (ConnectionError, ValueError, RuntimeError) as error:
                    raise _no_cluster(address, str(error)) from error
        offered = int(ray.cluster_resources().get("GPU" if on_gpus else "CPU", 0))
        if not (slots or offered):
            logger.warning("the cluster offers no slot yet; a worker is requested", extra={"address": address})
        if on_gpus and address == "local":
            if not offered:
                raise InputError("Ray sees no GPU on this machine, which torch sees; is CUDA_VISIBLE_DEVICES set?")
            if slots and slots > offered:
                logger.warning("a slot takes a whole GPU: fewer slots", extra={"slots": slots, "gpus": offered})
            slots = min(slots or offered, offered)
        yield slots or max(1, offered)
    finally:
        ray.shutdown()


def worker_numerics(engine: str, program: Program) -> dict[str, Any]:
    """The engine's description of its numerics on a worker with a GPU. Waits until there is such a worker."""

    def ask() -> dict[str, Any]:
        return make_engine(engine).numerics(program)

    call = ray.remote(num_cpus=1, num_gpus=1)(ask).remote()
    while True:
        ready, _ = ray.wait([call], timeout=WAITING_SECONDS)
        if ready:
            numerics: dict[str, Any] = ray.get(call)
            return numerics
        logger.warning("waiting for a worker with a GPU", extra={"gpus": ray.cluster_resources().get("GPU", 0)})


def _start_local(num_cpus: int, data_bytes: int, common: dict[str, Any]) -> None:
    """Start Ray on this machine, in three attempts: a busy machine may exceed Ray's fixed deadline of 30 s.

    Raises:
        InputError: the temporary folder has too long a path. ZooError: Ray does not start.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=max(128 * MiB, 3 * data_bytes),
                _node_ip_address="127.0.0.1",
                **common,
            )
            return
        except Exception as error:  # Ray raises a plain Exception if its node does not start
            ray.shutdown()
            reason = " ".join(str(error).split())
            if "AF_UNIX path length" in reason:
                raise InputError(
                    f"the folder for Ray's sockets has too long a path ({_temporary_folder()}): "
                    "set RAY_TMPDIR to a short one, such as /tmp"
                ) from error
            if attempt == START_ATTEMPTS:
                raise ZooError(
                    f"Ray does not start on this machine: {reason} With less load the same command continues; "
                    f"Ray's logs are in {_temporary_folder()}/ray/session_latest/logs"
                ) from error
            logger.warning("Ray did not start, trying again", extra={"reason": reason})


def _temporary_folder() -> str:
    return os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()


def _check_listens(address: str) -> None:
    """Raise InputError if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _no_cluster(address: str, reason: str) -> InputError:
    return InputError(f"no Ray cluster at {address}: {' '.join(reason.split())}; start one or use --ray local")


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Handle SIGTERM while Ray starts, in place of Ray's handler.

    Both raise SystemExit. Python ignores an exception in some places, e.g. in a hook of ``os.fork``, and Ray's handler
    leaves no other trace of the signal.

    Raises Interrupted if SIGTERM arrives meanwhile.
    """
    arrived = False

    def leave(number: int, frame: object) -> None:
        nonlocal arrived
        arrived = True
        raise SystemExit(number)

    ours, theirs = signal.getsignal(signal.SIGTERM), ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except SystemExit:
        if not arrived:
            raise
    finally:
        signal.signal(signal.SIGTERM, ours)
        ray_utils.set_sigterm_handler = theirs
    if arrived:
        raise Interrupted("SIGTERM came while Ray was starting; the same command continues")


__all__: Sequence[str] = ["RayPool", "connected", "worker_numerics"]
