"""Errors of S3 give one line that says what to do; retries stay within a budget; no message contains a secret."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.support.web_server import Quiet, serve
from zooforge.storage.errors import (
    AccessDenied,
    BucketMissing,
    ClockSkewed,
    CredentialsRefused,
    NotSupported,
    PreconditionFailed,
    RegionMismatch,
    StorageError,
    StoreRefused,
    StoreUnreachable,
    StoreURLError,
)
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.clock import store_now
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.s3 import client
from zooforge.storage.stores.s3 import store as s3
from zooforge.storage.stores.s3.store import FIRST_BUDGET_SECONDS, S3Store

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
Answer = tuple[int, str, dict[str, str]]


class Script:
    """A server with scripted answers. Without a script it answers with an empty listing or an empty object."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.rule: Callable[[Any], Answer | None] = lambda request: None
        self.requests: list[str] = []
        self.clock_ahead_seconds = 0.0

    def next(self, request: BaseHTTPRequestHandler) -> Answer | None:
        self.requests.append(f"{request.command} {request.path}")
        if "list-type=2" in request.path and "prefix" in request.path and not self.rule(request):
            return None
        return self.rule(request) or (self.answers.pop(0) if self.answers else None)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Script]:
    told = Script()

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            answer = told.next(self)
            status, code, headers = answer or (200, "", {})
            if code:
                body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()
            elif "list-type=2" in self.path:
                body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            else:
                body = b""
            self.send_response(status)
            for name, value in {"ETag": '"1"', **headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + told.clock_ahead_seconds)

    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id = FIRSTKEY\naws_secret_access_key = {SECRET}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with serve(Handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield told


def check_line(error: StorageError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text and SECRET not in text and "FIRSTKEY" not in text
    assert error.__cause__ is None
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((404, "NoSuchBucket", {}), BucketMissing, ["there is no bucket 'bucket'", "create it"]),
        ((404, "", {}), StoreURLError, ["no S3 server", "AWS_ENDPOINT_URL"]),
        ((403, "InvalidAccessKeyId", {}), CredentialsRefused, ["refused", "AWS_ACCESS_KEY_ID"]),
        ((403, "SignatureDoesNotMatch", {}), CredentialsRefused, ["refused", "AWS_SECRET_ACCESS_KEY"]),
        ((400, "ExpiredToken", {}), CredentialsRefused, ["refused (ExpiredToken)"]),
        ((403, "RequestTimeTooSkewed", {}), ClockSkewed, ["clock", "NTP"]),
        ((301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-3"}), RegionMismatch, ["eu-west-3", "AWS_REGION"]),
        ((400, "AuthorizationHeaderMalformed", {"x-amz-bucket-region": "eu-west-3"}), RegionMismatch, ["eu-west-3"]),
    ],
)
def test_a_refusal_says_what_to_do(script: Script, answer: Answer, error: type[StorageError], words: list[str]) -> None:
    script.rule = lambda request: answer
    with pytest.raises(error) as raised:
        open_store("s3://bucket/prefix").get("key")
    check_line(raised.value, "s3://bucket/prefix", *words)
    assert raised.value.exit_status == 2


def test_a_denied_write_and_wrong_credentials_give_different_messages(script: Script) -> None:
    script.rule = lambda request: (403, "AccessDenied", {}) if request.command == "PUT" else None
    with pytest.raises(AccessDenied) as raised:
        open_store("s3://bucket").put("key", b"1")
    check_line(raised.value, "cannot write key", "policy")


def test_a_request_refused_for_its_clock_during_a_run_is_retried(script: Script) -> None:
    store = S3Store("bucket")
    store.put("key", b"1")
    script.answers = [(403, "RequestTimeTooSkewed", {})] * 2
    store.put("key", b"2")
    assert store.traffic.num_retries == 2


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_listing_tells_how_far_the_clocks_are_apart(script: Script, hours: int) -> None:
    script.clock_ahead_seconds = 3600.0 * hours
    store = S3Store("bucket")
    assert list(store.list("")) == []
    assert store_now(store) - time.time() == pytest.approx(3600 * hours, abs=2)
    assert (store.clock_ahead_seconds == 0) == (hours == 0)


def test_reading_works_where_listing_is_denied(script: Script) -> None:
    script.rule = lambda request: (403, "AccessDenied", {}) if "list-type" in request.path else None
    assert open_store("s3://bucket").get("key")[0] == b""


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504])
def test_temporary_errors_are_retried(script: Script, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "FIRST_BUDGET_SECONDS", 60.0)
    script.answers = [(status, "SlowDown", {})] * 3
    store = S3Store("bucket")
    store.put("key", b"1", if_absent=True)
    assert store.traffic.num_retries == 3
    assert script.requests.count("PUT /bucket/key") == 4


