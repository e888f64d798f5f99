"""Chooses where tasks run: Ray actors, here or on a cluster, or threads. Imports Ray only where it is used."""

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, Self

from ...data.prepared import PreparedData
from ...engines.choose import Choice
from ...engines.devices import device_kind, num_cuda_devices, workers_have_gpus
from ..inputs import Run
from . import ray_environment
from .worker import WorkerContext

if TYPE_CHECKING:
    from .local_pool import LocalPool
    from .ray_pool import RayPool

logger = logging.getLogger(__name__)


class Place:
    """The workers of a command. Connects to Ray at the first use and disconnects at the end of the block.

    Args:
        ray: value of ``--ray``.
        slots: number of slots; None for all CPUs or GPUs.
        workers_per_gpu: workers that share a GPU.
    """

    def __init__(self, ray: str, slots: int | None, workers_per_gpu: int = 1) -> None:
        self._ray, self._wanted, self._workers_per_gpu = ray, slots, workers_per_gpu
        self._stack = contextlib.ExitStack()
        self._slots: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def is_shared(self) -> bool:
        """True if other processes may work on the same run."""
        return self._ray == "none"

    @property
    def is_elsewhere(self) -> bool:
        """True if tasks run on a cluster that was started before."""
        return ray_environment.prepare(self._ray) not in ("local", "none")

    def gpu_share(self, choice: Choice, run: Run) -> float:
        """The part of a GPU that a worker takes: 0 if it uses none."""
        return 1 / self._workers_per_gpu if on_gpus(choice, run) else 0

    def expected_slots(self, choice: Choice, run: Run) -> int:
        """Slots before the connection: the requested number, else the CPUs or GPUs of this machine."""
        if self._slots is not None:
            return self._slots
        if self._wanted is not None or self.is_shared:
            return self._wanted or 1
        share = self.gpu_share(choice, run)
        return round(num_cuda_devices() / share) if share else len(os.sched_getaffinity(0))

    def slots(self, choice: Choice, run: Run, data: PreparedData) -> int:
        """Number of tasks that can run at once. Connects.

        A process trains on one GPU with one thread. If the number of GPUs is fixed, more slots than they have room for
        are capped, and the log says so.

        Raises InputError: no cluster at the address, or no GPU for a program that uses one.
        """
        share = self.gpu_share(choice, run)
        if self.is_shared:
            if share and (self._wanted or 1) > 1:
                logger.warning("one process trains on one GPU: one slot", extra={"slots": self._wanted})
                return 1
            return self._wanted or 1
        if self._slots is None:
            address = ray_environment.prepare(self._ray)
            from .ray_cluster import connected

            slots = connected(address, self._wanted, _size(data), share)
            self._slots = self._stack.enter_context(slots)
        return self._slots

    def numerics(self, choice: Choice, run: Run, data: PreparedData) -> dict[str, Any]:
        """The engine's description of its numerics, on the machine where it will run."""
        program = next(iter(run.programs()))
        if not (on_gpus(choice, run) and workers_have_gpus() and self.is_elsewhere):
            return choice.engine.numerics(program)
        self.slots(choice, run, data)
        from .ray_cluster import worker_numerics

        return worker_numerics(choice.engine.name, program)

    def pool(self, slots: int, context: WorkerContext, run: Run, data: PreparedData) -> "RayPool | LocalPool":
        """The pool of workers. Call ``slots`` first."""
        if self.is_shared:
            from .local_pool import LocalPool

            return LocalPool(slots, context, run, data)
        from .ray_pool import RayPool

        return RayPool(slots, context, run, data)


def on_gpus(choice: Choice, run: Run) -> bool:
    """True if each worker takes a GPU, or a share of one."""
    return any(device_kind(choice.engine, program) == "cuda" for program in run.programs())


def _size(data: PreparedData) -> int:
    return sum(int(split.images.nbytes + split.labels.nbytes) for split in (data.train, data.val, data.test))
