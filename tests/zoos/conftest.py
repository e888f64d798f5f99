"""The engines' fixtures serve here too."""

from ..population.conftest import _one_thread, digits, population

__all__ = ["_one_thread", "digits", "population"]
