"""A published zoo behind a plain web server or CDN: ranged GETs, nothing else."""

import random
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NoReturn
from urllib.parse import quote, urljoin, urlsplit

from ..errors import AccessDenied, ObjectNotFound, StoreRefused, StoreUnreachable, StoreURLError
from ..keys import checked_key
from .protocol import ByteRange, Data, Stat, Traffic

TIMEOUT_SECONDS = 30.0
BUDGET_SECONDS = 30.0
_MAX_REDIRECTS = 5


class WebStore:
    """Read-only protocol over ``http(s)://``. Connections are kept open, one per thread."""

    root = None
    clock_ahead_seconds = 0.0

    def __init__(self, url: str, *, budget_seconds: float = BUDGET_SECONDS) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.query or parts.fragment:
            raise StoreURLError(f"{url.partition('?')[0]}: expected https://host/path without query")
        self.url = url.rstrip("/")
        self.traffic = Traffic()
        self.budget_seconds = budget_seconds
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(WebStore, budget_seconds=self.budget_seconds), (self.url,)

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        headers = {}
        if byte_range is not None:
            if byte_range[1] <= byte_range[0]:
                return b"", ""
            headers["Range"] = f"bytes={byte_range[0]}-{byte_range[1] - 1}"
        status, reply, data = self._request("GET", key, headers)
        if status == 416:
            return b"", ""
        if byte_range is not None and status == 200:  # a server that ignores ranges sends everything
            data = data[byte_range[0] : byte_range[1]]
        self.traffic.add(read=len(data))
        return data, reply.get("etag", "")

    def stat(self, key: str) -> Stat | None:
        try:
            _, reply, _ = self._request("HEAD", key, {})
        except ObjectNotFound:
            return None
        modified = reply.get("last-modified")
        seconds = parsedate_to_datetime(modified).timestamp() if modified else 0.0
        return Stat(key, int(reply.get("content-length", "0")), reply.get("etag", ""), seconds)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self._refuse("write")

    def list(self, prefix: str) -> Iterator[Stat]:
        self._refuse("list")

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._refuse("delete")

    def _refuse(self, verb: str) -> NoReturn:
        raise StoreRefused(f"{self.url}: a web address is for reading; to {verb} objects use s3:// or a path")

    def _request(self, method: str, key: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        url = f"{self.url}/{quote(checked_key(key))}"
        start, attempt = time.monotonic(), 0
        while True:
            try:
                status, reply, data = self._follow(method, url, headers)
                reason = f"the server answers {status}"
                again = status in (408, 429) or status >= 500
            except (OSError, HTTPException) as error:
                status, reply, data, reason, again = 0, {}, b"", type(error).__name__, True
            if status in (200, 206, 416):
                return status, reply, data
            if status in (404, 410):
                raise ObjectNotFound(f"{self.url}: no object {key}")
            if status in (401, 403):
                raise AccessDenied(f"{self.url}: {key} may not be read ({status}); is the bucket public?")
            pause = random.uniform(0, min(5.0, 0.2 * 2**attempt))
            attempt += 1
            if not again or time.monotonic() - start + pause > self.budget_seconds:
                raise StoreUnreachable(f"{self.url}: cannot read {key}: {reason}; check the address and the network")
            self.traffic.add(retries=1)
            time.sleep(pause)

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(url)
            connections = self._local.__dict__.setdefault("connections", {})
            where = (parts.scheme, parts.netloc)
            connection = connections.pop(where, None) or _connect(parts.scheme, parts.netloc)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target or "/", headers={"User-Agent": "zooforge", **headers})
            response: HTTPResponse = connection.getresponse()
            data = response.read()
            connections[where] = connection  # only after a whole answer; a broken one is not used again
            reply = {name.lower(): value for name, value in response.getheaders()}
            if response.status not in (301, 302, 303, 307, 308) or "location" not in reply:
                return response.status, reply, data
            url = urljoin(url, reply["location"])
            if urlsplit(url).scheme not in ("http", "https"):
                raise StoreURLError(f"{self.url}: redirected to another scheme")
        raise HTTPException("too many redirects")


def _connect(scheme: str, netloc: str) -> HTTPConnection:
    kind = HTTPSConnection if scheme == "https" else HTTPConnection
    return kind(netloc, timeout=TIMEOUT_SECONDS)
