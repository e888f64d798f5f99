"""Runs a real Prometheus on a loopback port, optionally with a history of scrapes."""

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.core import Metric

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "zooforge" / "rules" / "zooforge.yaml"
BOARDS = sorted((ROOT / "helm" / "zooforge" / "dashboards").glob("*.json"))

Vector = list[tuple[dict[str, str], float]]
Matrix = list[tuple[dict[str, str], list[tuple[float, float]]]]


def missing() -> str | None:
    """The reason why tests with Prometheus cannot run here; None if they can."""
    absent = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found; Debian's package `prometheus` has both" if absent else None


class History:
    """Scrapes of the past, as OpenMetrics text from which promtool makes blocks."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}
        self._types: dict[str, str] = {}

    def add(self, when: float, families: Iterable[Metric], **labels: str) -> None:
        """Add the samples of one scrape at Unix time ``when`` of a target with ``labels``."""
        for family in families:
            self._types[family.name] = family.type
            lines = self._lines.setdefault(family.name, [])
            for sample in family.samples:
                pairs = {**sample.labels, **labels}
                text = ",".join(f'{name}="{value}"' for name, value in sorted(pairs.items()))
                lines.append(f"{sample.name}{{{text}}} {sample.value:.17g} {when:.3f}\n")

    def write(self, data: Path) -> None:
        source = data.parent / "history.txt"
        with source.open("w") as file:
            for name, lines in self._lines.items():
                file.write(f"# TYPE {name} {self._types[name]}\n")
                file.writelines(lines)
            file.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(data)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


class Prometheus:
    """A Prometheus that scrapes ``targets`` (address to labels) and evaluates ``rules``, both every half second."""

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, Mapping[str, str]],
        history: History | None = None,
        *,
        rules: Path = RULES,
        scrape_interval: str = "500ms",
    ) -> None:
        data = folder / "data"
        if history is not None:
            history.write(data)
        config = {
            "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), scrape_interval),
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "zooforge",
                    "static_configs": [{"targets": [a], "labels": dict(labels)} for a, labels in targets.items()],
                }
            ],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        self.wait(lambda: self._is_ready(), "ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def wait(self, condition: Any, what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, Path(self._log.name).read_text()
            assert time.monotonic() < deadline, f"Prometheus was not {what} in {seconds:g} s"
            time.sleep(0.1)

    def query(self, expression: str) -> Vector:
        """The current samples of ``expression``."""
        result = self._get("query", query=expression)
        if result["resultType"] == "scalar":
            return [({}, float(result["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in result["result"]]

    def range(self, expression: str, start: float, end: float, step: float) -> Matrix:
        result = self._get("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [(one["metric"], [(t, float(v)) for t, v in one["values"]]) for one in result["result"]]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from None


def board(path: Path) -> Any:
    return json.loads(path.read_text())


def panels(path: Path) -> list[Any]:
    """The panels of a board, without the headings of its rows."""
    return [panel for panel in board(path)["panels"] if panel["type"] != "row"]


def expression(text: str, rate_interval: str = "5m") -> str:
    """The expression of a panel as Grafana sends it, with everything selected."""
    for name, value in (("$__rate_interval", rate_interval), ("$namespace", ".*"), ("$zoo", ".*")):
        text = text.replace(name, value)
    return text


def alerts() -> list[Any]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = ["promtool", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