def test_permanent_errors_are_not_retried(script: Script) -> None:
    script.answers = [(412, "PreconditionFailed", {})]
    with pytest.raises(PreconditionFailed):
        S3Store("bucket").put("key", b"1", if_absent=True)
    assert script.requests.count("PUT /bucket/key") == 1


def test_the_budget_ends_in_an_error(script: Script) -> None:
    script.answers = [(503, "SlowDown", {})] * 500
    store = S3Store("bucket", budget_seconds=1.0)
    with pytest.raises(StoreUnreachable, match=r"the server answers 503 \(SlowDown\)"):
        store.put("key", b"1")
    assert 0 < len(script.answers) < 500


def test_keys_rotated_during_a_run_cost_only_retries(script: Script, tmp_path: Path) -> None:
    store = S3Store("bucket")
    store.put("before", b"1")

    def only_second(request: Any) -> Answer | None:
        good = "SECONDKEY" in request.headers.get("authorization", "")
        return None if good else (403, "InvalidAccessKeyId", {})

    script.rule = only_second
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = SECONDKEY\naws_secret_access_key = {SECRET}\n"
    )
    store.put("after", b"1")
    assert store.traffic.num_retries == 1


def test_keys_rotated_three_times_in_a_run_cost_one_retry_each(script: Script, tmp_path: Path) -> None:
    """Replace the file as Kubernetes replaces a mounted Secret; then the server refuses the old keys."""
    store = S3Store("bucket")
    store.put("before", b"1")
    for number, key in enumerate(("SECONDKEY", "THIRDKEY", "FOURTHKEY"), start=1):

        def only(request: Any, key: str = key) -> Answer | None:
            return None if key in request.headers.get("authorization", "") else (403, "InvalidAccessKeyId", {})

        (tmp_path / "credentials").write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"
        )
        script.rule = only
        for name in ("part", "record"):
            store.put(f"{name}-{number}", b"1")
        assert store.traffic.num_retries == number


def test_keys_that_stay_wrong_end_in_an_error(script: Script) -> None:
    store = S3Store("bucket")
    store.put("before", b"1")
    script.rule = lambda request: (403, "InvalidAccessKeyId", {})
    with pytest.raises(CredentialsRefused) as raised:
        store.put("after", b"1")
    check_line(raised.value, "refused (InvalidAccessKeyId)")


def test_missing_credentials_are_reported(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CredentialsRefused, match="no credentials found; set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket").get("key")


def test_an_unknown_profile_is_reported(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CredentialsRefused, match="AWS_PROFILE"):
        open_store("s3://bucket").get("key")


