"""Targets for answers of web servers: a server on this machine answers each request with the fuzzed bytes."""

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from tests.fuzz.target import OURS, Target
from zooforge.storage.stores.web import WebStore

REPLIES = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "x"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nhello',
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-11/20\r\nContent-Length: 10\r\n\r\n0123456789",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
]
_HEADERS = (
    b"Content-Length: -1", b"Content-Length: " + 5000 * b"9", b"Last-Modified: tomorrow", 100 * b"X: y\r\n" + b"Y: z",
    b"Last-Modified: Wed, 99 Oct 99999 07:28:00 GMT", b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff",
    b"Content-Encoding: gzip", b"Content-Range: bytes 9-2/1\r\nContent-Length: 5", b"X: " + 100_000 * b"y",
    b": ", b"\x00",
)  # fmt: skip
HOSTILE = (
    *(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\nhello" for header in _HEADERS),
    *(b"HTTP/1.1 206 P\r\n" + header + b"\r\n\r\nhello" for header in _HEADERS),
    b"HTTP/1.1 206 P\r\n\r\n" + 30 * 2**20 * b"x",
    b"HTTP/1.1 99999999999 OK\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: //[\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    b"",
    b"\r\n",
)  # fmt: skip


@cache
def server() -> tuple[list[bytes], int]:
    """A list that holds the bytes to send, and the port of the server."""
    reply = [b""]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                request = b""
                while b"\r\n\r\n" not in request and (piece := connection.recv(65536)):
                    request += piece
                connection.sendall(reply[0])
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.02)
                connection.recv(65536)  # closing at once could reset the connection before everything was read

    threading.Thread(target=serve, daemon=True).start()
    return reply, listener.getsockname()[1]


def look_at_reply(data: bytes) -> None:
    """Read an object, a range of it, and its size."""
    reply, port = server()
    reply[0] = data
    store = WebStore(f"http://127.0.0.1:{port}/store", budget_seconds=0)
    store.ignores_ranges = True  # otherwise every reply without a range is logged as the first one
    reads: list[Callable[[], Any]] = [
        lambda: store.get("a/b"),
        lambda: store.get("a/b", (2, 12)),
        lambda: store.stat("a/b"),
    ]
    for read in reads:
        try:
            read()
        except OURS as error:
            if "\n" in str(error):
                raise


def web_targets() -> dict[str, Target]:
    return {"web-reply": Target(REPLIES, look_at_reply, hostile=HOSTILE)}
