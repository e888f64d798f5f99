"""Turns errors of botocore and answers of S3 servers into our errors, each with one line that says what to do."""

import http.client
from dataclasses import dataclass
from typing import Any

from ...errors import (
    AccessDenied,
    BucketMissing,
    ClockSkewed,
    CredentialsRefused,
    ObjectNotFound,
    PreconditionFailed,
    RegionMismatch,
    StorageError,
    StoreRefused,
    StoreUnreachable,
    StoreURLError,
)

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
_HOW = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or a workload identity"


@dataclass(frozen=True, slots=True)
class Place:
    """The target of a request. ``answered`` is true if the server has accepted a request before."""

    url: str
    bucket: str
    endpoint: str
    answered: bool


class RangeAfterEnd(StorageError):
    """The range begins after the end of the object."""


def failure(error: Exception, what: str, place: Place) -> StorageError:
    """Our error for an error of botocore or of the code that it calls. It is transient if trying again may help."""
    import botocore.exceptions as b

    where = f"{place.url}: cannot {what}"
    endpoint = f" at {place.endpoint}" if place.endpoint else ""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, b.ClientError):
        return _refusal(error, what, where, place)
    if isinstance(error, b.NoCredentialsError | b.PartialCredentialsError | b.CredentialRetrievalError):
        return CredentialsRefused(f"{where}: no credentials found; set {_HOW}")
    if isinstance(error, b.ProfileNotFound):
        return CredentialsRefused(f"{where}: the profile in AWS_PROFILE is not in the AWS config files")
    if isinstance(error, b.SSLError):
        if "CERTIFICATE" in str(error).upper():
            hint = "set AWS_CA_BUNDLE to the authority's certificate"
            return StoreUnreachable(f"{where}: the endpoint's TLS certificate{endpoint} is not trusted; {hint}")
        hint = "if it speaks plain HTTP, AWS_ENDPOINT_URL has to begin with http://"
        return StoreUnreachable(f"{where}: the endpoint{endpoint} does not speak TLS as this client does; {hint}")
    if isinstance(error, b.ParamValidationError | b.InvalidRegionError | ValueError):
        return StoreURLError(f"{where}: bucket, region or endpoint is not a valid one; check the store URL")
    if isinstance(error, b.BotoCoreError | OSError | http.client.HTTPException) or _is_urllib3(error):
        reason = type(error).__name__
        hint = "check AWS_ENDPOINT_URL, the network and that the server runs (`zoo store up` starts one here)"
        return _transient(StoreUnreachable(f"{where}: no answer{endpoint} ({reason}); {hint}"))
    return StorageError(f"{where}: {type(error).__name__}")


def _refusal(error: Any, what: str, where: str, place: Place) -> StorageError:
    """Our error for an error in the reply of the server."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return BucketMissing(f"{where}: there is no bucket {place.bucket!r}; create it or correct the URL")
    if status == 404 and what == "connect":  # listing a bucket that exists never answers 404
        at = f" at {place.endpoint}" if place.endpoint else ""
        return StoreURLError(f"{where}: what answers{at} is no S3 server (status 404); check AWS_ENDPOINT_URL")
    if status == 412 or code == "PreconditionFailed":
        return PreconditionFailed(f"{place.url}: the object exists or has changed ({what})")
    if status == 416 or code == "InvalidRange":
        return RangeAfterEnd(f"{place.url}: the range begins after the end ({what})")
    if code == "RequestTimeTooSkewed":
        skewed = ClockSkewed(f"{where}: this machine's clock is too far from the store's; set it by NTP")
        return _transient(skewed) if place.answered else skewed
    if code in _CREDENTIAL_CODES or status == 401:
        return CredentialsRefused(f"{where}: the credentials were refused ({code}); check {_HOW}")
    if code in _REGION_CODES or status == 301:
        region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "another region")
        return RegionMismatch(f"{where}: the bucket is in {region}; set AWS_REGION to that")
    if status == 403:
        hint = "the policy of these credentials does not allow it"
        return AccessDenied(f"{where}: access denied ({code}); {hint}")
    answer = f"{where}: the server answers {status or code} ({code})"
    if status in _RETRIED_STATUS or code in _RETRIED_CODES:
        return _transient(StoreUnreachable(answer))
    if status == 404:
        return ObjectNotFound(f"{place.url}: no object ({what})")
    if status in (400, 405, 501):
        return StoreRefused(answer)
    return StoreUnreachable(answer)


def _transient(error: StorageError) -> StorageError:
    error.transient = True
    return error


def _is_urllib3(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "urllib3"
