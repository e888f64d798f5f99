"""Sets torch's precision settings.

The settings are global to the process, so all open sessions of a process must use the same precision.
"""

import threading
import weakref

import torch

from ..models.arithmetic import Precision

_lock = threading.Lock()
_open: "weakref.WeakKeyDictionary[object, Precision]" = weakref.WeakKeyDictionary()


def claim(session: object, precision: Precision) -> None:
    """Set torch's precision for ``session``, which is about to open.

    Matrix products use float32 or TF32, and convolutions always add in the same order. ``bf16`` is autocast around
    float32, so it needs the settings of ``float32``. The settings stay when a session closes, because other open
    sessions rely on them.

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
    """The context for a forward pass: bfloat16 autocast for ``bf16``, and no autocast otherwise."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def release(session: object) -> None:
    """Unregister a session that closes."""
    with _lock:
        _open.pop(session, None)
