"""S3 through boto3: the store for writing and reading. Reads try obstore first (``reads``).

This module retries requests itself, because botocore does not retry status 409, and because a budget in seconds says
more than a number of attempts. It also sends SHA-256 as a header with every put, so that no body is sent with a
trailing checksum, which several servers handle wrongly over TLS.
"""

import base64
import hashlib
import http.client
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

from ...errors import (
    AccessDenied,
    CredentialsRefused,
    NotSupported,
    ObjectNotFound,
    PreconditionFailed,
    StorageError,
    StoreRefused,
)
from ...keys import checked_key, parse_object_key
from ..environment import check_environment, configured_endpoint
from ..protocol import ByteRange, Data, Stat, Traffic
from ..retries import RetryPolicy
from .client import CONNECT_SECONDS, FIRST_READ_SECONDS, READ_SECONDS, new_client, new_session
from .errors import Place, RangeAfterEnd, failure
from .reads import FastReads, Page, Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_BUDGET_SECONDS = 8.0
BUDGET_SECONDS = 120.0
CLOCK_SECONDS = 5.0  # smaller differences are network latency, not clock skew
REFRESH_CLOCK_SECONDS = 60.0


class S3Store:
    """The protocol over one prefix of a bucket. Finds region, endpoint and credentials in the standard way of AWS."""

    root = None

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        budget_seconds: float = BUDGET_SECONDS,
        client_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
    ) -> None:
        """Nothing is sent until the first request.

        Args:
            budget_seconds: how long a request may be retried.
            client_options: options of the boto3 client instead of the environment, for a program that runs its own
                server.
            single_writer: the caller guarantees that nothing else writes, so the server need not have conditional
                writes.
        """
        self.bucket = bucket
        self._options = dict(client_options or {})
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.traffic = Traffic()
        self.budget_seconds = budget_seconds
        self.single_writer = single_writer
        self.clock_ahead_seconds = 0.0  # measured from the dates of replies to listings
        self._clock_due = 0.0  # monotonic time from which a listing asks for the clock again
        self._lock = threading.Lock()
        self._client: Any = None
        self._fast: FastReads | None = None
        self._answered = False
        self._generation = 0

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(
            S3Store,
            budget_seconds=self.budget_seconds,
            client_options=self._options,
            single_writer=self.single_writer,
        )
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
                fast.reset_failures()
                self.traffic.add(read=len(data))
                return data, etag

        def read(client: Any) -> tuple[bytes, str]:
            reply = client.get_object(**arguments)
            if byte_range is not None and reply["ContentLength"] > byte_range[1] - byte_range[0]:
                reply["Body"].close()
                raise StoreRefused(f"{self.url}: the server ignores byte ranges; use another server")
            data: bytes = reply["Body"].read()
            if len(data) != reply["ContentLength"]:
                raise http.client.IncompleteRead(data)
            return data, reply["ETag"]

        try:
            data, etag = self._call(f"read {key}", read)
        except RangeAfterEnd:
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
        try:
            etag: str = self._call(f"write {key}", lambda client: client.put_object(**arguments)["ETag"])
        except ObjectNotFound:
            if if_match is None:
                raise
            raise PreconditionFailed(f"{self.url}: {key} is gone") from None
        except StoreRefused as error:
            if not (if_absent or if_match is not None):
                raise
            if self.single_writer:
                return self._put_checked(key, data, if_absent, if_match)
            raise NotSupported(f"{error}: no conditional writes") from None
        self.traffic.add(written=len(body))
        return etag

    def _put_checked(self, key: str, data: Data, if_absent: bool, if_match: str | None) -> str:
        """A conditional put in two steps, which is not atomic: for a single writer whose server has no such puts."""
        stat = self.stat(key)
        if (if_absent and stat is not None) or (if_match is not None and (stat is None or stat.etag != if_match)):
            raise PreconditionFailed(f"{self.url}: {key} exists, has changed or is gone")
        return self.put(key, data)

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
        if full.endswith("/"):  # obstore lists only whole segments of paths
            self._refresh_clock(full)
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
            self._update_clock(reply)
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
        fast.reset_failures()

    def _refresh_clock(self, prefix: str) -> None:
        """Ask for the server's time if the last answer is old, because obstore does not show the dates of replies."""
        if time.monotonic() < self._clock_due:
            return
        arguments = {"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": 1}
        reply = self._call(f"list {prefix}", lambda client: client.list_objects_v2(**arguments))
        self.traffic.add()
        self._update_clock(reply)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        full = self.prefix + checked_key(key)
        self._call(f"delete {key}", lambda client: client.delete_object(Bucket=self.bucket, Key=full))
        self.traffic.add()

    def refuses_wrong_checksum(self, key: str) -> bool:
        """True if the server refuses a put whose SHA-256 header is wrong. If it accepts the put, the object stays."""
        wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        arguments = {"Bucket": self.bucket, "Key": self.prefix + checked_key(key), "Body": b"this"}
        try:
            self._call("probe", lambda client: client.put_object(**arguments, ChecksumSHA256=wrong))
        except StoreRefused:
            return True
        return False

    def keeps_versions(self) -> bool | None:
        """True if the bucket's versioning is on; None if the server does not say."""
        try:
            reply = self._call("read the versioning", lambda client: client.get_bucket_versioning(Bucket=self.bucket))
        except (AccessDenied, StoreRefused):
            return None
        return bool(reply.get("Status") == "Enabled")

    def expires_versions(self) -> bool | None:
        """True if a lifecycle rule of the bucket deletes replaced versions; None if the server does not say."""
        try:
            reply = self._call(
                "read the lifecycle", lambda client: client.get_bucket_lifecycle_configuration(Bucket=self.bucket)
            )
        except (AccessDenied, StoreRefused):
            return None
        except ObjectNotFound:  # the bucket has no lifecycle
            return False
        rules = [rule for rule in reply.get("Rules", ()) if rule.get("Status") == "Enabled"]
        return any("NoncurrentVersionExpiration" in rule for rule in rules)

    def abort_stale_uploads(self, older_than_seconds: float, now_seconds: float) -> int:
        """Abort multipart uploads under our prefix that are older, and return their number. This class starts none."""
        arguments = {"Bucket": self.bucket, "Prefix": self.prefix}
        reply = self._call("list uploads", lambda client: client.list_multipart_uploads(**arguments))
        stale = [u for u in reply.get("Uploads", ()) if now_seconds - u["Initiated"].timestamp() > older_than_seconds]
        for upload in stale:
            one = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            self._call("abort an upload", partial(_abort, arguments=one))
        return len(stale)

    def _call(self, what: str, request: Callable[[Any], T]) -> T:
        """Result of ``request``, which takes a client. Retries until the budget is spent. Raises only StorageError."""
        renewed = False

        def attempt() -> T:
            nonlocal renewed
            client, generation = self._connected()
            try:
                result = request(client)
            except Exception as error:  # every error of botocore, urllib3 and the socket
                failure = self._failure(error, what)
                if self._fast is not None:
                    self._fast.reset_failures()
                if isinstance(failure, CredentialsRefused) and self._answered and not renewed:
                    # The credentials worked before, so keys may have been rotated. Files and profiles are read again.
                    renewed = failure.transient = True
                    self._drop(generation)
                raise failure from None  # the cause may quote a request, and with it an access key
            self._answered = True
            return result

        def on_retry(error: StorageError) -> None:
            self.traffic.add(requests=1, retries=1)
            logger.debug("request tried again", extra={"what": what})

        return self._policy().call(attempt, on_retry=on_retry)

    def _policy(self) -> RetryPolicy:
        """The policy of retries. A server that has never answered gets little time."""
        return RetryPolicy(self.budget_seconds if self._answered else FIRST_BUDGET_SECONDS, first_pause_seconds=0.1)

    def _update_clock(self, reply: Mapping[str, Any]) -> None:
        date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        self._clock_due = time.monotonic() + REFRESH_CLOCK_SECONDS
        if date is not None:
            ahead = parsedate_to_datetime(date).timestamp() + 0.5 - time.time()  # the header is cut to whole seconds
            self.clock_ahead_seconds = ahead if abs(ahead) > CLOCK_SECONDS else 0.0

    def _connected(self) -> tuple[Any, int]:
        with self._lock:
            if self._client is None:
                try:
                    check_environment()
                    session = new_session()
                    # One small request, whose error shows whether the bucket, a key or the region is wrong.
                    self._probe(new_client(session, FIRST_READ_SECONDS, self._options))
                    self._client = new_client(session, READ_SECONDS, self._options)
                    self._fast = FastReads(self.bucket, self._client, session, (CONNECT_SECONDS, READ_SECONDS))
                except StorageError as error:
                    error.transient = False  # the probe has retried it
                    raise
                except Exception as error:  # as in _call
                    raise self._failure(error, "connect") from None
            return self._client, self._generation

    def _probe(self, client: Any) -> None:
        def attempt() -> None:
            try:
                client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            except Exception as error:  # as in _call
                failure = self._failure(error, "connect")
                if not isinstance(failure, AccessDenied):  # listing may be forbidden where reading is not
                    raise failure from None

        self._policy().call(attempt)

    def _drop(self, generation: int) -> None:
        with self._lock:
            if generation == self._generation:
                self._client = self._fast = None
                self._generation += 1

    def _failure(self, error: Exception, what: str) -> StorageError:
        return failure(error, what, Place(self.url, self.bucket, self._endpoint, self._answered))

    @property
    def _endpoint(self) -> str:
        client = self._client
        if client is None:
            return configured_endpoint()
        return str(client.meta.endpoint_url)


def _digest(key: str, body: bytes | bytearray) -> bytes:
    """SHA-256 of ``body``. The key of a content-addressed object contains it, so the body is not hashed again."""
    parsed = parse_object_key(key)
    return hashlib.sha256(body).digest() if parsed is None else bytes.fromhex(parsed[0])


def _abort(client: Any, arguments: dict[str, str]) -> None:
    client.abort_multipart_upload(**arguments)


def _content_type(key: str) -> str:
    kinds = {"json": "application/json", "md": "text/markdown", "parquet": "application/vnd.apache.parquet"}
    return kinds.get(key.rpartition(".")[2], "application/octet-stream")
