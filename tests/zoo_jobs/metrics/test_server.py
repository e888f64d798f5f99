"""The HTTP server of metrics: its text, ports, deadlines and limits."""

import contextlib
import gzip
import socket
import time
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.simulated_runs import committed, started, totals
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.metrics import server as metrics_server
from zooforge.zoo_jobs.metrics.driver import RunMetrics
from zooforge.zoo_jobs.metrics.server import serve


def test_the_text_is_openmetrics_and_counters_end_in_total() -> None:
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    metrics.start_from(totals("tiny", [0] * 8))
    metrics(started("tiny"))
    metrics(committed("tiny", range(4), 0))
    with serve(registry, 0) as server:
        request = urllib.request.Request(server.url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
            text = reply.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for family in families.values():
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    assert families["zooforge_epoch_duration_seconds"].type == "histogram"
    assert families["zooforge_build"].samples[0].value == 1


def test_a_taken_port_is_replaced_by_the_next_free_one_in_a_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("ZOO_METRICS_PORT", raising=False)
    caplog.set_level("INFO", logger="zooforge")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("zooforge.zoo_jobs.metrics.server.PORT", port)
        with serve(CollectorRegistry()) as server:
            assert port < server.port < port + 64
        assert "taken" in caplog.text


def test_a_fixed_port_that_is_taken_is_refused_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("ZOO_METRICS_PORT", str(port))
        with pytest.raises(InputError, match=str(port)):
            serve(CollectorRegistry())
    monkeypatch.setenv("ZOO_METRICS_PORT", "many")
    with pytest.raises(InputError, match="'many'"):
        serve(CollectorRegistry())


def test_only_loopback_listens_outside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with serve(CollectorRegistry(), 0) as server:
        assert server.address == "127.0.0.1"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with serve(CollectorRegistry(), 0) as server:
        assert server.address in ("::", "0.0.0.0")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/-/healthy", timeout=10) as reply:
            assert reply.read() == b"healthy\n"


def test_a_scrape_may_be_compressed_and_unknown_paths_are_404() -> None:
    registry = CollectorRegistry()
    RunMetrics(registry).start_from(totals("tiny", [0] * 8))
    with serve(registry, 0) as server:
        request = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert b"zooforge_models" in gzip.decompress(reply.read())
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(server.url.replace("metrics", "nothing"), timeout=10)
        refused.value.close()


def registry_of(size: int) -> CollectorRegistry:
    """A registry whose text has at least ``size`` bytes."""
    registry = CollectorRegistry()
    Gauge("filler", "x" * size, registry=registry)
    return registry


def test_a_connection_whose_time_is_over_is_closed_while_others_are_served() -> None:
    now = [0.0]
    with serve(registry_of(16), 0, clock=lambda: now[0]) as server:
        dripping = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        dripping.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")  # and never sends the rest
        assert b"filler" in urllib.request.urlopen(server.url, timeout=30).read()
        now[0] = metrics_server.REQUEST_SECONDS - 1
        dripping.sendall(b"x")
        assert b"filler" in urllib.request.urlopen(server.url, timeout=30).read()
        now[0] = metrics_server.REQUEST_SECONDS
        assert dripping.recv(1) == b""
        dripping.close()


def test_a_scraper_that_does_not_read_is_closed_when_its_time_is_over() -> None:
    now = [0.0]
    with serve(registry_of(16_000_000), 0, clock=lambda: now[0]) as server:
        deaf = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        deaf.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        received = len(deaf.recv(1))  # the reply has begun, and is too large for the buffers
        now[0] = metrics_server.REQUEST_SECONDS
        deadline = time.monotonic() + 60
        while server.num_connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            while block := deaf.recv(65536):
                received += len(block)
        assert received < 16_000_000
        deaf.close()


def test_more_connections_than_allowed_are_refused_and_a_place_that_becomes_free_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics_server, "MAX_CONNECTIONS", 3)
    with serve(registry_of(16), 0) as server:
        waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
        refused = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        assert refused.recv(1) == b""
        assert "too many connections" in caplog.text
        waiting[0].sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        assert waiting[0].recv(8) == b"HTTP/1.0"
        while waiting[0].recv(1024):
            pass  # until the server has closed it
        assert urllib.request.urlopen(server.url, timeout=30).status == 200
        for connection in (*waiting, refused):
            connection.close()
