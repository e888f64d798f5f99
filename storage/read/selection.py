"""What a reader asks for: epochs and models as numbers, lists or slices. Pure."""

from collections.abc import Iterable

from ..errors import StorageUsageError

Selector = int | str | slice | range | Iterable[int] | None


def select(selector: Selector, available: Iterable[int], what: str) -> list[int] | None:
    """Chosen numbers, ascending and once each; None if ``selector`` is None.

    A slice takes what is available in it; a number or a list is taken by its word, available or not.

    Args:
        selector: 7, [0, 7], range(0, 8), slice(0, 8), or text of numbers and half-open slices: "0,21:26,50".
        what: "epochs" or "models", for messages.

    Raises:
        StorageUsageError: not of these forms, negative, or a slice that ends before it begins.
    """
    if selector is None:
        return None
    chosen: set[int] = set()
    if isinstance(selector, bool):
        raise StorageUsageError(f"{what}: {selector!r} is no number")
    if isinstance(selector, str):
        for item in selector.split(","):
            chosen.update(_item(item.strip(), available, what))
    elif isinstance(selector, slice):
        chosen.update(_slice(selector.start, selector.stop, selector.step, available, what))
    elif isinstance(selector, int):
        chosen.add(selector)
    else:
        try:
            chosen.update(int(value) for value in selector)
        except (TypeError, ValueError):
            raise StorageUsageError(f"{what}: {selector!r} is not a list of numbers") from None
    if any(value < 0 for value in chosen):
        raise StorageUsageError(f"{what}: negative numbers do not count from the end; found {min(chosen)}")
    return sorted(chosen)


def _item(text: str, available: Iterable[int], what: str) -> list[int]:
    try:
        numbers = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0] is not None:
        return [numbers[0]]
    if len(numbers) in (2, 3):
        return _slice(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None, available, what)
    raise StorageUsageError(f"{what}: {text!r} is no number or half-open slice; write e.g. 0,21:26,50")


def _slice(start: int | None, stop: int | None, step: int | None, available: Iterable[int], what: str) -> list[int]:
    first, every = start or 0, 1 if step is None else step
    if first < 0 or every < 1 or (stop is not None and stop <= first):
        raise StorageUsageError(f"{what}: the slice {start}:{stop} is empty or goes backwards")
    return [v for v in available if v >= first and (stop is None or v < stop) and (v - first) % every == 0]
