"""A CUDA device that torch says is there. Nothing computes on it: tests ask who would use it."""

import pytest
import torch

NAME = "Fake GPU"


def see_cuda(monkeypatch: pytest.MonkeyPatch, *, device: bool = True) -> None:
    """Let torch say that there is a device, or that there is none."""
    monkeypatch.delenv("ZOO_WORKER_GPUS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: NAME)
