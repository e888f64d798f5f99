"""Metrics of result.json: a number in any common spelling is read; anything else is null and named."""

from typing import Any

import pytest

from zooforge.storage.interchange.raw.findings import Findings
from zooforge.storage.interchange.raw.metrics import METRICS, number, read_metrics


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.25, 0.25),
        (1, 1.0),
        ("0.25", 0.25),
        ("tensor(0.)", 0.0),
        ("tensor(0.8123)", 0.8123),
        ("tensor([0.5])", 0.5),
        ("tensor(2.5, device='cuda:0', dtype=torch.float64)", 2.5),
        ("tensor(-1.5e-3, grad_fn=<NllLossBackward0>)", -0.0015),
        ("np.float32(0.5)", 0.5),
        ("57.3%", 0.573),
        ("57.3 %", 0.573),
        ([0.5], 0.5),
        (["tensor(0.5)"], 0.5),
        (None, None),
        (float("nan"), None),
        ("tensor(nan)", None),
        (-999, None),
        (-999.0, None),
    ],
)
def test_a_number_is_read_from_every_spelling_that_programs_use(value: Any, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (10**400, "not finite"),
        (float("inf"), "not finite"),
        ("1e999", "not finite"),
        ("1e999999999%", "not finite"),
        ("good", "other text"),
        ("9" * 201, "other text"),
        ("0.5;0.6", "other text"),
        ([0.5, 0.6], "a list"),
        ([[0.5]], "a list"),
        ([], "a list"),
        ({"value": 1}, "an object"),
        (True, "true or false"),
    ],
)
def test_a_metric_that_is_not_one_number_is_named(value: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        number(value)


def rows(**columns: list[Any]) -> dict[int, dict[str, Any]]:
    """Rows of epochs 1, 2, ... with these metrics. Metrics that the reference always writes have a value."""
    count = len(next(iter(columns.values())))
    filled = {name: count * [0.5] for name in ("train_loss", "train_acc", "test_loss", "test_acc")} | columns
    return {epoch + 1: {name: values[epoch] for name, values in filled.items()} for epoch in range(count)}


def column(models: dict[int, dict[int, dict[str, Any]]], name: str) -> tuple[dict[int, list[float | None]], list[str]]:
    findings = Findings()
    metrics = read_metrics(models, findings)
    place = METRICS.index(name)
    return {model: [row[place] for row in by_epoch.values()] for model, by_epoch in metrics.items()}, findings.lines()


def test_percentages_are_divided_to_the_last_bit() -> None:
    values, lines = column({0: rows(test_acc=[0.9, 57.3, 98.76])}, "test_acc")
    assert values == {0: [0.009, 0.573, 0.9876]}
    assert lines == ["models 0: test_acc is a percentage: divided by 100"]


def test_a_ratio_outside_zero_to_one_is_null_and_named() -> None:
    values, lines = column({0: rows(test_acc=[0.5, 1.5, -0.1, 0.6]), 1: rows(test_acc=[0.1] * 4)}, "test_acc")
    assert values == {0: [0.5, None, None, 0.6], 1: [0.1] * 4}
    assert lines == ["models 0: test_acc is outside [0, 1] at epoch 2 and 1 more: null there"]


def test_a_model_whose_unit_may_be_either_is_null_and_named() -> None:
    values, lines = column(
        {m: rows(test_acc=[10.0 + m, 20]) for m in range(3)} | {3: rows(test_acc=[0.1, 0.2])}, "test_acc"
    )
    assert values[0] == [0.1, 0.2] and values[3] == [None, None]
    assert [line for line in lines if "models 3" in line] == [
        "models 3: test_acc is at most 1, that of most models a percentage: null, since it may be either"
    ]


def test_missing_metrics_are_named() -> None:
    model = rows(test_acc=[0.1, 0.2, 0.3], val_acc=[0.1, 0.2, 0.3])
    for row in model.values():
        del row["test_loss"]
    del model[2]["val_acc"]
    _, lines = column({7: model}, "test_loss")
    assert lines == [
        "models 7: val_acc is missing at epoch 2: null there",
        "models 7: result.json has no test_loss",
    ]


def test_text_and_lists_are_taken_and_named() -> None:
    values, lines = column({0: rows(test_loss=["tensor(0.1)", [0.2], {"a": 1}])}, "test_loss")
    assert values == {0: [0.1, 0.2, None]}
    assert lines == [
        "models 0: test_loss is text or a list: the number in it is taken, as it was rounded",
        "models 0: test_loss is an object at epoch 3: null there",
    ]
