"""Test accuracy from one state, for models that reach each of several thresholds."""

from ..request import Request
from ..tables import Report
from .from_state import run_thresholds


def run(request: Request) -> Report:
    return run_thresholds("accuracy", "test_acc", request)
