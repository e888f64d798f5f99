"""A web server on loopback that runs while a block of a test runs."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Quiet(BaseHTTPRequestHandler):
    """A handler that writes nothing on standard error."""

    def log_message(self, *_: Any) -> None:
        pass


class Files(Quiet, SimpleHTTPRequestHandler):
    """Python's own file server, which ignores ranges."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *arguments: Any) -> None:
        """Report an error, unless the client has only closed its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*arguments)


@contextmanager
def serve(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests with ``handler``, each connection in a thread. Yields the address."""
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def serve_folder(folder: Path, handler: type[Files] = Files) -> Iterator[str]:
    """Serve the files of ``folder``. Yields the address."""
    with serve(partial(handler, directory=str(folder))) as address:
        yield address
