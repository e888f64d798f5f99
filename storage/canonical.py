"""Canonical JSON: equal values give equal bytes. Pure."""

import hashlib
import json
from typing import Any

from .errors import FormatError

MAX_JSON_BYTES = 256 * 1024 * 1024


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, numbers as Python's ``repr`` writes them.

    Args:
        value: dicts with string keys, lists, tuples, strings, booleans, None, integers and finite floats.

    Raises:
        ValueError: a float that is not finite. TypeError: any other type, numpy's scalars included.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def parse_json(data: bytes, what: str) -> Any:
    """Value of JSON bytes.

    Raises:
        FormatError: not UTF-8 JSON, an object that names a key twice, or NaN; the message begins with ``what``.
    """
    if len(data) > MAX_JSON_BYTES:
        raise FormatError(f"{what}: {len(data)} bytes of JSON, the limit is {MAX_JSON_BYTES}")
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: not readable JSON ({error}); the object is truncated or damaged") from None


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 over the canonical JSON of ``value``, hex."""
    return sha256_hex(canonical_json(value))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is there twice")
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
