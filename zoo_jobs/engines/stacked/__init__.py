"""The engine ``stacked``: batched matrix products over a leading axis of models, for GPUs.

``StackedEngine`` is its public name.
"""

from .engine import StackedEngine
from .session import StackedSession

__all__ = ["StackedEngine", "StackedSession"]
