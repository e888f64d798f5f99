"""S3 and what speaks it, through boto3, which is imported on first use and nowhere else; reads go by s3_reads first.

Retries are ours: botocore's do not know 409, and a budget in seconds says more than a number of attempts. Checksums are
ours too: SHA-256 goes with every put as a header, so that no body is sent with a trailing checksum, which several
servers mishandle over TLS.
"""

import base64
import hashlib
import http.client
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

from ..errors import (
    AccessDenied,
    BucketMissing,
    ClockSkewed,
    CredentialsRefused,
    ObjectNotFound,
    PreconditionFailed,
    RegionMismatch,
    StorageError,
    StoreAccessError,
    StoreUnreachable,
    StoreURLError,
)
from ..keys import checked_key, parse_object_key
from .protocol import ByteRange, Data, Stat, Traffic
from .s3_reads import FastReads, Page, Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT_SECONDS = 4.0
FIRST_READ_SECONDS = 8.0  # of the first request, so that a dead endpoint is known within 15 s
READ_SECONDS = 60.0
FIRST_BUDGET_SECONDS = 8.0
BUDGET_SECONDS = 120.0
CLOCK_SECONDS = 5.0  # less is no skew but the way of the reply
MAX_CONNECTIONS = 32
LISTEN_SECONDS = 60.0

_RETRIED_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
_RETRIED_CODES = {"SlowDown", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "Throttling"}
_CREDENTIAL_CODES = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "401",
}
_REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}


