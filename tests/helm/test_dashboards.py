"""Dashboards and alert rules as files: mistakes that Grafana or Prometheus would reject or show as empty panels."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.past_runs import Simulation
from tests.support.prometheus import BOARDS, ROOT, RULES, alerts, board, missing, panels, promtool
from tests.support.quick_rules import quick
from tests.support.simulated_runs import committed, started, totals
from zooforge.zoo_jobs.metrics.driver import RunMetrics
from zooforge.zoo_jobs.metrics.registry import METRICS, with_table

needs_promtool = pytest.mark.skipif(missing() is not None, reason=str(missing()))

UNITS = {"none", "short", "percent", "percentunit", "s", "cps", "bytes", "Bps", "currencyUSD"}
LABELS = {"zooforge_io_zoo", "ray_io_cluster"}
SERIES = re.compile(r"\b((?:zooforge|ray|autoscaler|kueue|kubelet|DCGM)_\w+)")


MACHINES = {sample.name for family in Simulation(0.0).machines() for sample in family.samples}
PARTS = {"histogram": ("_bucket", "_count", "_sum")}  # a histogram has three series
EMITTED = {row.exposed_name + part for row in METRICS for part in PARTS.get(row.type, ("",))} | MACHINES


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_has_a_stable_uid_and_panels_with_unique_ids_that_do_not_overlap(path: Path) -> None:
    value = board(path)
    assert value["uid"] == f"zooforge-{path.stem}"
    assert value["schemaVersion"] >= 36 and value["id"] is None
    ids = [panel["id"] for panel in value["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in value["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_has_a_description_and_a_unit_and_uses_only_defined_variables(path: Path) -> None:
    variables = {variable["name"] for variable in board(path)["templating"]["list"]}
    assert variables == {"datasource", "namespace", "zoo"}
    for panel in panels(path):
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
        for target in panel["targets"]:
            named = set(re.findall(r"\$\{?(\w+)", target["expr"])) - {"__rate_interval"}
            assert named <= variables, target["expr"]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels_of(target["expr"])


def labels_of(expression: str) -> set[str]:
    return {name for actual in re.findall(r"by \(([^)]*)\)", expression) for name in actual.split(", ")}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_expression_uses_only_existing_series(path: Path) -> None:
    for panel in panels(path):
        for target in panel["targets"]:
            named = set(SERIES.findall(target["expr"])) - LABELS
            assert named and named <= EMITTED, named - EMITTED


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_driver_and_the_exporter_in_view_count_once(path: Path) -> None:
    """What both driver and exporter expose is aggregated with max first; only drivers expose histograms."""
    for panel in panels(path):
        for target in panel["targets"]:
            for match in re.finditer(r"(\w+) by \([^)]*\) \((?:rate\(|increase\()?(zooforge_\w+)", target["expr"]):
                histogram = "duration_seconds" in match[2]
                assert match[1] == ("sum" if histogram else "max"), target["expr"]


def test_the_documentation_has_the_table_of_the_registry() -> None:
    """`python -m zooforge.zoo_jobs.metrics.registry docs/metrics.md` writes it again."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == with_table(text), "run `make docs`"


def test_every_alert_has_a_severity_a_summary_a_duration_and_a_section_in_the_runbooks() -> None:
    headings = set(re.findall(r"^## (\w+)", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE))
    alert_names = {rule["alert"] for rule in alerts()}
    assert alert_names == headings
    assert alert_names == {
        *("NoProgress", "FaultyRatioHigh", "PreemptionStorm", "StoreErrors", "EtaSlip", "BudgetBurn"),
        *("HeadMemoryGrowth", "MetricsAbsent", "DiskFilling", "GpuIdle"),
    }
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["for"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


def test_every_rule_uses_only_existing_series() -> None:
    rules: list[Any] = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        used = set(re.findall(r"zoo:\w+(?::\w+)?", rule["expr"]))
        assert used <= recorded, used - recorded
        named = set(SERIES.findall(re.sub(r"zoo:\w+(?::\w+)?", "", rule["expr"]))) - LABELS
        assert named <= EMITTED, named - EMITTED


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    result = promtool("check", "rules", str(RULES))
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
@pytest.mark.parametrize("cases", ["alerts", "alerts-slow"])
def test_every_alert_fires_when_it_must_and_is_silent_when_it_must_not(cases: str) -> None:
    result = promtool("test", "rules", str(Path(__file__).parent / f"{cases}.test.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    metrics.start_from(totals("tiny-vd", [1] * 8, stage="sparsify"))
    metrics.start_from(totals("tiny", [1] * 8, budget_dollars=5.0))
    metrics(started("tiny"))
    metrics(committed("tiny", range(8), 1))
    result = promtool("check", "metrics", text=generate_latest(registry).decode())
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_quick_rules_are_the_rules_with_times_divided_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(quick(6)))
    result = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert result.returncode == 0, result.stderr
    same: list[Any] = [rule for group in quick(1)["groups"] for rule in group["rules"]]
    real = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    times = re.compile(r"\d+m?s\b|\d+[mhd]\b")
    assert [times.sub("", rule["expr"]) for rule in same] == [times.sub("", rule["expr"]) for rule in real]
    (storm,) = (
        rule for group in quick(6)["groups"] for rule in group["rules"] if rule.get("alert") == "PreemptionStorm"
    )
    assert "[300000ms])) > 10" in storm["expr"] and storm["for"] == "50000ms"
