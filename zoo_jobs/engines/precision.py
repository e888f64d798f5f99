"""Torch's switches of precision, which belong to the process: all open sessions of a process agree on them."""

import threading
import weakref

import torch

from ..models.arithmetic import Precision

_lock = threading.Lock()
_open: "weakref.WeakKeyDictionary[object, Precision]" = weakref.WeakKeyDictionary()


def claim(session: object, precision: Precision) -> None:
    """Set the switches for a session that opens: products in float32, or in TF32; convolutions that always add in the
    same order. They stay set: if each session set and restored them, it would do so under its neighbours.

    ``bf16`` is autocast around float32, so its switches are those of ``float32``.

    Raises:
        RuntimeError: a session with another precision is open in this process.
    """
    with _lock:
        others = {other for other in _open.values() if other != precision}
        if others:
            raise RuntimeError(
                f"a session in {min(others)} is open; this process cannot compute in {precision} as well"
            )
        _open[session] = precision
        tf32 = precision == "tf32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context of a forward pass: bfloat16 autocast for ``bf16``, nothing otherwise."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def release(session: object) -> None:
    """Forget a session that closes."""
    with _lock:
        _open.pop(session, None)
