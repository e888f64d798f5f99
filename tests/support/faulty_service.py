"""An HTTP service on loopback whose state is a Python object, and that fails on request."""

import json
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from tests.support.web_server import Quiet, serve


class FaultyService(ABC):
    """State and answers of a service.

    Attributes:
        address: of the running server.
        fault: gets verb and path of each request; returns a status to answer instead, "cut" to take half of the body
            and close the connection, or None.
        requests: verb and path of each request.
    """

    token: ClassVar[str]

    def __init__(self) -> None:
        self.address = ""
        self.fault: Callable[[str, str], int | str | None] = lambda verb, path: None
        self.requests: list[tuple[str, str]] = []

    def die_after(self, number: int) -> None:
        """From now on refuse all requests but the first ``number``, as if the client had been killed."""
        left = number

        def kill(verb: str, path: str) -> int | str | None:
            nonlocal left
            left -= 1
            return 418 if left < 0 else None

        self.fault = kill

    @abstractmethod
    def answer(self, verb: str, url: str, body: bytes, known: bool) -> tuple[int, Any]:
        """Status and value, bytes or JSON; ``known``: the request has the token. A 302 leads to the value."""

    @abstractmethod
    def refusal(self, status: int) -> dict[str, Any]:
        """The JSON of an error that a test asks for."""

    def headers(self, value: Any) -> dict[str, str]:
        """Headers that go with a value."""
        return {}


Service = TypeVar("Service", bound=FaultyService)


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    """Serve ``service`` while the block runs."""

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            path = urlsplit(self.path).path
            service.requests.append((self.command, path))
            fault = service.fault(self.command, path)
            body = self.body(half=fault == "cut")
            if fault == "cut":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(fault, int):
                return self.reply(fault, service.refusal(fault))
            known = self.headers.get("Authorization") == f"Bearer {service.token}"
            self.reply(*service.answer(self.command, self.path, body, known))

        def body(self, half: bool) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                pieces = []
                while size := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                    if half:
                        return b""
                self.rfile.readline()
                return b"".join(pieces)
            size = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(size // 2 if half else size)

        def reply(self, status: int, value: Any) -> None:
            is_empty = value is None or status == 302
            data = value if isinstance(value, bytes) else b"" if is_empty else json.dumps(value).encode()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            headers = service.headers(value) | ({"Location": value} if status == 302 else {})
            if status == 200 and wanted is not None:
                status, data = 206, data[int(wanted[1]) : int(wanted[2]) + 1]
                headers["Content-Range"] = f"bytes {wanted[1]}-{int(wanted[1]) + len(data) - 1}/*"
            self.send_response(status)
            for name, text in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else data)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

    with serve(Handler) as service.address:
        yield service
