"""A zoo on a web server: proxies are obeyed, and a hostile server costs no more than the reading budget."""

import copy
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.support.web_server import Quiet, serve
from zooforge.storage import budget
from zooforge.storage.budget import Budget
from zooforge.storage.errors import (
    BudgetExceeded,
    FormatError,
    ObjectNotFound,
    StorageError,
    StoreRefused,
    StoreUnreachable,
    StoreURLError,
)
from zooforge.storage.stores import web
from zooforge.storage.stores.hub import hub_address, web_addresses
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.web import WebStore

SECRET = "topsecret"
Handler = BaseHTTPRequestHandler


class Server:
    """Answers each request by ``rule`` and collects the requested paths in ``paths``."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[Any] = []
        self.rule: Callable[[Handler], None] = lambda request: answer(request, 404)
        self.url = ""


def answer(request: Handler, status: int, body: bytes = b"", **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    told = Server()

    class Answers(Quiet):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.paths.append(self.path)
            told.headers.append(self.headers)
            told.rule(self)

        do_HEAD = do_CONNECT = do_GET

    with serve(Answers) as told.url:
        yield told


def test_connections_are_used_again_and_copies_have_their_own(server: Server) -> None:
    server.rule = lambda request: answer(request, 200, f"{request.client_address[1]}".encode())
    store = WebStore(f"{server.url}/store")
    ports = {store.get("a")[0] for _ in range(5)}
    assert len(ports) == 1 and server.paths == ["/store/a"] * 5
    for other in (copy.copy(store), pickle.loads(pickle.dumps(store))):
        assert other.get("a")[0] not in ports


def test_a_range_of_a_server_that_ignores_ranges_reads_no_further(server: Server) -> None:
    sent = []

    def rule(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(300 * 2**20))
        request.end_headers()
        for _ in range(300):
            request.wfile.write(bytes(2**20))
            sent.append(1)

    server.rule = rule
    store = WebStore(server.url)
    assert store.get("a", (10, 20))[0] == bytes(10)
    assert len(sent) < 100 and store.traffic.read_bytes == 10


def test_a_short_range_answered_with_too_much_is_cut(server: Server) -> None:
    server.rule = lambda request: answer(request, 206, bytes(10**6), Content_Range="bytes 10-19/1000000")
    assert len(WebStore(server.url).get("a", (10, 20))[0]) == 10


def test_another_range_than_asked_for_is_an_error(server: Server) -> None:
    server.rule = lambda request: answer(request, 206, bytes(10), Content_Range="bytes 0-9/100")
    with pytest.raises(StoreUnreachable, match="cannot read a"):
        WebStore(server.url, budget_seconds=0).get("a", (10, 20))


def test_a_reply_beyond_the_budget_is_not_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "WEB_REPLY", Budget(max_bytes=1000))
    server.rule = lambda request: answer(request, 200, bytes(1001))
    with pytest.raises(BudgetExceeded, match=r"1,001 bytes, the limit is 1,000"):
        WebStore(server.url).get("a")


def test_a_body_that_drips_ends_with_the_budget_and_is_not_tried_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Budget):
        def meter(self, what: str, clock: Callable[[], float] = lambda: 0.0) -> budget.Meter:
            ticks = iter(range(10**6))
            return super().meter(what, lambda: float(next(ticks)))

    monkeypatch.setattr(budget, "WEB_REPLY", Impatient(max_bytes=10**6, max_seconds=5))
    stop = threading.Event()

    def rule(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        while not stop.wait(0.01):
            request.wfile.write(b"x")

    server.rule = rule
    try:
        with pytest.raises(BudgetExceeded, match="not read within 5 seconds"):
            WebStore(server.url).get("a")
    finally:
        stop.set()
    assert server.paths == ["/a"]


def test_headers_that_drip_end_with_the_timeout(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.5)
    stop = threading.Event()

    def rule(request: Handler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not stop.wait(0.05):
            request.wfile.write(b"x")

    server.rule = rule
    try:
        with pytest.raises(StoreUnreachable):
            WebStore(server.url, budget_seconds=0).get("a")
    finally:
        stop.set()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_malformed_reply_is_one_line(server: Server, reply: bytes) -> None:
    def rule(request: Handler) -> None:
        request.wfile.write(reply)
        request.close_connection = True

    server.rule = rule
    with pytest.raises(StorageError) as raised:
        WebStore(server.url, budget_seconds=0).get("a")
    assert "\n" not in str(raised.value)


def test_an_invalid_size_is_an_error_and_an_invalid_date_is_left_out(server: Server) -> None:
    server.rule = lambda request: answer(request, 200, Content_Length="many")
    with pytest.raises((FormatError, StoreUnreachable)):
        WebStore(server.url, budget_seconds=0).stat("a")
    server.rule = lambda request: answer(request, 200, Content_Length="5", Last_Modified="yesterday")
    stat = WebStore(server.url).stat("a")
    assert stat is not None and (stat.size, stat.modified_seconds) == (5, 0.0)


def redirect(to: str) -> Callable[[Handler], None]:
    return lambda request: answer(request, 302, Location=to)


def test_a_public_zoo_does_not_send_its_reader_to_private_addresses(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)  # the proxy answers instead of the public server
    for target in ("http://127.0.0.1/x", "http://localhost/x", "http://169.254.169.254/x", "http://[::1]/x"):
        server.rule = redirect(f"{target}?{SECRET}")
        with pytest.raises(StoreRefused, match="a private address") as raised:
            WebStore("http://zoos.invalid/store").get("a")
        assert SECRET not in str(raised.value)
    assert all(path.startswith("http://zoos.invalid/") for path in server.paths)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "[fe80::1]", "[::ffff:127.0.0.1]", "a.localhost", "x.internal"]
)
def test_addresses_of_this_machine_and_its_networks_are_private(server: Server, host: str) -> None:
    assert web._is_private(f"http://{host}:80/x")


def test_a_name_is_private_where_it_resolves_to_a_private_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answers)
    assert web._is_private("http://innocent.example/x")
    answers[0] = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))
    assert not web._is_private("http://innocent.example/x")


def test_a_redirect_from_https_to_http_or_with_credentials_is_refused() -> None:
    store = WebStore("https://zoos.example/store")
    with pytest.raises(StoreRefused, match="without TLS"):
        store._check_redirect("https://zoos.example/a", "http://zoos.example/a")
    with pytest.raises(StoreRefused, match="credentials") as raised:
        store._check_redirect("https://zoos.example/a", f"https://me:{SECRET}@zoos.example/a")
    assert SECRET not in str(raised.value)
    with pytest.raises(StoreRefused, match="another scheme"):
        store._check_redirect("https://zoos.example/a", "file:///etc/passwd")


def test_a_private_zoo_may_redirect_within_its_network(server: Server) -> None:
    server.rule = lambda request: (
        answer(request, 200, b"here") if request.path == "/cdn" else answer(request, 307, Location="/cdn")
    )
    assert WebStore(server.url).get("a")[0] == b"here"


def test_endless_redirects_end(server: Server) -> None:
    server.rule = redirect("/again")
    with pytest.raises(StoreRefused, match="redirects"):
        WebStore(server.url).get("a")
    assert len(server.paths) == web.MAX_REDIRECTS


def test_the_proxy_of_the_environment_is_asked_but_for_hosts_in_no_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rule = lambda request: answer(request, 200, b"by proxy")
    monkeypatch.setenv("http_proxy", server.url.replace("http://", f"http://me:{SECRET}@"))
    assert WebStore("http://zoos.invalid/x").get("a")[0] == b"by proxy"
    assert server.paths == ["http://zoos.invalid/x/a"]
    assert server.headers[0]["proxy-authorization"].startswith("Basic ")
    monkeypatch.setenv("no_proxy", "zoos.invalid")
    with pytest.raises(StoreUnreachable) as raised:
        WebStore("http://zoos.invalid/x", budget_seconds=0).get("a")
    assert len(server.paths) == 1 and SECRET not in str(raised.value)


def test_https_goes_through_the_proxy_by_connect(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", server.url.removeprefix("http://"))  # as people write it
    server.rule = lambda request: answer(request, 403)
    with pytest.raises(StoreUnreachable, match="the proxy of http_proxy or https_proxy"):
        WebStore("https://zoos.invalid/x", budget_seconds=0).get("a")
    assert server.paths == ["zoos.invalid:443"]


@pytest.mark.parametrize(
    "url", [f"https://me:{SECRET}@host/x", f"s3://{SECRET}@bucket/x", f"hf://me:{SECRET}@owner/name", "https://[::1/x"]
)
def test_an_address_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StoreURLError) as raised:
        open_store(url)
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)


def test_https_to_an_http_server_is_not_reported_as_an_untrusted_certificate(server: Server) -> None:
    with pytest.raises(StoreUnreachable, match="is it an http:// address"):
        WebStore(server.url.replace("http:", "https:"), budget_seconds=0).get("a")


def test_a_zip_file_behind_http_is_to_be_downloaded() -> None:
    with pytest.raises(StoreURLError, match="download it"):
        open_store("https://host/folder/zoo.zip")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://huggingface.co/datasets/me/zoos", "hf://me/zoos"),
        ("https://huggingface.co/datasets/me/zoos/", "hf://me/zoos"),
        ("https://hf.co/datasets/me/zoos/tree/main", "hf://me/zoos@main"),
        ("https://huggingface.co/datasets/me/zoos/tree/refs%2Fpr%2F1", "hf://me/zoos@refs%2Fpr%2F1"),
        ("https://huggingface.co/datasets/me/zoos/tree/main/zoos/a", "hf://me/zoos@main/zoos/a"),
        (
            "https://huggingface.co/datasets/me/zoos/blob/main/zoos/a/versions/0002/README.md?download=true",
            "hf://me/zoos@main/zoos/a/versions/0002",
        ),
        ("https://huggingface.co/datasets/me/zoos/discussions/3", "hf://me/zoos"),
        ("https://huggingface.co/me/model", "https://huggingface.co/me/model"),
        ("https://elsewhere.example/datasets/me/zoos", "https://elsewhere.example/datasets/me/zoos"),
    ],
)
def test_an_address_pasted_from_a_page_of_the_hub_is_that_of_the_data_set(
    address: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert hub_address(address) == expected


@pytest.mark.parametrize(
    ("address", "revisions"),
    [
        ("hf://me/zoos@refs/pr/1", ["refs%2Fpr%2F1"]),
        ("hf://me/zoos@refs%2Fpr%2F1", ["refs%2Fpr%2F1"]),
        ("hf://me/zoos@refs/pr/1/sub", ["refs%2Fpr%2F1/sub"]),
        ("hf://me/zoos@feature%2Fx/sub", ["feature%2Fx/sub"]),
        ("hf://me/zoos@feature/x", ["feature/x", "feature%2Fx"]),
        ("hf://me/zoos@main/sub", ["main/sub"]),
        ("hf://me/zoos/sub", ["main/sub"]),
    ],
)
def test_a_revision_may_hold_slashes(address: str, revisions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    base = "https://huggingface.co/datasets/me/zoos/resolve/"
    assert web_addresses(address) == [base + revision for revision in revisions]


def test_the_address_that_has_the_key_is_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}\n")
    server.rule = lambda request: answer(request, 200 if "feature%2Fx/" in request.path else 404, b"1")
    store = open_store("hf://me/zoos@feature/x")
    for key in ("a", "b"):
        assert store.get(key)[0] == b"1"
    assert [path.partition("resolve/")[2] for path in server.paths] == ["feature/x/a", "feature%2Fx/a", "feature%2Fx/b"]
    with pytest.raises(ObjectNotFound):
        open_store("hf://me/zoos@other").get("a")


def test_the_address_of_a_zoo_with_credentials_is_refused_and_not_repeated() -> None:
    from zooforge.storage.zoo import open_zoo

    for url in (f"https://me:{SECRET}@host/x", f"https://me:{SECRET}@host/zoos/a", f"hf://me:{SECRET}@owner/name"):
        with pytest.raises(StoreURLError) as raised:
            open_zoo(url)
        assert SECRET not in str(raised.value) and "\n" not in str(raised.value)
