"""Estimates how long the rest of a run takes, as an interval, from its recent commits. Pure."""

from collections.abc import Iterable

UNKNOWN = (float("nan"), float("nan"))
WINDOW_SECONDS = 1800.0
NUM_SPANS = 4
FEWEST = 4
SLOWEST = 4.0  # a span without commits is not a rate of 0: the slowest counts as at least the mean rate / 4


def eta_seconds(commits: Iterable[tuple[float, int]], remaining: int, now: float) -> tuple[float, float]:
    """Seconds until ``remaining`` more model-epochs are committed, at the fastest and at the slowest recent rate.

    The last half hour, or as much of it as there is, is divided into four spans. The interval follows from the fastest
    and the slowest span, so it is wide while commits are irregular, and grows while there is none.

    Args:
        commits: (time in seconds, model-epochs), ordered by time; the first one only says when counting began.
        now: seconds on the same clock.

    Returns:
        (low, high); NaN while there are fewer than ``FEWEST`` commits.
    """
    if remaining <= 0:
        return 0.0, 0.0
    (began, _), *rest = [*commits] or [(now, 0)]
    recent = [(time, count) for time, count in rest if count]
    if len(recent) < FEWEST:
        return UNKNOWN
    start = max(began, now - WINDOW_SECONDS)
    if start > recent[-FEWEST][0]:  # epochs of an hour: look back far enough to see some
        start = next((time for time, _ in reversed(recent[:-FEWEST])), began)
    span = (now - start) / NUM_SPANS
    if span <= 0:
        return UNKNOWN
    counts = [0] * NUM_SPANS
    for time, count in recent:
        if time > start:
            counts[min(int((time - start) / span), NUM_SPANS - 1)] += count
    if not sum(counts):
        return UNKNOWN
    mean = sum(counts) / (now - start)
    return remaining / (max(counts) / span), remaining / max(min(counts) / span, mean / SLOWEST)
