"""Makes torch report a CUDA device. Nothing can compute on it; tests ask which program would use it."""

import pytest
import torch

NAME = "Fake GPU"


def see_cuda(monkeypatch: pytest.MonkeyPatch, *, device: bool = True) -> None:
    """Make torch report a device, or none."""
    monkeypatch.delenv("ZOO_WORKER_GPUS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: NAME)
