"""Connects to a Ray cluster, or starts Ray on this machine. Imports Ray."""

import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import ray
import ray._private.utils as ray_utils

from ...engines.choose import make_engine
from ...engines.contract import Program
from ...errors import InputError, Interrupted, ZooError

logger = logging.getLogger(__name__)

MiB = 1024 * 1024
START_ATTEMPTS = 3
CONNECT_SECONDS = 10.0
WAITING_SECONDS = 60.0  # between two messages that no worker with a GPU has started


@contextlib.contextmanager
def connected(address: str, slots: int | None, data_bytes: int, gpu_share: float = 0) -> Iterator[int]:
    """Connect to a Ray cluster while the block runs. Gives the number of slots: the CPUs, or shares of GPUs, it offers.

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
        offered = int(ray.cluster_resources().get("GPU" if gpu_share else "CPU", 0))
        offered = round(offered / (gpu_share or 1))
        if not (slots or offered):
            logger.warning("the cluster offers no slot yet; a worker is requested", extra={"address": address})
        if gpu_share and address == "local":
            if not offered:
                raise InputError("Ray sees no GPU on this machine, which torch sees; is CUDA_VISIBLE_DEVICES set?")
            if slots and slots > offered:
                takes = "a whole GPU" if gpu_share == 1 else f"{gpu_share:.4g} of a GPU"
                logger.warning(f"a slot takes {takes}: fewer slots", extra={"slots": slots, "room": offered})
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
