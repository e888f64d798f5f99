"""Checks whether this machine's NVIDIA driver fits the CUDA version that torch was built for."""

import re
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")
# Oldest driver that runs every minor version of a CUDA release, by its major version.
# Source: NVIDIA, "CUDA Compatibility", table of minor version compatibility.
OLDEST_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}


@dataclass(frozen=True, slots=True)
class GpuReport:
    """Versions (None if there is none), and one line, ``words``, that says whether they fit together."""

    driver: str | None
    torch: str
    cuda: str | None
    sees_device: bool
    words: str


def gpu_report() -> GpuReport:
    import torch

    text = DRIVER.read_text() if DRIVER.exists() else ""
    match = re.search(r"(\d{3,}\.\d+(?:\.\d+)?)", text)
    driver = match[1] if match else None
    sees = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if sees else None
    return report_on(driver, torch.__version__, torch.version.cuda, sees, name)


def report_on(
    driver: str | None, torch: str, cuda: str | None, sees_device: bool, name: str | None = None
) -> GpuReport:
    """The report for the given versions."""
    built = f"torch {torch} is built for CUDA {cuda}" if cuda else f"torch {torch} is built without CUDA"
    oldest = OLDEST_DRIVERS.get(int(cuda.split(".")[0])) if cuda else None
    if driver is None:
        words = f"{name or 'no NVIDIA driver'}; {built}"
    elif cuda is None:
        words = f"driver {driver}, but {built}: install a CUDA build of torch to use the GPU"
    elif oldest is not None and _numbers(driver) < _numbers(oldest):
        words = f"driver {driver} is too old: {built}, which needs driver {oldest} or later"
    elif not sees_device:
        words = f"driver {driver}, {built}, yet torch sees no device (is CUDA_VISIBLE_DEVICES empty?)"
    else:
        words = f"{name or 'GPU'}: driver {driver}, {built}, which fits this driver"
    return GpuReport(driver, torch, cuda, sees_device, words)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