def test_a_profile_can_bring_endpoint_and_credentials(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import os

    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (tmp_path / "config").write_text(f"[profile lab]\nendpoint_url = {endpoint}\nregion = eu-lab-1\n")
    (tmp_path / "credentials").write_text(f"[lab]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    open_store("s3://bucket/prefix").put("key", b"1")
    assert script.requests[-1] == "PUT /bucket/prefix/key"


def test_an_endpoint_that_is_dead_is_known_within_fifteen_seconds() -> None:
    """The last attempt begins within the first budget, and has no longer than this to connect and to read."""
    assert FIRST_BUDGET_SECONDS + client.CONNECT_SECONDS <= 15 and client.FIRST_READ_SECONDS <= FIRST_BUDGET_SECONDS


def test_a_refused_connection_is_tried_again_within_the_first_budget_and_named(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "FIRST_BUDGET_SECONDS", 0.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(StoreUnreachable) as raised:
        open_store("s3://bucket").get("key")
    check_line(raised.value, f"no answer at http://127.0.0.1:{port}", "AWS_ENDPOINT_URL")


def test_a_server_that_never_answers_is_given_up(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "FIRST_READ_SECONDS", 0.2)
    monkeypatch.setattr(s3, "FIRST_BUDGET_SECONDS", 0.0)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(StoreUnreachable, match="no answer"):
            open_store("s3://bucket").get("key")


def test_the_embedded_server_refuses_strangers(
    s3_environment: seaweedfs.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(CredentialsRefused) as raised:
        open_store("s3://zoo").get("key")
    check_line(raised.value, "AWS_SECRET_ACCESS_KEY")


def test_the_embedded_server_has_no_other_bucket(s3_environment: seaweedfs.Server) -> None:
    with pytest.raises(BucketMissing, match="there is no bucket 'nowhere'"):
        open_store("s3://nowhere/prefix").get("key")


def test_an_untrusted_certificate_is_reported(tls_store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with pytest.raises(StoreUnreachable, match="AWS_CA_BUNDLE"):
        open_store(tls_store_url).get("key")


def test_the_command_ends_with_one_line_and_status_two(script: Script) -> None:
    script.rule = lambda request: (404, "NoSuchBucket", {})
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from zooforge.zoo_jobs.cli import main; sys.exit(main(sys.argv[1:]))",
         "store", "ls", "--store", "s3://bucket/x"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"zoo: s3://bucket/x: cannot connect: there is no bucket 'bucket';[^\n]*\n", done.stderr)


def test_no_secret_is_in_a_repr(s3_environment: seaweedfs.Server) -> None:
    store = S3Store("zoo", client_options={"aws_secret_access_key": SECRET})
    text = repr(store) + repr(s3_environment)
    assert SECRET not in text and s3_environment.environment()["AWS_SECRET_ACCESS_KEY"] not in text


def test_a_key_that_is_gone_is_a_failed_precondition(script: Script) -> None:
    script.answers = [(404, "NoSuchKey", {})]
    with pytest.raises(PreconditionFailed, match="key is gone"):
        S3Store("bucket").put("key", b"1", if_match='"1"')


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_without_conditional_writes_is_not_supported(script: Script, status: int, code: str) -> None:
    def rule(request: Any) -> Answer | None:
        conditional = "if-none-match" in request.headers or "if-match" in request.headers
        return (status, code, {}) if conditional else (404, "", {}) if request.command == "HEAD" else None

    script.rule = rule
    with pytest.raises(NotSupported, match=f"answers {status}"):
        S3Store("bucket").put("key", b"1", if_absent=True)
    S3Store("bucket", single_writer=True).put("key", b"1", if_absent=True)
    assert script.requests[-2:] == ["HEAD /bucket/key", "PUT /bucket/key"]


def test_a_lifecycle_that_cannot_be_asked_for_is_not_one_that_is_missing(script: Script) -> None:
    store = S3Store("bucket")
    assert list(store.list("")) == []
    script.rule = lambda request: (404, "NoSuchLifecycleConfiguration", {}) if "lifecycle" in request.path else None
    assert store.expires_versions() is False
    script.rule = lambda request: (501, "NotImplemented", {}) if "lifecycle" in request.path else None
    assert store.expires_versions() is None
    script.rule = lambda request: (500, "", {}) if "lifecycle" in request.path else None
    store.budget_seconds = 0.0
    with pytest.raises(StoreUnreachable):
        store.expires_versions()


def test_only_a_refusal_says_that_a_wrong_checksum_was_refused(script: Script) -> None:
    store = S3Store("bucket", budget_seconds=0.0)
    assert list(store.list("")) == []
    script.answers = [(400, "XAmzContentChecksumMismatch", {})]
    assert store.refuses_wrong_checksum("key")
    script.answers = [(503, "SlowDown", {})]
    with pytest.raises(StoreUnreachable):
        store.refuses_wrong_checksum("key")


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ACCESS_KEY_ID", "ACCESS\n"), ("AWS_REGION", " eu-lab-1 "), ("AWS_ENDPOINT_URL", "\n")]
)
def test_white_space_around_a_value_is_removed_with_a_warning(
    script: Script, name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import os

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ACCESS")
    monkeypatch.setenv(name, os.environ["AWS_ENDPOINT_URL"] + value if name == "AWS_ENDPOINT_URL" else value)
    S3Store("bucket").put("key", b"1")
    assert f"{name}: white space" in caplog.text and SECRET not in caplog.text
    assert os.environ[name] == os.environ[name].strip()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET} {SECRET}", "AWS_SECRET_ACCESS_KEY holds white space"),
        ("AWS_REGION", "eu lab", "'eu lab' is no region"),
        ("AWS_ENDPOINT_URL", "localhost:9000", "write http://localhost:9000 or https://localhost:9000"),
        ("AWS_ENDPOINT_URL", f"http://user:{SECRET}@host", "must not hold credentials"),
        ("AWS_ENDPOINT_URL_S3", f"http://{SECRET}@host", "AWS_ENDPOINT_URL_S3 must not hold credentials"),
        ("AWS_ENDPOINT_URL", "http://host:99999999", "not a valid address"),
    ],
)
def test_a_wrong_value_is_named_before_the_first_connection(
    script: Script, name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StorageError) as raised:
        open_store("s3://bucket").get("key")
    check_line(raised.value, words)
    assert raised.value.exit_status == 2 and script.requests == []


def test_https_to_an_http_server_is_not_reported_as_an_untrusted_certificate(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"].replace("http:", "https:"))
    with pytest.raises(StoreUnreachable, match="has to begin with http://"):
        open_store("s3://bucket").get("key")


def test_a_range_answered_with_everything_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Body:
        closed = False

        def read(self) -> bytes:
            pytest.fail("it was read")

        def close(self) -> None:
            Body.closed = True

    class Client:
        def get_object(self, **_: Any) -> dict[str, Any]:
            return {"Body": Body(), "ContentLength": 300 * 2**20, "ETag": '"1"'}

    store = S3Store("bucket")
    monkeypatch.setattr(store, "_connected", lambda: (Client(), 0))
    with pytest.raises(StoreRefused, match="ignores byte ranges"):
        store.get("key", (10, 20))
    assert Body.closed
