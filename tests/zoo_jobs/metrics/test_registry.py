"""The registry of metrics: one row per metric, with names and labels that Prometheus accepts."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.simulated_runs import totals
from zooforge.zoo_jobs.metrics import registry
from zooforge.zoo_jobs.metrics.driver import RunMetrics


def test_a_metric_is_added_by_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = registry.MetricRow("zoo", "toy_retries", "counter", "Tasks.", (), lambda zoo: zoo.usage["retries"])
    monkeypatch.setattr(registry, "METRICS", (*registry.METRICS, toy))
    metrics = RunMetrics(collector := CollectorRegistry())
    metrics.start_from(totals("tiny", [1] * 8, usage={"retries": 3}))
    text = generate_latest(collector).decode()
    assert "# HELP zooforge_toy_retries_total Tasks.\n# TYPE zooforge_toy_retries_total counter" in text
    assert 'zooforge_toy_retries_total{zoo="tiny"} 3.0' in text
    assert "| `zooforge_toy_retries_total` | counter | zoo | Tasks. |" in registry.table()


def test_the_rows_have_the_names_and_labels_that_prometheus_and_the_style_allow() -> None:
    names = [row.name for row in registry.METRICS]
    assert len(set(names)) == len(names)
    for row in registry.METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.name), f"{row.name}: use lower-case words joined by _"
        added = row.name.startswith(registry.PREFIX) or row.name.endswith(("_total", "_info"))
        assert not added, f"{row.name}: leave out zooforge_, _total and _info, which are added to it"
        assert row.help.endswith("."), f"{row.name}: end its help with a full stop"
        assert "|" not in row.help and "\n" not in row.help, f"{row.name}: its help is one line without |"
        assert not {"model", "epoch", "pod", "key"} & set(row.labels)
        assert "zoo" not in row.labels