class S3Store:
    """The protocol over one prefix of a bucket. Region, endpoint and credentials come the standard AWS way."""

    root = None

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        budget_seconds: float = BUDGET_SECONDS,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        """``client_options`` stand in for the environment where a program runs its own server."""
        self.bucket = bucket
        self._options = dict(client_options or {})
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.traffic = Traffic()
        self.budget_seconds = budget_seconds
        self.clock_ahead_seconds = 0.0  # the server's clock less this machine's, told by listings
        self._listen_again = 0.0  # when listings should ask for it
        self._lock = threading.Lock()
        self._client: Any = None
        self._fast: FastReads | None = None
        self._answered = False
        self._generation = 0

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(S3Store, budget_seconds=self.budget_seconds, client_options=self._options)
        return make, (self.bucket, self.prefix.rstrip("/"))

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        arguments = {"Bucket": self.bucket, "Key": self.prefix + checked_key(key)}
        if byte_range is not None:
            if byte_range[1] <= byte_range[0]:
                return b"", ""
            arguments["Range"] = f"bytes={byte_range[0]}-{byte_range[1] - 1}"
        fast = self._fast
        if fast is not None:
            try:
                data, etag = fast.get(arguments["Key"], byte_range)
            except Unavailable:
                pass
            else:
                fast.absolve()
                self.traffic.add(read=len(data))
                return data, etag

        def read(client: Any) -> tuple[bytes, str]:
            reply = client.get_object(**arguments)
            data: bytes = reply["Body"].read()
            if len(data) != reply["ContentLength"]:
                raise http.client.IncompleteRead(data)
            return data, reply["ETag"]

        try:
            data, etag = self._call(f"read {key}", read)
        except _BehindEnd:
            return b"", ""
        self.traffic.add(read=len(data))
        return data, etag

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        body = data if isinstance(data, bytes | bytearray) else bytes(data)
        arguments: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self.prefix + checked_key(key),
            "Body": body,
            "ChecksumSHA256": base64.b64encode(_digest(key, body)).decode(),
            "ContentType": _content_type(key),
        }
        if if_absent:
            arguments["IfNoneMatch"] = "*"
        if if_match is not None:
            arguments["IfMatch"] = if_match
        etag: str = self._call(f"write {key}", lambda client: client.put_object(**arguments)["ETag"])
        self.traffic.add(written=len(body))
        return etag

    def stat(self, key: str) -> Stat | None:
        full = self.prefix + checked_key(key)
        try:
            reply = self._call(f"stat {key}", lambda client: client.head_object(Bucket=self.bucket, Key=full))
        except ObjectNotFound:
            return None
        self.traffic.add()
        return Stat(key, int(reply["ContentLength"]), reply["ETag"], reply["LastModified"].timestamp())

    def list(self, prefix: str) -> Iterator[Stat]:
        full, last = self.prefix + prefix, ""
        if full.endswith("/"):  # the fast way knows whole segments only
            self._look_at_clock(full)
            try:
                for page in self._fast_pages(full):
                    self.traffic.add()
                    for key, size, etag, modified_seconds in page:
                        last = key
                        yield Stat(key[len(self.prefix) :], size, etag, modified_seconds)
                return
            except Unavailable:
                pass
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Prefix": full}
        if last:
            arguments["StartAfter"] = last
        while True:
            reply = self._call(f"list {prefix}", lambda client: client.list_objects_v2(**arguments))
            self.traffic.add()
            self._hear_clock(reply)
            for item in reply.get("Contents", ()):
                key = item["Key"][len(self.prefix) :]
                yield Stat(key, int(item["Size"]), item["ETag"], item["LastModified"].timestamp())
            if not reply.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = reply["NextContinuationToken"]

    def _fast_pages(self, folder: str) -> Iterator[Page]:
        if self._fast is None:
            raise Unavailable
        fast = self._fast
        yield from fast.list(folder)
        fast.absolve()

    def _look_at_clock(self, prefix: str) -> None:
        """Hear the server's clock where that is a while ago: the fast way of listing tells no dates of replies."""
        if time.monotonic() < self._listen_again:
            return
        arguments = {"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": 1}
        reply = self._call(f"list {prefix}", lambda client: client.list_objects_v2(**arguments))
        self.traffic.add()
        self._hear_clock(reply)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        full = self.prefix + checked_key(key)
        self._call(f"delete {key}", lambda client: client.delete_object(Bucket=self.bucket, Key=full))
        self.traffic.add()

    def refuses_wrong_checksum(self, key: str) -> bool:
        """Whether a put whose SHA-256 is not its content's is refused; leaves the object if it is not."""
        wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        arguments = {"Bucket": self.bucket, "Key": self.prefix + checked_key(key), "Body": b"this"}
        try:
            self._call("probe", lambda client: client.put_object(**arguments, ChecksumSHA256=wrong))
        except StoreAccessError:
            return True
        return False

    def keeps_versions(self) -> bool | None:
        """Whether the bucket's versioning is on; None where the server does not say."""
        try:
            found = self._call("look at versioning", lambda client: client.get_bucket_versioning(Bucket=self.bucket))
        except StorageError:
            return None
        return bool(found.get("Status") == "Enabled")

    def expires_versions(self) -> bool | None:
        """Whether a lifecycle rule of the bucket expires what was replaced; None where the server does not say."""
        try:
            found = self._call(
                "look at the lifecycle", lambda client: client.get_bucket_lifecycle_configuration(Bucket=self.bucket)
            )
        except AccessDenied:
            return None
        except StorageError:
            return False  # there is none
        rules = [rule for rule in found.get("Rules", ()) if rule.get("Status") == "Enabled"]
        return any("NoncurrentVersionExpiration" in rule for rule in rules)

    def abort_stale_uploads(self, older_than_seconds: float, now_seconds: float) -> int:
        """Abort multipart uploads under our prefix begun before then; their number. We never start one ourselves."""
        arguments = {"Bucket": self.bucket, "Prefix": self.prefix}
        found = self._call("list uploads", lambda client: client.list_multipart_uploads(**arguments)).get("Uploads", ())
        stale = [u for u in found if now_seconds - u["Initiated"].timestamp() > older_than_seconds]
        for upload in stale:
            one = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            self._call("abort an upload", partial(_abort, arguments=one))
        return len(stale)

    def _call(self, what: str, request: Callable[[Any], T]) -> T:
        """``request`` of a client, tried again until the budget is spent. Raises StorageError only."""
        start = time.monotonic()
        attempt = 0
        renewed = False
        while True:
            client, generation = self._connected()
            try:
                result = request(client)
                self._answered = True
                return result
            except Exception as error:  # every error of botocore, urllib3 and the socket, told apart below
                failure, again = self._failure(error, what)
                if self._fast is not None:
                    self._fast.absolve()
                if isinstance(failure, CredentialsRefused) and self._answered and not renewed:
                    # They worked before: keys may have been rotated, and files and profiles are read again.
                    renewed, again = True, True
                    self._drop(generation)
                budget = self.budget_seconds if self._answered else FIRST_BUDGET_SECONDS
                pause = random.uniform(0, min(5.0, 0.1 * 2**attempt))
                attempt += 1
                if not again or time.monotonic() - start + pause > budget:
                    raise failure from None  # the cause can quote a request, and so a key
                self.traffic.add(requests=1, retries=1)
                logger.debug("request tried again", extra={"what": what, "attempt": attempt})
                time.sleep(pause)

    def _hear_clock(self, reply: Mapping[str, Any]) -> None:
        said = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        self._listen_again = time.monotonic() + LISTEN_SECONDS
        if said is not None:
            ahead = parsedate_to_datetime(said).timestamp() + 0.5 - time.time()  # the header is cut to whole seconds
            self.clock_ahead_seconds = ahead if abs(ahead) > CLOCK_SECONDS else 0.0

    def _connected(self) -> tuple[Any, int]:
        with self._lock:
            if self._client is None:
                try:
                    session = _session()
                    # One small request tells a wrong bucket, key or region apart in words.
                    self._probe(_client(session, FIRST_READ_SECONDS, self._options))
                    self._client = _client(session, READ_SECONDS, self._options)
                    self._fast = FastReads(self.bucket, self._client, session, (CONNECT_SECONDS, READ_SECONDS))
                except StorageError:
                    raise
                except Exception as error:  # as in _call
                    raise self._failure(error, "connect")[0] from None
            return self._client, self._generation

    def _probe(self, client: Any) -> None:
        start = time.monotonic()
        attempt = 0
        while True:
            try:
                client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
                return
            except Exception as error:  # as in _call
                failure, again = self._failure(error, "connect")
                if isinstance(failure, AccessDenied):
                    return  # listing may be forbidden where reading is not
                pause = random.uniform(0.05, min(2.0, 0.2 * 2**attempt))
                attempt += 1
                budget = self.budget_seconds if self._answered else FIRST_BUDGET_SECONDS
                if not again or time.monotonic() - start + pause > budget:
                    raise failure from None
                time.sleep(pause)

    def _drop(self, generation: int) -> None:
        with self._lock:
            if generation == self._generation:
                self._client = self._fast = None
                self._generation += 1

    def _failure(self, error: Exception, what: str) -> tuple[StorageError, bool]:
        """Our error for one of botocore's, and whether trying again may help."""
        import botocore.exceptions as b

        where = f"{self.url}: cannot {what}"
        endpoint = f" at {self._endpoint}" if self._endpoint else ""
        if isinstance(error, StorageError):
            return error, False
        if isinstance(error, b.ClientError):
            return self._refusal(error, what, where)
        if isinstance(error, b.NoCredentialsError | b.PartialCredentialsError | b.CredentialRetrievalError):
            return CredentialsRefused(f"{where}: no credentials found; set {_HOW}"), False
        if isinstance(error, b.ProfileNotFound):
            return CredentialsRefused(f"{where}: the profile in AWS_PROFILE is not in the AWS config files"), False
        if isinstance(error, b.SSLError):
            hint = "set AWS_CA_BUNDLE to the authority's certificate"
            return StoreUnreachable(f"{where}: the endpoint's TLS certificate{endpoint} is not trusted; {hint}"), False
        if isinstance(error, b.ParamValidationError | b.InvalidRegionError | ValueError):
            return StoreURLError(f"{where}: bucket, region or endpoint is not a valid one; check the store URL"), False
        if isinstance(error, b.BotoCoreError | OSError | http.client.HTTPException) or _is_urllib3(error):
            reason = type(error).__name__
            hint = "check AWS_ENDPOINT_URL, the network and that the server runs (`zoo store up` starts one here)"
            return StoreUnreachable(f"{where}: no answer{endpoint} ({reason}); {hint}"), True
        return StorageError(f"{where}: {type(error).__name__}"), False

    def _refusal(self, error: Any, what: str, where: str) -> tuple[StorageError, bool]:
        code = str(error.response.get("Error", {}).get("Code", ""))
        metadata = error.response.get("ResponseMetadata", {})
        status = int(metadata.get("HTTPStatusCode", 0))
        if code == "NoSuchBucket":
            return BucketMissing(f"{where}: there is no bucket {self.bucket!r}; create it or correct the URL"), False
        if status == 404 and what == "connect":  # a listing of a bucket that is there is never missing
            at = f" at {self._endpoint}" if self._endpoint else ""
            return StoreURLError(
                f"{where}: what answers{at} is no S3 server (status 404); check AWS_ENDPOINT_URL"
            ), False
        if code in ("NoSuchKey", "404", "NotFound"):
            return ObjectNotFound(f"{self.url}: no object ({what})"), False
        if status == 412 or code == "PreconditionFailed":
            return PreconditionFailed(f"{self.url}: the object exists or has changed ({what})"), False
        if status == 416 or code == "InvalidRange":
            return _BehindEnd(f"{self.url}: the range begins behind the end ({what})"), False
        if code == "RequestTimeTooSkewed":
            hint = "set it by NTP"
            return ClockSkewed(f"{where}: this machine's clock is too far from the store's; {hint}"), self._answered
        if code in _CREDENTIAL_CODES or status == 401:
            return CredentialsRefused(f"{where}: the credentials were refused ({code}); check {_HOW}"), False
        if code in _REGION_CODES or status == 301:
            region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "another region")
            return RegionMismatch(f"{where}: the bucket is in {region}; set AWS_REGION to that"), False
        if status == 403:
            hint = "the policy of these credentials does not allow it"
            return AccessDenied(f"{where}: access denied ({code}); {hint}"), False
        again = status in _RETRIED_STATUS or code in _RETRIED_CODES
        return StoreUnreachable(f"{where}: the server answers {status or code} ({code})"), again

    @property
    def _endpoint(self) -> str:
        client = self._client
        if client is None:
            return _configured_endpoint()
        return str(client.meta.endpoint_url)


