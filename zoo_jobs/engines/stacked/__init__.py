"""The GPU engine: a leading axis of models through batched matrix products."""

from .engine import StackedEngine
from .session import StackedSession

__all__ = ["StackedEngine", "StackedSession"]
