"""Reads S3 through obstore alone, so that a reader works without boto3.

Boto3 is needed to write, to use profiles, and to read in processes that are forked after the first read:
``pip install 'zooforge[s3]'``.
"""

import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

from ...errors import (
    AccessDenied,
    BucketMissing,
    CredentialsRefused,
    ObjectNotFound,
    StorageError,
    StoreRefused,
    StoreUnreachable,
)
from ...keys import checked_key
from ..environment import check_environment, configured_endpoint
from ..protocol import ByteRange, Data, Stat, Traffic
from ..retries import RetryPolicy

BUDGET_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 4.0
INSTALL = "pip install 'zooforge[s3]'"
_RETRIED_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
         "AWS_CONTAINER_CREDENTIALS_FULL_URI")  # fmt: skip
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


class S3Reader:
    """Read-only protocol over one prefix of a bucket. It signs requests if the environment holds credentials."""

    root = None
    clock_ahead_seconds = 0.0

    def __init__(self, bucket: str, prefix: str = "", *, budget_seconds: float = BUDGET_SECONDS) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.traffic = Traffic()
        self._policy = RetryPolicy(budget_seconds)
        self._lock = threading.Lock()
        self._store: Any = None
        self._pid = 0

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(S3Reader, budget_seconds=self._policy.budget_seconds)
        return make, (self.bucket, self.prefix.rstrip("/"))

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        path = self.prefix + checked_key(key)
        if byte_range is not None and byte_range[1] <= byte_range[0]:
            return b"", ""

        def read(obstore: Any, store: Any) -> tuple[bytes, str]:
            reply = obstore.get(store, path, options={} if byte_range is None else {"range": byte_range})
            return reply.bytes().to_bytes(), str(reply.meta["e_tag"])

        try:
            data, etag = self._call(f"read {key}", read)
        except _RangeAfterEnd:
            return b"", ""
        self.traffic.add(read=len(data))
        return data, etag

    def stat(self, key: str) -> Stat | None:
        path = self.prefix + checked_key(key)
        try:
            meta = self._call(f"stat {key}", lambda obstore, store: obstore.head(store, path))
        except ObjectNotFound:
            return None
        self.traffic.add()
        return Stat(key, int(meta["size"]), str(meta["e_tag"]), meta["last_modified"].timestamp())

    def list(self, prefix: str) -> Iterator[Stat]:
        folder = (self.prefix + prefix).rpartition("/")[0]  # obstore lists only whole segments of paths

        def read(obstore: Any, store: Any) -> list[Any]:
            return [meta for page in obstore.list(store, folder or None) for meta in page]

        for meta in self._call(f"list {prefix}", read):
            key = meta["path"][len(self.prefix) :]
            if key.startswith(prefix):
                yield Stat(key, int(meta["size"]), str(meta["e_tag"]), meta["last_modified"].timestamp())
        self.traffic.add()

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self._refuse("write")

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._refuse("delete")

    def _refuse(self, verb: str) -> NoReturn:
        raise StoreRefused(f"{self.url}: to {verb} objects of S3, boto3 is needed: {INSTALL}")

    def _call(self, what: str, request: Any) -> Any:
        """Run ``request``, which takes obstore and its store, and return its result. Raises only StorageError."""

        def attempt() -> Any:
            import obstore

            store = self._connected()
            try:
                return request(obstore, store)
            except (obstore.exceptions.BaseError, ValueError, KeyError, OSError) as error:
                raise self._failure(error, what) from None  # the cause may quote a request, and with it an access key

        return self._policy.call(attempt, on_retry=lambda error: self.traffic.add(retries=1))

    def _connected(self) -> Any:
        with self._lock:
            if self._store is None:
                check_environment()
                if os.environ.get("AWS_PROFILE"):
                    raise CredentialsRefused(f"{self.url}: to read AWS_PROFILE, boto3 is needed: {INSTALL}")
                self._store, self._pid = self._open(), os.getpid()
            if self._pid != os.getpid():  # obstore's threads do not survive a fork
                raise StoreRefused(
                    f"{self.url}: not readable in a process that was forked after the first read; start processes with "
                    f"the method `spawn`, or install boto3: {INSTALL}"
                )
            return self._store

    def _open(self) -> Any:
        from obstore.store import S3Store

        endpoint = configured_endpoint()
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        options: Any = {"endpoint": endpoint} if endpoint else {}
        return S3Store(
            self.bucket,
            region=region,
            virtual_hosted_style_request=not endpoint,
            skip_signature=not any(os.environ.get(name) for name in _KEYS),
            **options,
            client_options={
                "allow_http": endpoint.startswith("http:"),
                "connect_timeout": f"{CONNECT_SECONDS:g}s",
                "timeout": f"{TIMEOUT_SECONDS:g}s",
            },
            retry_config={"max_retries": 0},
        )

    def _failure(self, error: Exception, what: str) -> StorageError:
        """Our error for an error of obstore. It is transient if trying again may help."""
        where = f"{self.url}: cannot {what}"
        match, code_match = _STATUS.search(str(error)), _CODE.search(str(error))
        status, code = int(match[1]) if match else 0, code_match[1] if code_match else ""
        if code == "NoSuchBucket":
            return BucketMissing(f"{where}: there is no bucket {self.bucket!r}; correct the URL")
        if status == 416 or "InvalidRange" in str(error):
            return _RangeAfterEnd(f"{self.url}: the range begins after the end ({what})")
        if isinstance(error, FileNotFoundError) or status == 404:
            return ObjectNotFound(f"{self.url}: no object ({what})")
        if status == 401 or code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
            hint = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return CredentialsRefused(f"{where}: the credentials were refused ({code or status}); {hint}")
        if status == 403:
            return AccessDenied(f"{where}: access denied ({code or status}); is the bucket public, or are keys needed?")
        if status:
            failure = StoreUnreachable(f"{where}: the server answers {status} ({code}); check AWS_REGION and the URL")
            failure.transient = status in _RETRIED_STATUS
            return failure
        endpoint = f" at {configured_endpoint()}" if configured_endpoint() else ""
        failure = StoreUnreachable(f"{where}: no answer{endpoint}; check AWS_ENDPOINT_URL and the network")
        failure.transient = True
        return failure


class _RangeAfterEnd(StorageError):
    """The range begins after the end of the object."""
