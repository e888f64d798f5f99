"""Errors of a device by what helps: fewer models at once, or another process."""

import contextlib
from collections.abc import Iterator

FULL = (
    "out of memory",  # CUDA, pinned memory, graph instantiation
    "can't allocate memory",  # the CPU's allocator
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER
    "cudaErrorMemoryAllocation",
)
"""Words of libraries that say that memory is full."""
BROKEN = ("CUDA error", "STATUS_EXECUTION_FAILED", "STATUS_INTERNAL_ERROR", "STATUS_NOT_INITIALIZED")
"""Words of libraries after which a process can often use its device no more."""


class DeviceBroken(RuntimeError):
    """A CUDA call failed in a way that may break the CUDA context: only another process can continue."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or one that it hides, says that the memory of the machine or of a device is full.

    A failed allocation during the capture of a graph is hidden by the error that ends the capture.
    """
    return any(_says_full(one) for one in _chain(error))


def is_broken(error: BaseException) -> bool:
    """Whether ``error``, or one that it hides, is an error of a CUDA call other than full memory."""
    return not is_out_of_memory(error) and any(_says_broken(one) for one in _chain(error))


@contextlib.contextmanager
def named(device: object) -> Iterator[None]:
    """Run a block that uses ``device``. Raises MemoryError where its memory is full, DeviceBroken where it is broken.

    Both name the device and keep the words of the first such error, which says the cause.
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
    """The error, and those that it was raised from or hides."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
