"""Serves a registry over HTTP to Prometheus, in its text format or in OpenMetrics, compressed if the scraper asks."""

import contextlib
import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from ..errors import InputError

logger = logging.getLogger(__name__)

PORT = 9095
PORTS_TRIED = 64
MAX_CONNECTIONS = 32
REQUEST_SECONDS = 30.0  # a connection that takes longer, from its start to the end of the reply, is closed

_PAGES = {
    "/-/healthy": ("200 OK", b"healthy\n"),
    "/": ("200 OK", b"zooforge: metrics are at /metrics\n"),
}
_NOT_FOUND = ("404 Not Found", b"not found; metrics are at /metrics\n")


def _application(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        status, text = _PAGES.get(environ["PATH_INFO"], _NOT_FOUND)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    return application


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("scrape", extra={"request": format % args})


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per connection, of which there are at most ``MAX_CONNECTIONS``, each for one request.

    prometheus_client's own server bounds neither the number of connections nor their time.
    """

    daemon_threads = True
    request_queue_size = 64
    # Two processes must not share a port: each would see a part of the scrapes.
    allow_reuse_address = True
    allow_reuse_port = False

    def __init__(self, address: tuple[str, int], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[socket.socket, float] = {}  # connection -> when its time is over
        super().__init__(address, _Handler)

    @property
    def num_connections(self) -> int:
        return len(self._open)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.num_connections >= MAX_CONNECTIONS:
            logger.warning("too many connections to the metrics; one is refused", extra={"open": MAX_CONNECTIONS})
            super().shutdown_request(request)
            return
        self._open[request] = self._clock() + REQUEST_SECONDS
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close the connections whose time is over; ``serve_forever`` calls this ten times a second."""
        now = self._clock()
        self.close_connections([request for request, end in list(self._open.items()) if now >= end])

    def close_connections(self, requests: Iterable[socket.socket] | None = None) -> None:
        """Close ``requests``, by default all: the thread that reads or writes there gets an error and ends."""
        for request in list(self._open) if requests is None else requests:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a scrape was interrupted", exc_info=True)


class _DualStackServer(_Server):
    address_family = socket.AF_INET6


class MetricsServer:
    """Serves until closed. ``url`` is its address, seen from this machine."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.address, self.port = str(server.server_address[0]), int(server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/metrics"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def num_connections(self) -> int:
        return self._server.num_connections

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def serve(
    registry: CollectorRegistry, port: int | None = None, *, clock: Callable[[], float] = time.monotonic
) -> MetricsServer:
    """Serve ``registry`` in the background.

    In a pod the server listens on every interface, elsewhere only on loopback. Without ``port``, ``ZOO_METRICS_PORT``
    decides; without that the server takes 9095 or the next free port, and logs which.

    Args:
        port: exactly this port; 0 for any free one.
        clock: seconds, for the time limit of connections.

    Raises:
        InputError: the requested port is taken, or is not a port.
    """
    if port is None:
        port = _port_of_environment()
    if port is not None:
        try:
            return MetricsServer(_bind(port, registry, clock))
        except OSError as error:
            raise InputError(
                f"metrics port {port}: {error.strerror}; another driver or exporter has it, end that one or give "
                "another port"
            ) from error
    for candidate in range(PORT, PORT + PORTS_TRIED):
        try:
            server = MetricsServer(_bind(candidate, registry, clock))
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


def _bind(port: int, registry: CollectorRegistry, clock: Callable[[], float]) -> _Server:
    if not in_pod():
        server = _Server(("127.0.0.1", port), clock)
    elif socket.has_dualstack_ipv6():
        server = _DualStackServer(("::", port), clock)
    else:
        server = _Server(("0.0.0.0", port), clock)
    server.set_app(_application(registry))
    return server


def _port_of_environment() -> int | None:
    text = os.environ.get("ZOO_METRICS_PORT", "")
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InputError(f"ZOO_METRICS_PORT is {text!r}, expected a port from 1 to 65535")
    return int(text)