class _BehindEnd(StorageError):
    """A range that begins behind the end of an object."""


_HOW = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or a workload identity"


def _session() -> Any:
    import boto3

    return boto3.session.Session()  # a new one each time: it reads environment and files again


def _client(session: Any, read_seconds: float, options: Mapping[str, Any]) -> Any:
    from botocore.config import Config

    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": read_seconds,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "max_pool_connections": MAX_CONNECTIONS,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "user_agent_extra": "zooforge",
    }
    region = session.region_name or "us-east-1"
    if options.get("endpoint_url") or _configured_endpoint():
        settings["s3"] = {"addressing_style": "path"}  # own servers rarely have a name per bucket
    client = session.client("s3", region_name=region, config=Config(**settings), **options)
    if "s3" not in settings and ".amazonaws.com" not in str(client.meta.endpoint_url):  # from a profile
        settings["s3"] = {"addressing_style": "path"}
        client = session.client("s3", region_name=region, config=Config(**settings), **options)
    return client


def _digest(key: str, body: bytes | bytearray) -> bytes:
    """SHA-256 that goes with a put: an object's is its name, so that hashing it once is enough."""
    named = parse_object_key(key)
    return hashlib.sha256(body).digest() if named is None else bytes.fromhex(named[0])


def _abort(client: Any, arguments: dict[str, str]) -> None:
    client.abort_multipart_upload(**arguments)


def _configured_endpoint() -> str:
    import os

    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _is_urllib3(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "urllib3"


def _content_type(key: str) -> str:
    kinds = {"json": "application/json", "md": "text/markdown", "parquet": "application/vnd.apache.parquet"}
    return kinds.get(key.rpartition(".")[2], "application/octet-stream")
