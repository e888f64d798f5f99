"""A registry over HTTP, for Prometheus: text or OpenMetrics, compressed where that is asked for."""

import contextlib
import errno
import gzip
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ..errors import InputError

logger = logging.getLogger(__name__)

PORT = 9095
PORTS_TRIED = 64
IDLE_SECONDS = 120.0  # after which a connection that asks for nothing is closed


class _Page:
    """The metrics as text, made again when a scrape finds them older than ``max_age_seconds``, or by ``renew``."""

    def __init__(self, registry: CollectorRegistry, max_age_seconds: float) -> None:
        self._registry, self._max_age = registry, max_age_seconds
        self._making = threading.Lock()
        self._made: dict[str, _Text] = {}
        self._accepts: dict[str, str] = {}

    def get(self, accept: str, compressed: bool) -> tuple[bytes, str]:
        _, content_type = choose_encoder(accept)
        text = self._made.get(content_type)
        if text is None or time.monotonic() - text.made >= self._max_age:
            with self._making:
                text = self._made.get(content_type)
                if text is None or time.monotonic() - text.made >= self._max_age:
                    text = self._make(accept)
        return (text.packed if compressed else text.plain), content_type

    def renew(self) -> None:
        """Make what was asked for so far; scrapes meanwhile get what there is."""
        for accept in [*self._accepts.values()]:
            self._make(accept)

    def _make(self, accept: str) -> "_Text":
        encoder, content_type = choose_encoder(accept)
        made = time.monotonic()
        plain = encoder(self._registry)
        self._accepts[content_type] = accept
        text = self._made[content_type] = _Text(made, plain, gzip.compress(plain, 1))
        return text


@dataclass(frozen=True, slots=True)
class _Text:
    made: float
    plain: bytes
    packed: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "zooforge"
    sys_version = ""
    timeout = IDLE_SECONDS
    page: _Page

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            compressed = "gzip" in self.headers.get("Accept-Encoding", "")
            body, content_type = self.page.get(self.headers.get("Accept", ""), compressed)
            self._reply(200, body, content_type, {"Content-Encoding": "gzip"} if compressed else {})
        elif path == "/-/healthy":
            self._reply(200, b"healthy\n", "text/plain; charset=utf-8")
        elif path == "/":
            self._reply(200, b"zooforge: metrics are at /metrics\n", "text/plain; charset=utf-8")
        else:
            self._reply(404, b"not found; metrics are at /metrics\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET

    def _reply(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("scrape", extra={"request": format % args})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    # Two processes must not share a port: each would see a part of the scrapes.
    allow_reuse_address = True
    allow_reuse_port = False

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Else a scraper's open connection would go on getting the old metrics."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a scrape broke off", exc_info=True)


class MetricsServer:
    """Serves until closed. ``url`` is where, seen from this machine; ``renew`` makes the text that scrapes get anew."""

    def __init__(self, server: _Server, page: _Page) -> None:
        self._server = server
        self.renew = page.renew
        self.address, self.port = str(server.server_address[0]), int(server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/metrics"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(registry: CollectorRegistry, port: int | None = None, *, max_age_seconds: float = 0.0) -> MetricsServer:
    """Serve ``registry`` in the background.

    In a pod every interface listens, elsewhere only loopback. Without ``port``, ``ZOO_METRICS_PORT`` decides, and
    without that 9095 or the next free port, which is said.

    Args:
        port: exactly this one; 0 for any free one.
        max_age_seconds: how old the text of a scrape may be.

    Raises:
        InputError: the port that was asked for is taken, or is none.
    """
    if port is None:
        port = _port_of_environment()
    page = _Page(registry, max_age_seconds)
    handler = type("Handler", (_Handler,), {"page": page})
    if port is not None:
        try:
            return MetricsServer(_bind(port, handler), page)
        except OSError as error:
            raise InputError(
                f"metrics port {port}: {error.strerror}; another driver or exporter has it, end that one or give "
                "another port"
            ) from error
    for candidate in range(PORT, PORT + PORTS_TRIED):
        try:
            server = MetricsServer(_bind(candidate, handler), page)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InputError(f"metrics port {candidate}: {error.strerror}") from error
            continue
        if candidate != PORT:
            logger.info("metrics port is taken, using the next free one", extra={"taken": PORT, "port": candidate})
        return server
    raise InputError(f"no metrics port is free from {PORT} to {PORT + PORTS_TRIED - 1}; give one in ZOO_METRICS_PORT")


def in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


def _bind(port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    if not in_pod():
        return _Server(("127.0.0.1", port), handler)
    if socket.has_dualstack_ipv6():
        server = type("Server", (_Server,), {"address_family": socket.AF_INET6})
        found: _Server = server(("::", port), handler)
        return found
    return _Server(("0.0.0.0", port), handler)


def _port_of_environment() -> int | None:
    text = os.environ.get("ZOO_METRICS_PORT", "")
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InputError(f"ZOO_METRICS_PORT is {text!r}, expected a port from 1 to 65535")
    return int(text)
