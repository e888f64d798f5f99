"""The CPU engine: models are SIMD lanes."""

from .engine import LanesEngine, LanesSession

__all__ = ["LanesEngine", "LanesSession"]
