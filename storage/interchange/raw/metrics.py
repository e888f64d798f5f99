"""Read metrics of ``result.json`` as numbers. An ambiguous value becomes None, and a finding reports it. Pure."""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from .findings import Findings

METRICS = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc", "sparsity_ratio")
SENTINEL = -999  # train loss and accuracy of epoch 0 in the reference's older zoos
_EXPECTED = ("train_loss", "train_acc", "test_loss", "test_acc")
_WRITERS = r"(?:(?:torch\.)?tensor|(?:np\.|numpy\.)?(?:float\d{1,3}|array))"  # text that str() writes before a number
_TEXT = re.compile(
    rf"{_WRITERS}?\(?\[?([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan)(%?)\]?(?:,[^,()]*(?:\([^()]*\))?)*\)?", re.I
)

Row = tuple[float | None, ...]
"""Values in the order of ``METRICS``."""


def number(value: Any) -> float | None:
    """The number in ``value``, which may be text or a list of one item. It is None for null, NaN and the sentinel.

    Text may be a tensor as Python prints it: "tensor(0.81, device='cuda:0')". "81 %" is read as 0.81.

    Raises:
        ValueError: the value is not one finite number; the message says what it is.
    """
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list):
        return number(value[0])
    if isinstance(value, str):
        match = _TEXT.fullmatch(re.sub(r"\s", "", value)) if len(value) <= 200 else None
        if match is None:
            raise ValueError("other text")
        if match[1].lower() == "nan":
            return None
        value = float(match[1])
        if match[2] and math.isfinite(value):
            value = _hundredth(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError({dict: "an object", list: "a list", bool: "true or false"}[type(value)])
    try:
        read = float(value)
    except OverflowError:
        read = math.inf
    if math.isnan(read) or read == SENTINEL:
        return None
    if math.isinf(read):
        raise ValueError("not finite")
    return read


def read_metrics(
    models: Mapping[int, Mapping[int, Mapping[str, Any]]], findings: Findings
) -> dict[int, dict[int, Row]]:
    """Metrics by model and epoch.

    If most positive values of an accuracy of a model are above 1, and none is above 100, they are read as percentages.

    Args:
        models: rows of ``result.json`` by model and epoch.
    """
    columns = {
        model: {name: _column(model, name, rows, findings) for name in METRICS} for model, rows in models.items()
    }
    for name in METRICS:
        if not name.endswith("_loss"):
            _as_ratios(name, {model: column[name] for model, column in columns.items()}, findings)
    return {
        model: {epoch: tuple(columns[model][name].get(epoch) for name in METRICS) for epoch in rows}
        for model, rows in models.items()
    }


def _column(model: int, name: str, rows: Mapping[int, Mapping[str, Any]], findings: Findings) -> dict[int, float]:
    """The values of one metric by epoch. Epochs without a value are left out."""
    values: dict[int, float] = {}
    unread: dict[str, list[int]] = {}
    from_text = False
    for epoch, row in rows.items():
        try:
            value = number(row.get(name))
        except ValueError as error:
            unread.setdefault(str(error), []).append(epoch)
            continue
        if value is not None:
            values[epoch] = value
            from_text |= not isinstance(row[name], int | float)
    measured = [epoch for epoch in rows if epoch or not name.startswith("train")]
    missing = [epoch for epoch in measured if name not in rows[epoch]]
    if missing and len(missing) == len(measured):
        if name in _EXPECTED:
            findings.add(model, f"result.json has no {name}")
    elif missing:
        findings.add(model, f"{name} is missing at {epochs_text(missing)}: null there")
    if from_text:
        findings.add(model, f"{name} is text or a list: the number in it is taken, as it was rounded")
    for what, epochs in unread.items():
        findings.add(model, f"{name} is {what} at {epochs_text(epochs)}: null there")
    return values


def _as_ratios(name: str, columns: Mapping[int, dict[int, float]], findings: Findings) -> None:
    """Divide percentages by 100, and remove values that are not ratios."""
    percent = {model for model, column in columns.items() if _is_percent(column)}
    most_are_percent = 2 * len(percent) > sum(any(column.values()) for column in columns.values())
    for model, column in columns.items():
        limit = 100 if model in percent else 1
        outside = [epoch for epoch, value in column.items() if not 0 <= value <= limit]
        for epoch in outside:
            del column[epoch]
        if outside:
            findings.add(model, f"{name} is outside [0, {limit}] at {epochs_text(outside)}: null there")
        if model in percent:
            column.update({epoch: _hundredth(value) for epoch, value in column.items()})
            findings.add(model, f"{name} is a percentage: divided by 100")
        elif most_are_percent and any(column.values()):
            column.clear()
            findings.add(model, f"{name} is at most 1, that of most models a percentage: null, since it may be either")


def _hundredth(value: float) -> float:
    """A hundredth of ``value``, computed from its decimal digits, so that 57.3 gives the same float as 0.573."""
    return float(Decimal(repr(value)).scaleb(-2))


def _is_percent(column: Mapping[int, float]) -> bool:
    values = [value for value in column.values() if value > 0]
    return 2 * sum(value > 1 for value in values) > len(values) and max(values, default=0) <= 100


def epochs_text(epochs: Iterable[int]) -> str:
    """ "epoch 3" or "epoch 3 and 4 more"."""
    first, *more = sorted(epochs)
    return f"epoch {first} and {len(more)} more" if more else f"epoch {first}"
