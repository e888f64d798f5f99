"""The one-cycle schedule of the reference's ResNets, with every default of torch's OneCycleLR. Pure.

Source: Smith, Topin (2017), arXiv:1708.07120; the values are those of ``torch.optim.lr_scheduler.OneCycleLR``.
"""

import math

from ..errors import InputError

WARM_UP_RATIO = 0.3
START_DIVISOR, END_DIVISOR = 25.0, 1e4
MAX_MOMENTUM, MIN_MOMENTUM = 0.95, 0.85


def one_cycle(step: int, total_steps: int, max_learning_rate: float) -> tuple[float, float]:
    """Learning rate and momentum of step ``step`` (0 is the first). Raises InputError beyond the last step."""
    if step >= total_steps:
        raise InputError(
            f"step {step} is beyond the one-cycle schedule of {total_steps} steps; "
            "a zoo with a schedule cannot be extended, make another with more epochs"
        )
    start = max_learning_rate / START_DIVISOR
    peak, last = WARM_UP_RATIO * total_steps - 1, total_steps - 1
    if step <= peak:
        ratio = step / peak
        return _cosine(start, max_learning_rate, ratio), _cosine(MAX_MOMENTUM, MIN_MOMENTUM, ratio)
    ratio = (step - peak) / (last - peak)
    return _cosine(max_learning_rate, start / END_DIVISOR, ratio), _cosine(MIN_MOMENTUM, MAX_MOMENTUM, ratio)


def _cosine(start: float, end: float, ratio: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * ratio))
