"""The generalisation gap, running training accuracy minus test accuracy, from one state."""

from ..request import Request
from ..tables import Report
from .from_state import run_thresholds


def run(request: Request) -> Report:
    return run_thresholds("ggap", "ggap", request)
