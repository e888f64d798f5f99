"""Full memory and a broken device are told apart by all error texts of the libraries, including wrapped ones."""

import pickle

import pytest
import torch

from zooforge.zoo_jobs.engines.device_errors import DeviceBroken, is_broken, is_out_of_memory, named

FULL = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),  # pinned memory
    RuntimeError("CUDA error: out of memory\nwhile calling cudaGraphInstantiate"),
]
BROKEN = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    DeviceBroken("cuda:0: CUDA error: unspecified launch failure"),
]


def hiding(error: Exception) -> Exception:
    """The error at the end of a graph's capture, during which ``error`` was raised."""
    try:
        try:
            raise error
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("error", FULL, ids=str)
def test_full_memory_is_recognised_in_every_wording(error: Exception) -> None:
    assert is_out_of_memory(error) and not is_broken(error)
    assert is_out_of_memory(hiding(error)) and not is_broken(hiding(error))
    with pytest.raises(MemoryError), named("cuda:0"):
        raise error
    with pytest.raises(MemoryError) as raised, named("cuda:0"):
        raise hiding(error)
    assert str(error) in str(raised.value)


@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_a_broken_device_is_recognised_and_the_start_of_its_message_is_kept(error: Exception) -> None:
    assert is_broken(error) and not is_out_of_memory(error)
    with pytest.raises(DeviceBroken) as raised, named("cuda:0"):
        raise hiding(error)
    assert str(error) in str(pickle.loads(pickle.dumps(raised.value)))


def test_other_errors_are_not_changed() -> None:
    error = ValueError("shapes do not fit")
    assert not is_broken(error) and not is_out_of_memory(error)
    with pytest.raises(ValueError, match="shapes") as raised, named("cuda:0"):
        raise error
    assert raised.value is error
