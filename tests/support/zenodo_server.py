"""A server on loopback that answers as developers.zenodo.org documents the deposit API, and fails on request."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "the-token-of-the-test"


class Zenodo:
    """The records of one user.

    Attributes:
        fault: gets verb and path of each request; returns a status to answer instead, "cut" to take half of the body
            and close the connection, or None.
        quota: bytes that the files of a record may have.
    """

    def __init__(self) -> None:
        self.address = ""
        self.fault: Callable[[str, str], int | str | None] = lambda verb, path: None
        self.quota = 50 * 10**9
        self.depositions: dict[int, dict[str, Any]] = {}
        self.buckets: dict[int, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str]] = []

    @property
    def visible(self) -> dict[int, dict[str, bytes]]:
        """What everybody sees: the files of published records."""
        return {number: self.buckets[number] for number, one in self.depositions.items() if one["submitted"]}

    def answer(self, verb: str, url: str, body: bytes) -> tuple[int, Any]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if verb == "GET" and path == "/api/deposit/depositions":
            size, page = int(query["size"][0]), int(query["page"][0])
            newest = sorted(self.depositions, reverse=True)
            return 200, [self.shown(number) for number in newest[(page - 1) * size : page * size]]
        if verb == "POST" and path == "/api/deposit/depositions":
            return 201, self.shown(self.new({}))
        if match := re.fullmatch(r"/api/deposit/depositions/(\d+)(?:/(actions/\w+|files/[\w-]+))?", path):
            number, rest = int(match[1]), match[2]
            if number not in self.depositions:
                return 404, {"message": "PID does not exist."}
            return self.of_deposition(verb, number, rest, body)
        if match := re.fullmatch(r"/api/files/b-(\d+)/(.+)", path):
            return self.of_file(verb, int(match[1]), unquote(match[2]), body)
        return 404, {"message": "no such address"}

    def of_deposition(self, verb: str, number: int, rest: str | None, body: bytes) -> tuple[int, Any]:
        one = self.depositions[number]
        if verb == "PUT" and rest is None:
            if one["submitted"]:
                return 403, {"message": "published"}
            metadata = json.loads(body)["metadata"]
            if not metadata.get("creators"):
                return 400, {"message": "Validation error.", "errors": [{"field": "metadata.creators", "message": "?"}]}
            one["metadata"] = {**metadata, "prereserve_doi": one["metadata"]["prereserve_doi"]}
        elif verb == "DELETE" and rest:
            names = {hashlib.md5(name.encode()).hexdigest(): name for name in self.buckets[number]}
            del self.buckets[number][names[rest.removeprefix("files/")]]
            return 204, None
        elif verb == "POST" and rest == "actions/publish":
            one |= {"submitted": True, "doi": one["metadata"]["prereserve_doi"]["doi"]}
            return 202, self.shown(number)
        elif verb == "POST" and rest == "actions/newversion":
            new = self.new(one["metadata"])
            self.buckets[new] = dict(self.buckets[number])
            answer = self.shown(number)
            answer["links"]["latest_draft"] = f"{self.address}/api/deposit/depositions/{new}"
            return 201, answer
        return 200, self.shown(number)

    def of_file(self, verb: str, number: int, name: str, body: bytes) -> tuple[int, Any]:
        bucket = self.buckets[number]
        if verb == "PUT":
            if sum(len(data) for other, data in bucket.items() if other != name) + len(body) > self.quota:
                return 400, {"message": "Bucket quota exceeded.", "status": 400}
            bucket[name] = body
            return 201, {"key": name, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
        return (200, bucket[name]) if name in bucket else (404, {})

    def new(self, metadata: dict[str, Any]) -> int:
        number = 1000 + len(self.depositions)
        reserved = {"doi": f"10.5281/zenodo.{number}", "recid": number}
        self.depositions[number] = {"submitted": False, "metadata": {**metadata, "prereserve_doi": reserved}}
        self.buckets[number] = {}
        return number

    def shown(self, number: int) -> dict[str, Any]:
        files = [
            {
                "id": hashlib.md5(name.encode()).hexdigest(),
                "filename": name,
                "filesize": len(data),
                "checksum": hashlib.md5(data).hexdigest(),
            }
            for name, data in self.buckets[number].items()
        ]
        links = {
            "bucket": f"{self.address}/api/files/b-{number}",
            "html": f"{self.address}/deposit/{number}",
            "record_html": f"{self.address}/records/{number}",
        }
        return {**self.depositions[number], "id": number, "files": files, "links": links}


@contextmanager
def zenodo_server() -> Iterator[Zenodo]:
    """A running server; its address is ``Zenodo.address``."""
    state = Zenodo()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            path = urlsplit(self.path).path
            state.requests.append((self.command, path))
            size, fault = int(self.headers.get("Content-Length") or 0), state.fault(self.command, path)
            if fault == "cut":
                self.rfile.read(size // 2)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = self.rfile.read(size)
            if isinstance(fault, int):
                return self.reply(fault, {"message": "as the test asks", "status": fault})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.reply(401, {"message": "The server could not verify that you are authorized."})
            self.reply(*state.answer(self.command, self.path, body))

        def reply(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *unused: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        server.shutdown()
