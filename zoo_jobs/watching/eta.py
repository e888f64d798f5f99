"""How long the rest takes, as an interval, from what was committed lately. Pure."""

from collections.abc import Iterable

UNKNOWN = (float("nan"), float("nan"))
WINDOW_SECONDS = 1800.0
NUM_SPANS = 4
FEWEST = 4
SLOWEST = 4.0  # an empty span is bad luck, not a rate of zero


def eta_seconds(commits: Iterable[tuple[float, int]], remaining: int, now: float) -> tuple[float, float]:
    """Seconds until ``remaining`` more model-epochs are committed: (if it goes as fast, as slowly) as it lately did.

    The last half hour, or all there is of it, is cut into four spans; the interval follows from the fastest and the
    slowest of them, so it is wide while commits come in lumps, and grows while none comes.

    Args:
        commits: (time, model-epochs) in the order of time; the first one only says when counting began.
        now: on the same clock, seconds.

    Returns:
        (low, high), not a number while there are fewer than ``FEWEST`` commits.
    """
    if remaining <= 0:
        return 0.0, 0.0
    (began, _), *rest = [*commits] or [(now, 0)]
    found = [(time, count) for time, count in rest if count]
    if len(found) < FEWEST:
        return UNKNOWN
    start = max(began, now - WINDOW_SECONDS)
    if start > found[-FEWEST][0]:  # epochs of an hour: look back far enough to see some
        start = next((time for time, _ in reversed(found[:-FEWEST])), began)
    span = (now - start) / NUM_SPANS
    if span <= 0:
        return UNKNOWN
    counts = [0] * NUM_SPANS
    for time, count in found:
        if time > start:
            counts[min(int((time - start) / span), NUM_SPANS - 1)] += count
    if not sum(counts):
        return UNKNOWN
    mean = sum(counts) / (now - start)
    return remaining / (max(counts) / span), remaining / max(min(counts) / span, mean / SLOWEST)
