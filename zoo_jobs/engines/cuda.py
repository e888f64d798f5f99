"""The differences between a GPU and a CPU: streams, graphs, pinned copies, free memory. Only this module uses CUDA."""

import contextlib
import gc
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor

from . import device_errors
from .host_memory import host_free_bytes

EAGER_CALLS = 2  # calls of a function before it is captured; libraries initialise in the first
GRAPH_RESERVE_BYTES = 1 << 30  # GPU memory left for the context, libraries and fragmentation
CPU_FREE_RATIO = 0.5  # share of a host's free memory that a chunk may take


class Place:
    """The device of a session, with one stream and one pool of graph memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None
        self._pool = torch.cuda.graph_pool_handle() if on_gpu else None
        self._bodies: dict[Hashable, Body] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Run a block on the session's stream, with one CPU thread. The caller's threads are restored at the end.

        Raises MemoryError if the device has no free memory, and DeviceBroken if the device fails.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        stream = torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext()
        try:
            with device_errors.named(self.device), stream:
                yield
        finally:
            torch.set_num_threads(threads)

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """Call ``function``. Calls with equal ``key`` share one ``Body``, which keeps the first function."""
        if key not in self._bodies:
            self._bodies[key] = Body(function, self._stream, self._pool)
        self._bodies[key]()

    def host_copies(self, tensors: dict[str, Tensor]) -> "HostCopies":
        return HostCopies(tensors, self._stream)

    def release(self) -> None:
        """Return the memory of a closed session to the device.

        An error of a broken device is ignored here, because it would hide the error that was raised first.
        """
        self._bodies.clear()
        if self._stream is not None:
            with contextlib.suppress(RuntimeError):
                self._stream.synchronize()
            gc.collect()
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()


class Body:
    """A function whose tensors keep their addresses. A CPU calls it; a GPU captures it once and replays the graph.

    The first calls run without a graph and count as calls; the capture itself computes nothing. The graphs of a session
    share memory, since no graph reads what another one wrote. Other threads, such as those that commit, may allocate
    memory while this one captures.
    """

    def __init__(self, function: Callable[[], None], stream: "torch.cuda.Stream | None", pool: Any) -> None:
        self._function, self._stream, self._pool = function, stream, pool
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._graph is not None:
            self._graph.replay()
            return
        if self._stream is None or self._calls < EAGER_CALLS:
            self._function()
            self._calls += 1
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            self._function()
        self._graph = graph
        graph.replay()


class HostCopies:
    """Copies of a session's tensors on the host. A GPU copies them on a separate stream into pinned memory while the
    next work is queued; ``read`` waits only for the copies."""

    def __init__(self, tensors: dict[str, Tensor], stream: "torch.cuda.Stream | None") -> None:
        self._tensors, self._stream = tensors, stream
        self._pinned: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None
        if stream is not None:
            self._copies = torch.cuda.Stream(stream.device)
            self._pinned = {n: torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for n, t in tensors.items()}

    def start(self) -> None:
        """Start copying the tensors as they will be after the work that is queued now."""
        if self._stream is None:
            return
        self._copies.wait_stream(self._stream)
        with torch.cuda.stream(self._copies):
            for name, tensor in self._tensors.items():
                self._pinned[name].copy_(tensor.detach(), non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def hold(self) -> None:
        """Make later work on the session's stream wait for the copies."""
        if self._stream is not None and self._copied is not None:
            self._stream.wait_event(self._copied)

    def read(self) -> dict[str, Tensor]:
        """New copies, by name."""
        if self._stream is None:
            return {name: tensor.detach().clone() for name, tensor in self._tensors.items()}
        if self._copied is None:
            self.start()
        assert self._copied is not None
        self._copied.synchronize()
        return {name: tensor.clone() for name, tensor in self._pinned.items()}

    def forget(self) -> None:
        """Discard the copies, because the tensors are about to change."""
        self.hold()
        self._copied = None


def free_bytes(device: torch.device) -> int:
    """Bytes that a chunk may take. A MIG slice reports its own memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(0, int(free) - GRAPH_RESERVE_BYTES)
    return int(host_free_bytes() * CPU_FREE_RATIO)
