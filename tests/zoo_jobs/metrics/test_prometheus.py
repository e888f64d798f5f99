"""With a real Prometheus: every panel and every alert has data, and a driver may be restarted."""

import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.support.dashboard_drawing import draw_board
from tests.support.past_runs import history
from tests.support.prometheus import BOARDS, Prometheus, alerts, expression, missing, panels
from tests.support.simulated_runs import committed, started, totals
from zooforge.zoo_jobs.metrics.driver import RunMetrics
from zooforge.zoo_jobs.metrics.server import serve

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Eight hours of three runs, with the rules evaluated now."""
    result, _ = history(time.time())
    with Prometheus(tmp_path_factory.mktemp("past"), {}, result) as prometheus:
        prometheus.wait(lambda: prometheus.query("zoo:zooforge_wanted"), "evaluating rules")
        yield prometheus


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_data(past: Prometheus, path: Path) -> None:
    empty = []
    for panel in panels(path):
        for target in panel["targets"]:
            result = past.query(expression(target["expr"]))
            if not any(math.isfinite(value) for _, value in result):
                empty.append((panel["title"], target["expr"]))
    assert empty == []


def operands(rule: str) -> str:
    """An alert's expression with sums in place of comparisons: it has a value where all of its operands have one."""
    return re.sub(r"\s(?:>=|<=|==|>|<)\s+(?!bool)", " + ", rule)


def test_every_operand_of_every_alert_has_data(past: Prometheus) -> None:
    silent = []
    for rule in alerts():
        asked = re.sub(r"^absent\((.*)\)$", r"\1", operands(rule["expr"].strip()))
        for one in asked.split("\nor ") if rule["alert"] == "DiskFilling" else [asked]:
            if not any(math.isfinite(value) for _, value in past.query(one)):
                silent.append((rule["alert"], one))
    assert silent == []


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_can_be_drawn(past: Prometheus, path: Path, tmp_path: Path) -> None:
    """``ZOO_PANELS=FOLDER`` keeps the pictures, to be looked at."""
    folder = Path(os.environ.get("ZOO_PANELS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.stem}.png"
    assert draw_board(past, path, target, step=600) == len(panels(path))
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_restarted_driver_continues_from_the_state_of_the_store(tmp_path: Path) -> None:
    counter = 'zooforge_model_epochs_total{zoo="tiny",stage="train"}'
    first = serve(registry := CollectorRegistry(), 0)
    metrics = RunMetrics(registry)
    metrics.start_from(totals("tiny", [1] * 8))
    metrics(started("tiny", done=8))
    metrics(committed("tiny", range(8), 1))
    address = f"127.0.0.1:{first.port}"
    with Prometheus(tmp_path, {address: {"pod": "driver", "namespace": "zoos"}}) as prometheus:

        def shows(value: float) -> bool:
            return [result for _, result in prometheus.query(counter)] == [value]

        prometheus.wait(lambda: shows(16), "scraping")
        metrics(committed("tiny", range(8), 2))  # committed, and never scraped
        first.close()
        registry = CollectorRegistry()
        metrics = RunMetrics(registry)
        metrics.start_from(totals("tiny", [3] * 8))
        with serve(registry, first.port):
            metrics(started("tiny", done=24))
            prometheus.wait(lambda: shows(24), "scraping the second driver")
            metrics(committed("tiny", range(8), 3))
            prometheus.wait(lambda: shows(32), "scraping what the second driver did")
            assert [value for _, value in prometheus.query(f"resets({counter}[5m])")] == [0]
            labels = {name for result, _ in prometheus.query('{__name__=~"zooforge_.+"}') for name in result}
        reasons = {"outcome", "direction", "split", "quantile", "le", "version", "numerics_version", "python", "reason"}
        assert labels <= {"__name__", "job", "instance", "pod", "namespace", "zoo", "stage", "state", *reasons}
