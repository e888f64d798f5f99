"""Classifies the errors of a device by their remedy: train fewer models at once, or use another process."""

import contextlib
from collections.abc import Iterator

FULL = (
    "out of memory",  # CUDA, pinned memory, graph instantiation
    "can't allocate memory",  # the CPU's allocator
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER
    "cudaErrorMemoryAllocation",
)
"""Parts of the messages with which libraries report that memory is full."""
BROKEN = ("CUDA error", "STATUS_EXECUTION_FAILED", "STATUS_INTERNAL_ERROR", "STATUS_NOT_INITIALIZED")
"""Parts of the messages of errors after which a process often cannot use its device any more."""


class DeviceBroken(RuntimeError):
    """A CUDA call failed in a way that may break the CUDA context: only another process can continue."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if ``error``, or an error in its chain of causes, says that the memory of the machine or a device is full.

    If an allocation fails while a graph is captured, another error ends the capture and has the first in its chain.
    """
    return any(_says_full(one) for one in _chain(error))


def is_broken(error: BaseException) -> bool:
    """True if ``error``, or an error in its chain of causes, is an error of a CUDA call other than full memory."""
    return not is_out_of_memory(error) and any(_says_broken(one) for one in _chain(error))


@contextlib.contextmanager
def named(device: object) -> Iterator[None]:
    """Run a block that uses ``device``. Raises MemoryError if its memory is full, and DeviceBroken if it is broken.

    The message names the device and repeats the message of the first such error, which tells the cause.
    """
    try:
        yield
    except Exception as error:
        for kind, says in ((MemoryError, _says_full), (DeviceBroken, _says_broken)):
            causes = [one for one in _chain(error) if says(one)]
            if isinstance(error, kind):
                raise
            if causes:
                raise kind(f"{device}: {str(causes[-1]).strip() or type(causes[-1]).__name__}") from error
        raise


def _says_full(one: BaseException) -> bool:
    if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError":
        return True
    return isinstance(one, RuntimeError) and any(words in str(one) for words in FULL)


def _says_broken(one: BaseException) -> bool:
    if isinstance(one, DeviceBroken) or type(one).__name__ == "AcceleratorError":
        return True
    return isinstance(one, RuntimeError) and any(words in str(one) for words in BROKEN)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its ``__cause__`` or ``__context__``, the cause or context of that error, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
