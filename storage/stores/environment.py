"""Addresses and credentials that come from outside, checked before the first connection. Secrets are never shown."""

import logging
import os
import re
from urllib.parse import urlsplit

from ..errors import CredentialsRefused, StoreURLError

logger = logging.getLogger(__name__)

_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGION = re.compile(r"[A-Za-z0-9-]+")


def check_environment() -> None:
    """Strip white space around the AWS variables, as Kubernetes Secrets made from files have it, and check the rest.

    The environment itself is changed, so that every client library and child process sees the same values.

    Raises:
        CredentialsRefused: white space or a control character within a key. StoreURLError: a malformed region or
            endpoint.
    """
    for name in (*_CREDENTIALS, *_REGIONS, *_ENDPOINTS):
        variable(name)
    for name in _CREDENTIALS:
        value = os.environ.get(name, "")
        if any(character.isspace() or not character.isprintable() for character in value) and name != "AWS_PROFILE":
            raise CredentialsRefused(f"{name} holds white space or a control character; set it again")
    for name in _REGIONS:
        region = os.environ.get(name, "")
        if region and _REGION.fullmatch(region) is None:
            raise StoreURLError(f"{name}: {region[:60]!r} is no region; expected letters, digits and dashes")
    for name in _ENDPOINTS:
        endpoint = os.environ.get(name, "")
        if endpoint:
            check_endpoint(endpoint, name)


def variable(name: str) -> str:
    """Value of an environment variable without white space around it, which is removed there too; "" if it is unset."""
    value = os.environ.get(name, "")
    stripped = value.strip()
    if stripped != value:
        logger.warning("%s: white space around its value is left out", name)
        os.environ[name] = stripped
    return stripped


def configured_endpoint() -> str:
    """Endpoint of S3 that the environment names; "" if it names none."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def check_endpoint(address: str, what: str) -> None:
    """Raises StoreURLError, which begins with ``what``, unless ``address`` is http(s)://HOST[:PORT][/PATH]."""
    check_no_credentials(address, what)
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise StoreURLError(f"{what}: not a valid address; expected http://HOST:PORT or https://HOST") from None
    if parts.scheme not in ("http", "https") or not host:
        hint = (
            f"write http://{address} or https://{address}" if "://" not in address else "expected http:// or https://"
        )
        raise StoreURLError(f"{what}: {address[:200]!r} has no scheme that S3 speaks; {hint}")
    if parts.query or parts.fragment or any(character.isspace() for character in address):
        raise StoreURLError(f"{what}: expected http(s)://HOST:PORT without query, fragment or white space")


def check_no_credentials(address: str, what: str) -> None:
    """Raises StoreURLError if ``address`` holds USER:PASSWORD@, which the message does not repeat."""
    authority = re.split(r"[/?#\\]", address.partition("://")[2] or address, maxsplit=1)[0]
    if "@" in authority and "://" in address:
        raise StoreURLError(f"{what} must not hold credentials (USER:PASSWORD@); give them by the environment")
