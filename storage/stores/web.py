"""A published zoo on a web server or CDN, read by ranged GETs through urllib3, which pools connections.

Retries follow ``RetryPolicy`` as for every store. Redirects are followed here, not by urllib3, which has no way to
refuse a target: a server must not send a reader from https to http, or into the reader's own network.
"""

import contextlib
import http.client
import ipaddress
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from .. import budget
from ..errors import (
    AccessDenied,
    FormatError,
    ObjectNotFound,
    StorageError,
    StoreRefused,
    StoreUnreachable,
    StoreURLError,
)
from ..keys import checked_key
from .environment import check_no_credentials
from .protocol import ByteRange, Data, Stat, Traffic
from .retries import RetryPolicy

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0  # to connect, for all headers, and for each piece of a body
BUDGET_SECONDS = 30.0
MAX_REDIRECTS = 5
PIECE_BYTES = 256 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_RETRIED_STATUS = {408, 425, 429}  # and 500 and above
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


class WebStore:
    """The protocol over ``http(s)://``, for reading only. Obeys http_proxy, https_proxy and no_proxy."""

    root = None
    clock_ahead_seconds = 0.0

    def __init__(
        self,
        url: str,
        *,
        alternatives: Sequence[str] = (),
        token: str | None = None,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> None:
        """
        Args:
            alternatives: other addresses that ``url`` may mean. The first one that has a requested key is used
                from then on.
            token: of a user of the Hub, or ""; it goes to the server of ``url`` and to no other that it redirects to.
                None: this is not the Hub.
            budget_seconds: time that a request may be retried.
        """
        check_no_credentials(url, "a store URL")
        parts = urlsplit(url)
        if not parts.hostname or parts.query or parts.fragment:
            raise StoreURLError(f"{url.partition('?')[0]}: expected https://host/path without query")
        self.url = url.rstrip("/")
        self.traffic = Traffic()
        self.ignores_ranges = False  # set by the first reply that shows it
        self._bases = [self.url, *(base.rstrip("/") for base in alternatives)]
        self._policy = RetryPolicy(budget_seconds)
        self._token = token
        self._managers: dict[str | None, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(
            WebStore, alternatives=self._bases[1:], token=self._token, budget_seconds=self._policy.budget_seconds
        )
        return make, (self._bases[0],)

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        if byte_range is not None and byte_range[1] <= byte_range[0]:
            return b"", ""
        data, headers = self._request("GET", key, byte_range)
        self.traffic.add(read=len(data))
        return data, headers.get("etag", "")

    def stat(self, key: str) -> Stat | None:
        try:
            _, headers = self._request("HEAD", key, None)
        except ObjectNotFound:
            return None
        try:
            size = int(headers.get("content-length", "0"))
        except ValueError:
            raise FormatError(f"{self.url}: the server's Content-Length of {key} is no number") from None
        try:
            seconds = parsedate_to_datetime(headers["last-modified"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            seconds = 0.0
        return Stat(key, max(0, size), headers.get("etag", ""), seconds)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self._refuse("write")

    def list(self, prefix: str) -> Iterator[Stat]:
        self._refuse("list")

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._refuse("delete")

    def _refuse(self, verb: str) -> NoReturn:
        raise StoreRefused(f"{self.url}: a web address is for reading; to {verb} objects use s3:// or a path")

    def _request(self, method: str, key: str, byte_range: ByteRange | None) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers of the reply. Raises StorageError only."""
        name = quote(checked_key(key))

        def on_retry(error: StorageError) -> None:
            self.traffic.add(requests=1, retries=1)

        for base in list(self._bases):
            try:
                reply = self._policy.call(
                    lambda base=base: self._attempt(method, f"{base}/{name}", key, byte_range),  # type: ignore[misc]
                    on_retry=on_retry,
                )
            except ObjectNotFound:
                continue
            self._bases, self.url = [base], base
            return reply
        raise ObjectNotFound(f"{self.url}: no object {key}")

    def _attempt(
        self, method: str, url: str, key: str, byte_range: ByteRange | None
    ) -> tuple[bytes, Mapping[str, str]]:
        meter = budget.WEB_REPLY.meter(f"{self.url}: {key}")
        try:
            response = self._follow(method, url, byte_range)
            try:
                status = response.status
                headers = {name.lower(): value for name, value in response.headers.items()}
                if status == 200 and method == "GET" and byte_range is not None:
                    self._notice(byte_range, headers)
                data = _body(response, byte_range, meter) if status in (200, 206) and method == "GET" else b""
            except BaseException:
                response.close()
                raise
            response.release_conn() if response.length_remaining == 0 or method == "HEAD" else response.close()
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise self._failure(error, key) from None  # the cause can quote a signed address
        if status in (200, 206, 416):
            return data, headers
        if status in (404, 410):
            raise ObjectNotFound(f"{self.url}: no object {key}")
        if status in (401, 403):
            raise AccessDenied(f"{self.url}: {key} may not be read ({status}); {self._hint()}")
        failure = StoreUnreachable(f"{self.url}: cannot read {key}: the server answers {status}; check the address")
        failure.transient = status in _RETRIED_STATUS or status >= 500
        raise failure

    def _hint(self) -> str:
        if self._token is None:
            return "is the bucket public?"
        if self._token:
            return "the token of HF_TOKEN or of `hf auth login` may not read it, or has expired"
        return "if the data set is private or gated, put a token that may read it into HF_TOKEN"

    def _notice(self, byte_range: ByteRange, headers: Mapping[str, str]) -> None:
        """Say once that the server ignores ranges. A reply with all bytes is right if all of them were requested."""
        length = headers.get("content-length", "")
        if byte_range[0] == 0 and length.isdecimal() and int(length) <= byte_range[1]:
            return
        with self._lock:
            noticed, self.ignores_ranges = self.ignores_ranges, True
        if not noticed:
            logger.warning("%s: this server ignores ranges: whole shards are read", self.url)

    def _follow(self, method: str, url: str, byte_range: ByteRange | None) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": "zooforge"}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range[0]}-{byte_range[1] - 1}"
        for _ in range(MAX_REDIRECTS):
            headers.pop("Authorization", None)
            if self._token and urlsplit(url)[:2] == urlsplit(self.url)[:2]:
                headers["Authorization"] = f"Bearer {self._token}"
            response = self._manager(url).request(
                method, url, headers=headers, redirect=False, retries=False, preload_content=False,
                decode_content=False, timeout=TIMEOUT_SECONDS,
            )  # fmt: skip
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            target = urljoin(url, location)
            self._check_redirect(url, target)
            url = target
        raise StoreRefused(f"{self.url}: more than {MAX_REDIRECTS} redirects")

    def _check_redirect(self, source: str, target: str) -> None:
        """Raises StoreRefused for a target that a reader must not be sent to."""
        parts = urlsplit(target)
        reason = ""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            reason = "another scheme"
        elif "@" in parts.netloc:
            reason = "an address with credentials"
        elif parts.scheme == "http" and urlsplit(source).scheme == "https":
            reason = "http, without TLS"
        elif _is_private(target) and not _is_private(self.url):
            reason = f"{parts.hostname}, a private address"
        if reason:
            raise StoreRefused(f"{self.url}: the server redirects to {reason}, which is refused")

    def _manager(self, url: str) -> urllib3.PoolManager:
        proxy = proxy_of(url)
        with self._lock:
            manager = self._managers.get(proxy)
            if manager is None:
                manager = self._managers[proxy] = new_manager(proxy)
            return manager

    def _failure(self, error: Exception, key: str) -> StorageError:
        text = f"{self.url}: cannot read {key}"
        if isinstance(error, urllib3.exceptions.LocationParseError | UnicodeError):
            return StoreURLError(f"{text}: the address, or one that it redirects to, is malformed")
        if isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError):
            hint = "does not speak TLS as this client does; is it an http:// address?"
            if "CERTIFICATE" in str(error).upper():
                hint = "has a TLS certificate that is not trusted; SSL_CERT_FILE may name its authority"
            return StoreUnreachable(f"{text}: the server {hint}")
        what = "the proxy of http_proxy or https_proxy does not answer: " if _is_of_proxy(error) else ""
        failure = StoreUnreachable(f"{text}: {what}{type(error).__name__}; check the address and the network")
        failure.transient = True
        return failure


def _body(response: urllib3.BaseHTTPResponse, byte_range: ByteRange | None, meter: budget.Meter) -> bytes:
    """The requested part of a reply's body; no further byte is read. Raises BudgetExceeded."""
    skip, wanted = 0, meter.budget.max_bytes + 1
    if byte_range is not None:
        wanted = byte_range[1] - byte_range[0]
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status == 200:  # the server ignores ranges and sends everything
            skip = byte_range[0]
        elif match is not None and int(match[1]) != byte_range[0]:
            raise http.client.HTTPException("a range that was not requested")
    data = bytearray()
    while len(data) < skip + wanted and (piece := response.read1(min(PIECE_BYTES, skip + wanted - len(data)))):
        meter.check_time()
        meter.add(num_bytes=len(piece))
        if skip:
            unused = min(skip, len(piece))
            skip, piece = skip - unused, piece[unused:]
        data += piece
    if len(data) < wanted and response.length_remaining:
        raise http.client.IncompleteRead(b"")
    return bytes(data)


class _HeaderDeadline(HTTPConnection):
    """A connection whose reply has to have all its headers in time, however slowly they drip."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        late = threading.Event()

        def end() -> None:
            late.set()
            with contextlib.suppress(OSError, AttributeError):
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(TIMEOUT_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        finally:
            timer.cancel()
        if late.is_set():  # http.client takes the end of a connection for the end of the headers
            response.close()
            raise TimeoutError("the headers took too long")
        return response


class _HTTPSHeaderDeadline(_HeaderDeadline, HTTPSConnection):
    """The same over TLS."""


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HeaderDeadline


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSHeaderDeadline


def new_manager(proxy: str | None, *, header_deadline: bool = True) -> urllib3.PoolManager:
    """Connections through ``proxy``.

    Args:
        header_deadline: whether a reply must have all its headers within ``TIMEOUT_SECONDS``.
    """
    options: dict[str, Any] = {"num_pools": 8, "maxsize": 32, "retries": False}
    if proxy is None:
        manager = urllib3.PoolManager(**options)
    else:
        parts = urlsplit(proxy)
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        try:
            manager = urllib3.ProxyManager(address, **options)
        except (urllib3.exceptions.HTTPError, ValueError):
            raise StoreURLError("http_proxy or https_proxy: expected http://HOST:PORT") from None
    if header_deadline:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager


def proxy_of(url: str) -> str | None:
    """Address of the proxy that the environment names for ``url``; None if it names none."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_of_proxy(error: Exception) -> bool:
    return isinstance(error, urllib3.exceptions.ProxyError)


def _is_private(url: str) -> bool:
    """True if the host is this machine, or in a network that is not the public one."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    if proxy_of(url) is not None:  # the proxy resolves the name
        return False
    try:
        answers = socket.getaddrinfo(host, None)
    except OSError:  # then nothing is connected to either
        return False
    return any(not ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in answers)
