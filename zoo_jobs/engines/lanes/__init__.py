"""The engine ``lanes``: models are SIMD lanes of a CPU. ``LanesEngine`` is its public name; ``build`` compiles it."""

from .engine import LanesEngine, LanesSession

__all__ = ["LanesEngine", "LanesSession"]
